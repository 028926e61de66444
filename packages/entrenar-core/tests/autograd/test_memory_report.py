"""What the tape holds, as it is counted for people."""

import weakref

import numpy as np
import pytest

from entrenar_core.autograd import Parameter, Tensor, checkpoint, memory_report, ops

SIZE = 1000
BYTES = 4 * SIZE


def tensor():
    return Tensor(np.ones(SIZE, np.float32), requires_grad=True)


def held():
    return {row.op: (row.calls, row.arrays, row.bytes) for row in memory_report().ops}


def test_nothing_recorded_holds_nothing():
    assert held() == {}
    assert memory_report().bytes == 0


def test_arrays_that_the_gradient_needs_are_counted():
    x = tensor()
    y = (x * 2.0) * (x * 3.0)
    assert held()["mul"] == (3, 2, 2 * BYTES)
    assert y.requires_grad


def test_an_array_that_two_operations_hold_counts_once():
    y = tensor() * 2.0
    z = [ops.linear(y, Tensor(np.ones((1, SIZE), np.float32), requires_grad=True)), ops.mul(y, y)]
    report = held()
    assert report["linear"] == (1, 1, BYTES)
    assert report["mul"] == (2, 0, 0)
    assert len(z) == 2


def test_memory_of_leaves_is_not_the_tapes():
    weight, x = Parameter(np.ones((4, SIZE), np.float32)), tensor()
    y = ops.linear(x, weight)
    assert held() == {"linear": (1, 0, 0)}
    assert y.shape == (4,)


def test_a_graph_that_was_walked_holds_nothing():
    x = tensor()
    (x * 2.0 * x).sum().backward()
    assert memory_report().bytes == 0


def test_a_checkpoint_holds_its_inputs_only():
    x = tensor() * 2.0
    y = checkpoint(lambda v: ((v * v) * v) * v, x)
    report = held()
    assert report["checkpoint"] == (1, 1, BYTES)
    assert y.requires_grad


def test_weak_references_to_what_is_gone_are_passed_over():
    gone = weakref.proxy(tensor())
    assert memory_report().bytes == 0
    with pytest.raises(ReferenceError):
        gone.shape  # noqa: B018


def test_the_report_reads_as_a_table_with_a_total():
    y = tensor() * 2.0
    z = y * y
    lines = str(memory_report()).splitlines()
    assert lines[1].split() == ["mul", "2", "1", "4.0", "kB"]
    assert lines[-1].split() == ["all", "2", "1", "4.0", "kB"]
    assert z.requires_grad
