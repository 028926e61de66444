"""Steps of runs that go on: how they reach the driver, and what the study keeps of them."""

import json
import threading

import pytest

import study_runners
from entrenar_bench.study import Arm, Plan, Status, Step, Study, Watch, run_trials
from entrenar_bench.study.steps import Teller
from entrenar_common.testing import Clock


class Told(Watch):
    """Keeps what it is told, in order."""

    def __init__(self):
        self.all = []

    def began(self, trial):
        self.all.append(("began", trial.arm, trial.seed))

    def stepped(self, trial, steps):
        self.all += [("step", step.number) for step in steps]

    def gave_back(self, trial):
        self.all.append(("gave back", trial.arm))

    def ended(self, ended):
        self.all.append(("ended", ended.metrics, ended.error))


def test_steps_are_sent_together_in_order_and_none_is_left_out():
    sent, clock = [], Clock()
    teller = Teller(sent.append, interval=0.5, clock=clock)
    for number in range(1, 101):
        clock.now = 0.01 * number
        teller(Step(number))
    teller.flush()
    numbers = [[step.number for step in message.steps] for message in sent]
    assert [number for sent in numbers for number in sent] == list(range(1, 101))
    assert numbers[0] == [1]  # at once
    assert len(numbers) == 1 + 1 + 1  # the first, one in half a second, what was held back


def test_nothing_is_sent_where_nothing_is_held():
    sent = []
    teller = Teller(sent.append, clock=Clock())
    teller.flush()
    teller(Step(1))
    teller.flush()
    assert len(sent) == 1


def test_what_is_held_back_is_sent_though_no_other_step_comes():
    sent, arrived = [], threading.Event()

    def send(message):
        sent.append([step.number for step in message.steps])
        if len(sent) == 2:
            arrived.set()

    teller = Teller(send, interval=0.05)
    for number in (1, 2, 3):
        teller(Step(number))
    assert arrived.wait(30)
    assert [number for numbers in sent for number in numbers] == [1, 2, 3]


def test_a_driver_that_is_gone_is_no_error_of_the_run():
    def broken(_message):
        raise BrokenPipeError

    Teller(broken, clock=Clock())(Step(1))


def run(tmp_path, config, runner, seeds=(0,)):
    told = Told()
    plan = Plan(arms=(Arm("a", config),), seeds=seeds)
    with Study.create(tmp_path / "a.study", plan) as study:
        run_trials(study, runner, watch=told)
        kept = {trial.seed: study.steps(trial.run) for trial in study.trials()}
        return told.all, kept, study.counts()


@pytest.mark.tier2
def test_the_driver_is_told_of_every_step_between_beginning_and_end(tmp_path):
    told, kept, _ = run(tmp_path, {"steps": 50}, study_runners.Walking(), seeds=(0, 1))
    first, second = told[: len(told) // 2], told[len(told) // 2 :]
    for seed, each in ((first[0][2], first), (second[0][2], second)):
        assert each == [
            ("began", "a", seed),
            *(("step", number) for number in range(1, 51)),
            ("ended", {"loss": 1 / 50 + seed, "seconds": 1.0}, None),
        ]
        assert kept[seed] == [(n, "loss", 1 / n + seed) for n in range(1, 51)]


@pytest.mark.tier2
def test_a_run_that_fails_keeps_the_steps_that_it_told(tmp_path):
    told, kept, counts = run(tmp_path, {"steps": 3, "fails": True}, study_runners.Walking())
    assert counts[Status.FAILED] == 1
    assert told[-1] == ("ended", None, "ValueError: after its steps")
    assert [number for number, _, _ in kept[0]] == [1, 2, 3]


@pytest.mark.tier2
def test_a_run_that_is_interrupted_by_itself_waits_again_and_is_no_failure(tmp_path):
    """As when a closed terminal reaches the worker before its driver."""
    told, _, counts = run(tmp_path, {"mark": str(tmp_path / "m")}, study_runners.interrupted)
    assert counts[Status.FINISHED] == 1
    assert told == [
        ("began", "a", 0),
        ("gave back", "a"),
        ("began", "a", 0),
        ("ended", {"loss": 1.0}, None),
    ]


@pytest.mark.tier2
def test_steps_that_were_told_are_written_once(tmp_path):
    plan = Plan(arms=(Arm("a", {"steps": 4}),), seeds=(0,))
    with Study.create(tmp_path / "a.study", plan) as study:
        run_trials(study, study_runners.Walking())
    events = (tmp_path / "a.study.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in events].count("step") == 4
