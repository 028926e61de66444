"""Formats under a limit of bytes, against all combinations."""

import math
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError
from entrenar_core.qat import Option, Sensitivity, choose, options_of
from entrenar_core.quant import QuantError

OPTION = st.tuples(st.integers(1, 12), st.integers(0, 20))
MODELS = st.lists(st.lists(OPTION, min_size=1, max_size=4), min_size=1, max_size=4)


def made(model):
    return {
        f"w{i}": [Option(f"f{j}", size, float(cost)) for j, (size, cost) in enumerate(each)]
        for i, each in enumerate(model)
    }


def best(options, limit):
    """The least cost of all combinations that fit, infinite where none does."""
    fitting = [
        sum(o.cost for o in chosen)
        for chosen in product(*options.values())
        if sum(o.nbytes for o in chosen) <= limit
    ]
    return min(fitting, default=math.inf)


def hull(options):
    """Options that no mix of two others beats, by looking at all pairs."""
    kept = []
    for o in {(o.nbytes, o.cost): o for o in options}.values():
        beaten = any(
            p is not o and p.nbytes <= o.nbytes and p.cost <= o.cost
            and (p.nbytes, p.cost) != (o.nbytes, o.cost)
            for p in options
        )  # fmt: skip
        for p, q in product(options, repeat=2):
            if p.nbytes < o.nbytes < q.nbytes:
                share = (o.nbytes - p.nbytes) / (q.nbytes - p.nbytes)
                beaten |= p.cost + share * (q.cost - p.cost) < o.cost - 1e-9
        if not beaten:
            kept.append(o)
    return sorted(kept, key=lambda o: o.nbytes)


@given(MODELS, st.integers(0, 50))
def test_the_choice_fits_and_is_at_most_one_step_above_the_best(model, limit):
    options = made(model)
    wanted = best(options, limit)
    if wanted == math.inf:
        with pytest.raises(ConfigError, match=f"and there are {limit}"):
            choose(options, limit)
        return
    found = choose(options, limit)
    chosen = [next(o for o in options[n] if o.form == f) for n, f in found.formats.items()]
    assert found.formats.keys() == options.keys()
    assert found.nbytes == sum(o.nbytes for o in chosen) <= limit
    assert found.cost == sum(o.cost for o in chosen)
    assert found.lower_bound - 1e-9 <= wanted <= found.cost
    steps = [a.cost - b.cost for each in options.values() for a, b in pairwise(hull(each))]
    assert found.cost <= wanted + max(steps, default=0) + 1e-9


@given(MODELS, st.integers(0, 50))
def test_no_single_exchange_would_be_better(model, limit):
    options = made(model)
    if best(options, limit) == math.inf:
        return
    found = choose(options, limit)
    for name, form in found.formats.items():
        now = next(o for o in options[name] if o.form == form)
        for other in options[name]:
            fits = found.nbytes - now.nbytes + other.nbytes <= limit
            assert not (fits and other.cost < now.cost)


@given(MODELS)
def test_at_the_bytes_where_a_step_ends_the_choice_is_the_best(model):
    options = made(model)
    hulls = {name: hull(each) for name, each in options.items()}
    steps = [
        ((b.cost - a.cost) / (b.nbytes - a.nbytes), b.nbytes - a.nbytes)
        for each in hulls.values()
        for a, b in pairwise(each)
    ]
    steps.sort(key=lambda step: step[0])  # steps of one matrix stay in their order
    limit = sum(each[0].nbytes for each in hulls.values())
    for size in [0, *(size for _, size in steps)]:
        limit += size
        found = choose(options, limit)
        assert found.cost == pytest.approx(best(options, limit))
        assert found.cost == pytest.approx(found.lower_bound)


def test_without_a_limit_everything_costs_as_little_as_it_can():
    options = made([[(4, 9), (8, 2), (16, 1)], [(3, 5), (9, 5)]])
    assert choose(options, 10**9).formats == {"w0": "f2", "w1": "f0"}


def test_a_matrix_that_no_format_stores_is_an_error():
    with pytest.raises(ConfigError, match="no format can store w"):
        choose({"w": []}, 10)


def row(**costs):
    return Sensitivity("w", "q4_0", 18, QuantError(20.0, 0.5, 0.25, 0.1), **costs)


def test_costs_are_read_from_sensitivities():
    rows = [row(output_error=0.3, by_gradient=0.2, loss_change=-0.1)]
    for cost, value in {
        "output_error": 0.3, "by_gradient": 0.2, "loss_change": 0.0, "error": 0.01
    }.items():  # fmt: skip
        (option,) = options_of(rows, cost=cost)["w"]
        assert (option.form, option.nbytes) == ("q4_0", 18)
        assert option.cost == pytest.approx(value)


@pytest.mark.parametrize(
    ("cost", "message"), [("by_gradient", "w in q4_0 has no by_gradient"), ("loss", "by 'loss'")]
)
def test_a_cost_that_is_not_there_is_an_error(cost, message):
    with pytest.raises(ConfigError, match=message):
        options_of([row()], cost=cost)
