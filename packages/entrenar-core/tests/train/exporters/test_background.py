"""The queue behind exporters: order, bounds, losses and what a fork leaves."""

import os
import threading
import time

import pytest

from entrenar_core.train.exporters.background import BackgroundQueue


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def queue_to(deliver, **settings):
    warnings = []
    queue = BackgroundQueue(deliver, name="collector", warn=warnings.append, **settings)
    return queue, warnings


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_everything_arrives_in_order_and_in_batches():
    batches = []
    queue, warnings = queue_to(batches.append, batch=4, interval=60)
    for n in range(10):
        queue.put(n)
    assert queue.close() == 0
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [n for batch in batches for n in batch] == list(range(10))
    assert warnings == []


def test_a_single_item_is_delivered_after_the_interval():
    found = []
    queue, _ = queue_to(found.extend, interval=0.01)
    queue.put("one")
    wait_for(lambda: found == ["one"])
    assert queue.close() == 0


def test_put_does_not_wait_and_counts_what_has_no_room():
    hold, busy = threading.Event(), threading.Event()

    def deliver(_items):
        busy.set()
        hold.wait()

    queue, warnings = queue_to(deliver, capacity=3, batch=1)
    queue.put(0)
    assert busy.wait(10)
    for n in range(5):  # 3 find room behind the one that is held up
        queue.put(n)
    assert queue.dropped == 2
    assert warnings == ["collector: 1 records were lost so far (3 wait already)"]
    hold.set()
    assert queue.close() == 2


def test_close_gives_up_after_its_time_and_says_how_many_were_left():
    hold = threading.Event()
    queue, warnings = queue_to(lambda _items: hold.wait(), batch=2, interval=0.0)
    for n in range(5):
        queue.put(n)
    started = time.monotonic()
    assert queue.close(timeout=0.05) == 5
    assert time.monotonic() - started < 2
    assert "more than 0.05 s at the end" in warnings[0]
    hold.set()


def test_an_error_loses_its_batch_alone_and_the_rest_goes_on():
    found = []

    def deliver(items):
        if 1 in items:
            raise ConnectionError("refused")
        found.extend(items)

    queue, warnings = queue_to(deliver, batch=1)
    for n in range(4):
        queue.put(n)
    assert queue.close() == 1
    assert found == [0, 2, 3]
    assert warnings == ["collector: 1 records were lost so far (ConnectionError: refused)"]


def test_there_is_one_warning_in_ten_minutes():
    clock = Clock()

    def deliver(items):
        raise OSError("down")

    queue, warnings = queue_to(deliver, batch=1, clock=clock)
    for at, warned in ((0, 1), (300, 1), (599, 1), (600, 2)):
        clock.now = at
        lost = queue.dropped
        queue.put("x")
        wait_for(lambda lost=lost: queue.dropped == lost + 1)
        queue._tell()
        assert len(warnings) == warned
    assert queue.close() == 4


def test_what_is_put_after_the_end_is_lost_and_counted():
    found = []
    queue, _ = queue_to(found.extend)
    queue.put(1)
    queue.close()
    queue.put(2)
    assert (found, queue.dropped) == ([1], 1)


def test_a_wait_between_attempts_ends_when_the_queue_is_closed():
    queue, _ = queue_to(lambda _items: queue.closing.wait(60), interval=0.0)
    queue.put(1)
    assert queue.close(timeout=10) == 0


def test_an_unused_queue_closes_without_a_thread():
    before = threading.active_count()
    queue, _ = queue_to(lambda _items: None)
    assert (queue.close(), threading.active_count()) == (0, before)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_delivers_its_own_items_and_none_of_the_parents():
    hold, found = threading.Event(), []

    def deliver(items):
        hold.wait()
        found.extend(items)

    queue, _ = queue_to(deliver, batch=1)
    queue.put("parent")
    queue._changed.acquire()  # as if the fork came in the middle of a put
    child = os.fork()
    if child == 0:
        hold = threading.Event()  # the old one's lock may be the parent's
        hold.set()
        queue.put("child")
        os._exit(0 if (queue.close(10), found) == (0, ["child"]) else 1)
    queue._changed.release()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    hold.set()
    assert (queue.close(10), found) == (0, ["parent"])
