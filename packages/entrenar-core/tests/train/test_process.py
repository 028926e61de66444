"""Signals while training: asked once to stop, asked twice to stop now."""

import os
import signal
import threading

import pytest

from entrenar_common.errors import InterruptedRun
from entrenar_core.train.process import peak_memory, stop_at_step_end

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_nothing_is_interrupted(number):
    with stop_at_step_end() as stop:
        assert not stop
        send(number)
        assert stop
        assert stop.signal is number


@pytest.mark.parametrize("first", SIGNALS)
def test_an_interrupt_after_any_signal_is_one_at_once(first):
    with pytest.raises(KeyboardInterrupt), stop_at_step_end():
        send(first)
        send(signal.SIGINT)


def test_a_second_sigterm_still_waits_for_the_step():
    with stop_at_step_end() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert stop


def test_the_handlers_from_before_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError), stop_at_step_end():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_outside_the_main_thread_signals_keep_their_meaning():
    found = []

    def body():
        with stop_at_step_end() as stop:
            found.append((bool(stop), signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_a_check_raises_only_when_asked_to_stop():
    with stop_at_step_end() as stop:
        stop.check("measuring")
        send(signal.SIGTERM)
        with pytest.raises(InterruptedRun, match="while measuring"):
            stop.check("measuring")


def test_peak_memory_is_in_bytes_and_includes_what_is_held():
    held = bytearray(os.urandom(64)) * 2**18  # 16 MiB, every page written
    assert len(held) < peak_memory() < 2**40
