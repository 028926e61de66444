"""Studies of a few runs whose clock goes only when told."""

import pytest

from entrenar_bench.study import Arm, Plan, Study
from entrenar_common.testing import Clock
from entrenar_core.io.os_calls import os_calls


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch) -> None:
    """No test cuts the power, and a real fsync would take most of the time."""
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def plan() -> Plan:
    """Two arms, x = 1 and x = 2, with three seeds."""
    return Plan(arms=(Arm("one", {"x": 1}), Arm("two", {"x": 2})), seeds=(0, 1, 2))


@pytest.fixture
def study(tmp_path, plan, clock):
    with Study.create(tmp_path / "a.study", plan, clock=clock, lease_seconds=60) as made:
        yield made
