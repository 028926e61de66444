"""Event files, as TensorBoard reads them, written without it.

The messages are those of `event.proto`, `summary.proto` and `tensor.proto` of TensorFlow; the
comments give the names of the fields.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrenar_core.io import files
from entrenar_core.train.callbacks import Callback, Notice, Run
from entrenar_core.train.exporters.figures import figures
from entrenar_core.train.exporters.protobuf import delimited, double, float32, integer
from entrenar_core.train.exporters.tfrecord import framed

__all__ = ["TensorBoard"]

_VERSION = "brain.Event:2"
_START = 1  # SessionLog.START
_STRING = 7  # DT_STRING
_TENSOR_CLASS = 2  # DATA_CLASS_TENSOR


class TensorBoard(Callback):
    """Writes the figures of every step to `folder`, which `tensorboard --logdir folder` shows.

    Each phase of a run is a run of TensorBoard, in a folder of its name, so that a student and its
    control are drawn into the same charts: `loss`, `held_out_loss` and every other number of the
    log, in single precision. Settings and notices are texts. A training that goes on begins a new
    file, which says from which step on those before it are not valid any more.

    Raises StorageError, before the first step, when the folder cannot be written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._file = self.folder

    def started(self, run: Run) -> None:
        folder = self.folder / run.phase
        files.make_folder(folder)
        self._file = folder / _name(folder)
        self._write(0, delimited(3, _VERSION))  # file_version
        session = delimited(7, integer(1, _START))  # session_log.status
        self._write(run.first_step + 1, session)
        settings = json.dumps(dict(run.settings), indent=2, ensure_ascii=False)
        self._text(run.first_step, "settings", _as_code(settings))

    def step(self, record: Mapping[str, Any]) -> None:
        values = [
            delimited(1, delimited(1, tag) + float32(2, value))  # value: tag, simple_value
            for tag, value in figures(record).items()
        ]
        self._write(record["step"], delimited(5, b"".join(values)))  # summary

    def noticed(self, notice: Notice) -> None:
        self._text(notice.step, f"notices/{notice.kind}", f"{notice.severity}: {notice.message}")

    def saved(self, path: Path, step: int) -> None:  # noqa: ARG002
        """Put the figures on the disk: those up to a checkpoint are not made again."""
        files.sync(self._file)

    def _text(self, step: int, tag: str, text: str) -> None:
        """A text that TensorBoard shows as Markdown."""
        plugin = delimited(1, delimited(1, "text"))  # plugin_data.plugin_name
        metadata = plugin + integer(4, _TENSOR_CLASS)  # data_class
        # dtype, tensor_shape of no dimensions, string_val
        tensor = integer(1, _STRING) + delimited(2, b"") + delimited(8, text)
        value = delimited(1, tag) + delimited(9, metadata) + delimited(8, tensor)
        self._write(step, delimited(5, delimited(1, value)))

    def _write(self, step: int, what: bytes) -> None:
        event = double(1, time.time()) + integer(2, step) + what  # wall_time, step
        files.append(self._file, framed(event))


def _name(folder: Path) -> str:
    """A name that comes after those that are there: files are read in the order of their names."""
    taken = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*.*")]
    last = max((int(second) for second in taken if second.isdecimal()), default=0)
    second = max(int(time.time()), last + 1)
    return f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0"


def _as_code(text: str) -> str:
    """Lines that Markdown shows as they are."""
    return "\n".join(f"    {line}" for line in text.splitlines())
