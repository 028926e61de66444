"""How busy workers are, by a clock that stands still unless the test moves it."""

import threading
from types import SimpleNamespace

import pytest

from entrenar_core.io import worker
from entrenar_core.io.worker import WINDOW, Worker, busy_workers


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0, waited=0.0)
    clocks = {"monotonic": lambda: now.seconds, "thread_time": lambda: now.seconds - now.waited}
    monkeypatch.setattr(worker, "time", SimpleNamespace(**clocks))
    return now


def test_results_and_errors_come_back():
    with Worker("one") as one:
        assert one.submit(divmod, 7, 2).result() == (3, 1)
        with pytest.raises(ZeroDivisionError):
            one.submit(divmod, 7, 0).result()


def test_a_worker_is_busy_as_long_as_it_works_for_half_of_the_time(clock):
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait()

    with Worker("one") as one:
        assert busy_workers() == 0
        done = one.submit(work)
        begun.wait()
        clock.seconds += WINDOW / 2
        assert busy_workers() == 0  # it was not watched for long enough
        clock.seconds += WINDOW / 2
        assert busy_workers() == 1
        go_on.set()
        done.result()
        clock.seconds += WINDOW
        assert busy_workers() == 0


@pytest.mark.parametrize("share, busy", [(0.4, 0), (0.6, 1)])
def test_what_was_done_and_is_over_counts(clock, share, busy):
    def work():
        clock.seconds += share * WINDOW

    with Worker("one") as one:
        one.submit(work).result()
        clock.seconds = WINDOW
        assert busy_workers() == busy


def test_to_have_waited_for_a_disk_is_no_work(clock):
    def write():
        clock.seconds += WINDOW
        clock.waited += 0.6 * WINDOW

    with Worker("one") as one:
        one.submit(write).result()
        assert busy_workers() == 0


def test_a_failure_ends_the_work_too(clock):
    def fail():
        clock.seconds += WINDOW
        raise ValueError

    with Worker("one") as one:
        with pytest.raises(ValueError):
            one.submit(fail).result()
        assert busy_workers() == 1
        clock.seconds += WINDOW
        assert busy_workers() == 0
