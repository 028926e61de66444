"""Waiting for what an exporter sends."""

import time

from entrenar_core.train.callbacks import Callback


class Delivered(Callback):
    """Waits, at the end of a training that is shorter than any real one, for what was sent."""

    def __init__(self, exporter):
        self.exporter = exporter

    def ended(self, outcome):
        until, queue = time.monotonic() + 60, self.exporter._queue
        while (queue._waiting or queue._in_flight) and time.monotonic() < until:
            time.sleep(0.01)
