"""The search: its choice is the first that fits in the stated order, and nothing else."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_common.errors import UsageError
from entrenar_core.estimate import Setup, find_shape
from entrenar_core.estimate.engines import ENGINES
from entrenar_core.estimate.targets import matching, usual_targets
from entrenar_lora.grid import RANKS, Wanted, make_grid
from entrenar_lora.planner import search

GIB = 2**30
SHAPES = {name: find_shape(name) for name in ("llama-2-7b", "smollm2-135m", "gpt2")}
PREFERRED = {
    "torch": {"base": ["bfloat16", "int8", "nf4"]},
    "entrenar": {"base": ["float32", "bfloat16", "int8", "nf4"]},
}


def by_hand(shape, engine, batch_size, seq_len):
    """Every combination with its place in the order and its memory, by the order in words: targets
    are given up last, then rank, base, optimizer, checkpointing, and sequences at once first."""
    targets = [matching(shape.linears, each) for each in usual_targets(shape.model_type)]
    batches = [n for n in range(batch_size, 0, -1) if batch_size % n == 0]
    axes = [
        targets, [64, 32, 16, 8, 4], PREFERRED[engine]["base"], ["adamw", "adamw-8bit"],
        [False, True], batches,
    ]  # fmt: skip
    for places in product(*(range(len(axis)) for axis in axes)):
        names, rank, base, optimizer, checkpointing, batch = (
            axis[place] for axis, place in zip(axes, places, strict=True)
        )
        setup = Setup(
            "lora", base, names, rank, optimizer, batch, batch_size // batch, seq_len,
            checkpointing,
        )  # fmt: skip
        yield places, setup, ENGINES[engine].memory(shape, setup).total


@pytest.mark.tier2
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=5, deadline=None)
@given(share=st.floats(0.2, 3.0), batch_size=st.sampled_from([1, 2, 6]), length=st.integers(1, 8))
def test_the_choice_is_the_most_preferred_of_all_that_fit(name, engine, share, batch_size, length):
    shape, seq_len = SHAPES[name], 128 * length
    limit = round(share * 2 * shape.parameters) + GIB
    fitting = [x for x in by_hand(shape, engine, batch_size, seq_len) if x[2] <= limit]
    wanted = Wanted(batch_size=batch_size, seq_len=seq_len)
    found = search(shape, ENGINES[engine], wanted, limit=limit)
    assert found.fits == bool(fitting)
    if fitting:
        _, setup, total = min(fitting)
        assert found.choice.setup == setup
        assert found.choice.memory.total == total <= limit


@pytest.mark.parametrize("gib", [5, 7, 8, 10, 12, 16, 24, 40])
def test_what_was_given_up_does_not_fit(gib):
    found = search(SHAPES["llama-2-7b"], ENGINES["torch"], Wanted(batch_size=4), limit=gib * GIB)
    assert found.fits == (gib > 5)
    assert all(each.needs > gib * GIB for each in found.given_up)


def test_what_the_user_fixes_is_kept():
    wanted = Wanted("qlora", 2, 512, "lion", ("q_proj",), 12, "on")
    grid = make_grid(SHAPES["llama-2-7b"], ENGINES["torch"], wanted)
    assert (grid.rank, grid.optimizer, grid.checkpointing) == ((12,), ("lion",), (True,))
    assert (grid.targets, grid.base) == ((("q_proj",),), ("int8", "nf4"))


def test_ranks_fall():
    assert list(RANKS) == sorted(RANKS, reverse=True)


def test_the_largest_batch_and_sequence_fit_and_one_more_does_not():
    shape, engine, limit = SHAPES["llama-2-7b"], ENGINES["torch"], 24 * GIB
    found = search(shape, engine, Wanted("lora", seq_len=512), limit=limit)
    setup = found.choice.setup

    def total(batch, seq_len):
        return engine.memory(shape, replace(setup, batch=batch, seq_len=seq_len)).total

    assert total(found.largest_batch, 512) <= limit < total(found.largest_batch + 1, 512)
    assert found.largest_seq_len == shape.positions or (
        total(setup.batch, found.largest_seq_len)
        <= limit
        < total(setup.batch, found.largest_seq_len + 1)
    )


def test_when_nothing_fits_the_least_is_shown_and_every_remedy_fits():
    shape, engine, limit = SHAPES["llama-2-7b"], ENGINES["torch"], 8 * GIB
    wanted = Wanted("lora", optimizer="adamw", rank=64)
    found = search(shape, engine, wanted, limit=limit)
    assert not found.fits
    assert found.choice.memory.total == min(
        engine.memory(shape, make_grid(shape, engine, wanted).setup(point)).total
        for point in make_grid(shape, engine, wanted).points()
    )
    assert found.remedies[0][0] == "--method auto"
    assert all(total <= limit for _, total in found.remedies)


def test_shorter_sequences_are_a_remedy():
    found = search(
        SHAPES["smollm2-135m"], ENGINES["torch"], Wanted("full", seq_len=8192), limit=5 * GIB
    )
    name, total = found.remedies[-1]
    assert name.startswith("--seq-len ")
    assert total <= 5 * GIB


def test_an_optimizer_that_is_not_planned_for_is_refused():
    with pytest.raises(UsageError, match="adamv") as caught:
        make_grid(SHAPES["gpt2"], ENGINES["torch"], Wanted(optimizer="adamv"))
    assert "did you mean adamw?" in caught.value.hint
