"""What holds for every optimizer: clipping, skipping, saving and continuing, groups."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError, ConfigError, ShapeError, UnsupportedError
from entrenar_core import optim
from entrenar_core.autograd import Parameter
from entrenar_core.optim import (
    SGD,
    Adafactor,
    Adam,
    AdamOptions,
    AdamW,
    Combined,
    Lion,
    LionOptions,
    Muon,
    MuonOptions,
    RMSprop,
    SGDOptions,
    hidden_matrices,
    partition,
)
from entrenar_core.testing import difference


class Kind(NamedTuple):
    make: Callable[..., optim.Optimizer]
    shapes: dict[str, tuple[int, ...]]


SHAPES = {"matrix": (3, 5), "bias": (7,), "table": (2, 3), "number": ()}
MATRICES = {"matrix": (3, 5), "table": (6, 3)}
LARGE = {"large": (70, 60), "odd": (4099,), "bias": (7,)}


def muon_and_adamw(members, **options):
    return Combined(
        [
            Muon({"matrix": members["matrix"]}, **options),
            AdamW({n: p for n, p in members.items() if n != "matrix"}, **options),
        ]
    )


KINDS = {
    "sgd": Kind(SGD, SHAPES),
    "sgd with momentum": Kind(lambda m, **o: SGD(m, momentum=0.9, dampening=0.1, **o), SHAPES),
    "adam": Kind(Adam, SHAPES),
    "adamw": Kind(AdamW, SHAPES),
    "amsgrad": Kind(lambda m, **o: AdamW(m, amsgrad=True, **o), SHAPES),
    "adam 8 bit": Kind(lambda m, **o: Adam(m, state_bits=8, **o), LARGE),
    "adamw 8 bit": Kind(lambda m, **o: AdamW(m, state_bits=8, **o), LARGE),
    "rmsprop": Kind(RMSprop, SHAPES),
    "rmsprop with all": Kind(lambda m, **o: RMSprop(m, momentum=0.9, centered=True, **o), SHAPES),
    "adafactor": Kind(Adafactor, SHAPES),
    "lion": Kind(Lion, SHAPES),
    "muon": Kind(Muon, MATRICES),
    "muon and adamw": Kind(muon_and_adamw, SHAPES),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def parameters(shapes, dtype="float64"):
    rng = np.random.default_rng(0)
    return {n: Parameter(np.asarray(rng.standard_normal(s), dtype)) for n, s in shapes.items()}


def give(members, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    for parameter in members.values():
        gradient = rng.standard_normal(parameter.shape) * scale
        parameter.grad = np.asarray(gradient, parameter.dtype)


def values(members):
    return {name: p.data.copy() for name, p in members.items()}


def copied(state):
    return {name: view.copy() for name, view in state.items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n], equal_nan=True) for n in a)


def both_dtypes(test):
    marks = [pytest.param("float32", marks=pytest.mark.tier2), "float64"]
    return pytest.mark.parametrize("dtype", marks)(test)


@both_dtypes
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad, dtype, kind):
    members = parameters(kind.shapes, dtype)
    optimizer = kind.make(members)
    give(members, 0)
    optimizer.step(0.1)
    before, state = values(members), copied(optimizer.state())
    give(members, 1)
    members[list(members)[-1]].grad.reshape(-1)[-1] = bad
    assert not math.isfinite(optimizer.step(0.1, max_norm=1.0, max_value=0.5))
    assert optimizer.steps == 1
    assert same(values(members), before)
    assert same(optimizer.state(), state)


@both_dtypes
@pytest.mark.parametrize("name", [n for n in KINDS if "muon" not in n and n != "adafactor"])
def test_an_update_by_nan_is_seen_where_it_came_from(name, dtype):
    # `step` would skip it; a kernel has to show it. Muon and Adafactor mix all elements.
    kind = KINDS[name]
    members = parameters(kind.shapes, dtype)
    optimizer = kind.make(members)
    give(members, 0)
    optimizer.step(0.1)
    first = next(iter(members.values()))
    give(members, 1)
    first.grad.reshape(-1)[3] = np.nan
    optimizer.update(0.1, 1.0)
    bad = {n: np.flatnonzero(np.isnan(p.data)).tolist() for n, p in members.items()}
    assert bad == {n: [3] if p is first else [] for n, p in members.items()}


@both_dtypes
def test_a_restored_optimizer_continues_to_the_bit(dtype, kind):
    straight = parameters(kind.shapes, dtype)
    a = kind.make(straight)
    for seed in range(3):
        give(straight, seed)
        a.step(0.1)
    saved, steps = copied(a.state()), a.steps
    resumed = {name: Parameter(value) for name, value in values(straight).items()}
    b = kind.make(resumed)
    b.restore(saved, steps)
    for seed in range(3, 6):
        for members, optimizer in ((straight, a), (resumed, b)):
            give(members, seed)
            optimizer.step(0.1)
    assert same(values(straight), values(resumed))
    assert same(a.state(), b.state())
    assert b.steps == 6


def test_what_was_saved_is_not_changed_by_later_steps(kind):
    members = parameters(kind.shapes)
    optimizer = kind.make(members)
    give(members, 0)
    optimizer.step(0.1)
    other = kind.make(parameters(kind.shapes))
    other.restore(optimizer.state(), 1)
    taken = copied(other.state())
    give(members, 1)
    optimizer.step(0.1)
    assert same(other.state(), taken)


def test_state_is_named_after_the_optimizer_and_the_parameters(kind):
    members = parameters(kind.shapes)
    names = kind.make(members).state()
    assert all(name.split(".")[2] in members for name in names)
    assert {name.split(".")[0] for name in names} <= {
        "sgd", "adam", "adamw", "rmsprop", "adafactor", "lion", "muon"
    }  # fmt: skip


def test_the_state_of_another_optimizer_is_refused():
    # shapes that all but Muon take, and in which eight bits make a difference
    made = {n: k.make for n, k in KINDS.items() if "muon" not in n}
    for name, make in made.items():
        state = make(parameters(LARGE)).state()
        for other in made.keys() - {name}:
            optimizer = made[other](parameters(LARGE))
            with pytest.raises(CheckpointError, match="another model or optimizer"):
                optimizer.restore(state, 1)
            assert optimizer.steps == 0


def test_the_state_of_muon_is_not_that_of_sgd():
    optimizer = SGD(parameters(MATRICES), momentum=0.9)
    with pytest.raises(CheckpointError, match="another model or optimizer"):
        optimizer.restore(Muon(parameters(MATRICES)).state(), 1)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype"])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "sgd"])
def test_the_state_of_another_model_is_refused(name, change):
    kind = KINDS[name]  # SGD without momentum remembers nothing
    optimizer = kind.make(parameters(kind.shapes))
    state = copied(optimizer.state())
    name = max(state)
    if change == "missing":
        state.pop(name)
    elif change == "extra":
        state["adamw.m.other"] = np.zeros(3)
    elif change == "shape":
        state[name] = np.zeros((*state[name].shape, 2), state[name].dtype)
    else:
        state[name] = state[name].astype(np.float16)
    with pytest.raises(CheckpointError, match="another model or optimizer"):
        optimizer.restore(state, 3)


def test_the_message_says_what_differs_and_how_much():
    optimizer = AdamW(parameters({"w": (2, 3)}))
    with pytest.raises(CheckpointError) as caught:
        optimizer.restore({"adamw.m.w": np.zeros((2, 3), np.float32)}, 1)
    assert caught.value.message == (
        "the optimizer state is of another model or optimizer: adamw.m.w is float32 (2, 3) there "
        "and float64 (2, 3) here, and 1 more tensors differ"
    )


@both_dtypes
def test_clipping_by_norm_is_a_step_with_the_scaled_gradient(dtype, kind):
    clipped, scaled = parameters(kind.shapes, dtype), parameters(kind.shapes, dtype)
    a, b = kind.make(clipped), kind.make(scaled)
    for seed in range(4):
        give(clipped, seed)
        norm = a.step(0.01, max_norm=0.25)
        give(scaled, seed, 0.25 / (norm + 1e-6))
        b.step(0.01)
    bound = {"float32": 1e-4, "float64": 1e-12}[dtype]
    for name in clipped:
        assert difference(clipped[name].data, scaled[name].data) <= bound


def test_an_update_is_a_step_without_the_look_at_the_gradients(kind):
    stepped, updated = parameters(kind.shapes), parameters(kind.shapes)
    a, b = kind.make(stepped), kind.make(updated)
    for seed in range(3):
        give(stepped, seed)
        a.step(0.1)
        give(updated, seed)
        b.update(0.1)
    assert same(values(stepped), values(updated))
    assert b.steps == 3


def test_a_small_gradient_is_not_scaled_up(kind):
    clipped, plain = parameters(kind.shapes), parameters(kind.shapes)
    for members, options in ((clipped, {"max_norm": 1e6, "max_value": 1e6}), (plain, {})):
        optimizer = kind.make(members)
        give(members, 0)
        optimizer.step(0.1, **options)
    assert same(values(clipped), values(plain))


def test_clipping_by_value_is_a_step_with_the_clipped_gradient(kind):
    clipped, bounded = parameters(kind.shapes), parameters(kind.shapes)
    a, b = kind.make(clipped), kind.make(bounded)
    for seed in range(4):
        give(clipped, seed)
        a.step(0.01, max_value=0.3)
        give(bounded, seed)
        for parameter in bounded.values():
            parameter.grad = np.asarray(np.clip(parameter.grad, -0.3, 0.3))
        b.step(0.01)
    assert same(values(clipped), values(bounded))


def test_the_norm_is_that_of_all_gradients_together_and_before_clipping(kind):
    members = parameters(kind.shapes)
    optimizer = kind.make(members)
    give(members, 1)
    flat = np.concatenate([p.grad.ravel() for p in members.values()])
    wanted = math.sqrt((flat**2).sum())
    assert optimizer.gradient_norm() == pytest.approx(wanted, rel=1e-14)
    assert optimizer.step(0.1, max_norm=0.1, max_value=0.1) == pytest.approx(wanted, rel=1e-14)


def test_values_are_clipped_first_and_their_norm_then():
    weight = Parameter(np.zeros(2))
    optimizer = SGD({"w": weight})
    weight.grad = np.array([3.0, 40.0])
    optimizer.step(1.0, max_value=4.0, max_norm=1.0)
    assert difference(weight.data, [-0.6, -0.8]) <= 1e-6


def test_zero_grad_forgets_the_gradients(kind):
    members = parameters(kind.shapes)
    optimizer = kind.make(members)
    give(members, 0)
    optimizer.zero_grad()
    assert all(p.grad is None for p in members.values())
    assert optimizer.gradient_norm() == 0


def test_a_frozen_parameter_is_left_alone(kind):
    members = parameters(kind.shapes)
    members["frozen"] = Parameter(np.ones((2, 2)))
    members["frozen"].requires_grad = False
    memory = members["frozen"].data
    optimizer = kind.make(members)
    optimizer.step(0.5)
    assert members["frozen"].data is memory
    assert not any("frozen" in name for name in optimizer.state())


def test_a_learning_rate_is_scaled_for_all_by_the_constructor(kind):
    halved, plain = parameters(kind.shapes), parameters(kind.shapes)
    a, b = kind.make(halved, lr_scale=0.5), kind.make(plain)
    for seed in range(3):
        give(halved, seed)
        a.step(0.2)
        give(plain, seed)
        b.step(0.1)
    assert same(values(halved), values(plain))


def test_parameters_of_two_dtypes_are_each_updated_in_their_own(kind):
    members = parameters(kind.shapes)
    name = next(iter(members))
    members[name] = Parameter(members[name].data.astype(np.float32))
    optimizer = kind.make(members)
    before = values(members)
    give(members, 0)
    optimizer.step(0.1)
    assert {n: p.dtype for n, p in members.items()} == {n: v.dtype for n, v in before.items()}
    assert all(not np.array_equal(p.data, before[n]) for n, p in members.items())


@pytest.mark.parametrize(
    ("optimizer_class", "groups"),
    [
        (SGD, {"bias": SGDOptions(momentum=0.5, weight_decay=0.3, lr_scale=0.1)}),
        (Adam, {"bias": AdamOptions(beta1=0.5, eps=1e-2), "m*": AdamOptions(amsgrad=True)}),
        (AdamW, {"bias": AdamOptions(weight_decay=0.2), "t*": AdamOptions(weight_decay=0.0)}),
        (RMSprop, {"*a*": optim.RMSpropOptions(alpha=0.5, centered=True)}),
        (
            Adafactor,
            {"bias": optim.AdafactorOptions(eps2=0.5), "m*": optim.AdafactorOptions(d=2.0)},
        ),
        (Lion, {"bias": LionOptions(lr_scale=100.0), "*": LionOptions(beta2=0.5)}),
    ],
)
def test_a_group_is_what_an_optimizer_of_its_own_would_be(optimizer_class, groups):
    from dataclasses import asdict
    from fnmatch import fnmatchcase

    together, apart = parameters(SHAPES), parameters(SHAPES)
    one = optimizer_class(together, groups=groups)
    many = []
    for name, parameter in apart.items():
        changes = next((o for pattern, o in groups.items() if fnmatchcase(name, pattern)), None)
        given = {k: v for k, v in asdict(changes).items() if v is not None} if changes else {}
        rule = (
            {"decays": lambda *_: True}
            if "weight_decay" in given and optimizer_class is AdamW
            else {}
        )
        many.append(optimizer_class({name: parameter}, **given, **rule))
    for seed in range(4):
        give(together, seed)
        give(apart, seed)
        one.step(0.05)
        for optimizer in many:
            optimizer.step(0.05)
    for name in SHAPES:
        assert difference(together[name].data, apart[name].data) <= 1e-14


def test_the_first_pattern_that_matches_decides():
    members = parameters({"a.bias": (3,), "b.bias": (3,)})
    before = values(members)
    groups = {"a.*": SGDOptions(lr_scale=0.0), "*": SGDOptions(lr_scale=1.0)}
    optimizer = SGD(members, groups=groups)
    give(members, 0)
    optimizer.step(0.1)
    moved = {n for n in members if not np.array_equal(members[n].data, before[n])}
    assert moved == {"b.bias"}


def test_a_group_keeps_what_the_constructor_says_where_it_says_nothing():
    grouped, plain = parameters(SHAPES), parameters(SHAPES)
    a = SGD(grouped, momentum=0.9, nesterov=True, groups={"bias": SGDOptions(lr_scale=1.0)})
    b = SGD(plain, momentum=0.9, nesterov=True)
    for seed in range(3):
        give(grouped, seed)
        give(plain, seed)
        a.step(0.1)
        b.step(0.1)
    assert same(values(grouped), values(plain))


def test_a_pattern_without_a_match_is_refused():
    with pytest.raises(ConfigError, match=r"the group '\*\.bais' has no"):
        SGD(parameters(SHAPES), groups={"*.bais": SGDOptions()})


def test_options_of_another_optimizer_are_refused():
    with pytest.raises(ConfigError, match="'bias' has LionOptions"):
        SGD(parameters(SHAPES), groups={"bias": LionOptions()})


def test_a_parameter_under_two_names_is_refused():
    weight = Parameter(np.ones(3))
    with pytest.raises(ConfigError, match="a and b are one parameter"):
        SGD({"a": weight, "b": weight})


@pytest.mark.parametrize(
    ("optimizer_class", "options"),
    [
        (SGD, {"momentum": -0.1}),
        (SGD, {"weight_decay": -1e-9}),
        (SGD, {"dampening": math.nan}),
        (SGD, {"lr_scale": -1.0}),
        (SGD, {"lr_scale": math.inf}),
        (Adam, {"beta1": 1.0}),
        (Adam, {"beta1": -0.1}),
        (Adam, {"beta2": 1.0}),
        (Adam, {"beta2": math.nan}),
        (Adam, {"eps": -1e-8}),
        (Adam, {"state_bits": 4}),
        (AdamW, {"groups": {"bias": AdamOptions(beta1=1.5)}}),
        (RMSprop, {"alpha": -0.1}),
        (Adafactor, {"d": 0.9}),
        (Adafactor, {"beta2_decay": 0.1}),
        (Adafactor, {"eps1": -1.0}),
        (Adafactor, {"eps2": -1.0}),
        (Lion, {"beta1": 1.0}),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(optimizer_class, options):
    name = "beta1" if "groups" in options else next(iter(options))
    with pytest.raises(ConfigError, match=f"{name} is "):
        optimizer_class(parameters(SHAPES), **options)


@pytest.mark.parametrize(
    "options", [{"newton_schulz_steps": 100}, {"newton_schulz_steps": -1}, {"adjust_lr": "other"}]
)
def test_values_out_of_range_are_refused_by_muon(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is "):
        Muon(parameters(MATRICES), **options)


@pytest.mark.parametrize(
    ("optimizer_class", "options"),
    [
        (SGD, {"momentum": 0.0, "dampening": -1.0}),
        (Adam, {"beta1": 0.0, "beta2": 0.0, "eps": 0.0, "lr_scale": 0.0}),
        (RMSprop, {"alpha": 0.0, "eps": 0.0}),
        (Adafactor, {"d": 1.0, "beta2_decay": 0.0, "eps1": 0.0, "eps2": 0.0}),
    ],
    ids=str,
)
def test_values_at_the_end_of_their_range_are_taken(optimizer_class, options):
    assert optimizer_class(parameters(SHAPES), **options).steps == 0


@pytest.mark.parametrize(("momentum", "dampening"), [(0.0, 0.0), (0.9, 0.1)])
def test_nesterov_without_momentum_or_with_dampening_is_refused(momentum, dampening):
    with pytest.raises(ConfigError, match="nesterov with momentum"):
        SGD(parameters(SHAPES), nesterov=True, momentum=momentum, dampening=dampening)


def test_amsgrad_in_eight_bits_is_refused():
    with pytest.raises(UnsupportedError, match="amsgrad with state_bits 8"):
        Adam(parameters(SHAPES), amsgrad=True, state_bits=8)


def test_muon_refuses_what_is_not_a_matrix_by_name():
    with pytest.raises(ShapeError, match=r"Muon: bias is \(7,\)"):
        Muon(parameters(SHAPES))


def test_muons_groups_have_their_own_options():
    together, apart = parameters(MATRICES), parameters(MATRICES)
    one = Muon(together, groups={"table": MuonOptions(adjust_lr="match_rms_adamw", lr_scale=3.0)})
    many = [
        Muon({"matrix": apart["matrix"]}),
        Muon({"table": apart["table"]}, adjust_lr="match_rms_adamw", lr_scale=3.0),
    ]
    for members in (together, apart):
        give(members, 0)
    one.step(0.1)
    for optimizer in many:
        optimizer.step(0.1)
    assert same(values(together), values(apart))


def test_combined_clips_by_the_norm_of_all_gradients():
    members = parameters({"a": (2,), "b": (2,)})
    start = values(members)
    optimizer = Combined([SGD({"a": members["a"]}), SGD({"b": members["b"]}, lr_scale=0.5)])
    members["a"].grad, members["b"].grad = np.array([3.0, 0.0]), np.array([0.0, 4.0])
    assert optimizer.step(1.0, max_norm=1.0) == 5.0
    assert difference(start["a"] - members["a"].data, [0.6, 0.0]) <= 1e-6
    assert difference(start["b"] - members["b"].data, [0.0, 0.4]) <= 1e-6
    assert [optimizer.steps, *(each.steps for each in optimizer.optimizers)] == [1, 1, 1]


def test_two_optimizers_of_one_parameter_are_not_combined():
    members = parameters(SHAPES)
    with pytest.raises(ConfigError, match="matrix is updated by two"):
        Combined([SGD({"matrix": members["matrix"]}), AdamW(members)])


def test_two_states_of_one_name_are_not_combined():
    with pytest.raises(ConfigError, match=r"a state lion\.m\.w"):
        Combined([Lion(parameters({"w": (3,)})), Lion(parameters({"w": (3,)}))])


def test_partition_divides_by_name_and_parameter():
    members = parameters({"embed_tokens.weight": (4, 3), "layers.0.weight": (3, 3), "norm": (3,)})
    hidden, rest = partition(members, hidden_matrices)
    assert list(hidden) == ["layers.0.weight"]
    assert list(rest) == ["embed_tokens.weight", "norm"]
    assert hidden["layers.0.weight"] is members["layers.0.weight"]


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "transformer.wte.weight", "wpe.weight", "classifier.weight", "score"]
)
def test_heads_and_embeddings_are_no_hidden_matrices(name):
    assert not hidden_matrices(name, Parameter(np.ones((2, 2))))


def test_small_parameters_keep_their_moments_in_full_in_eight_bit_optimizers():
    state = Adam(parameters({"large": (64, 64), "small": (4095,)}), state_bits=8).state()
    assert {name: (v.dtype.name, v.shape) for name, v in state.items()} == {
        "adam.m.large": ("uint8", (64, 64)),
        "adam.v.large": ("uint8", (64, 64)),
        "adam.m_absmax.large": ("float32", (16,)),
        "adam.v_absmax.large": ("float32", (16,)),
        "adam.m.small": ("float64", (4095,)),
        "adam.v.small": ("float64", (4095,)),
    }


def test_clip_grad_norm_scales_in_place_and_returns_the_norm_before():
    members = parameters({"a": (2,), "b": (2,), "c": (3,)})
    a, b, _ = members.values()
    a.grad, b.grad = np.array([3.0, 0.0]), np.array([0.0, 4.0])
    memory = a.grad
    assert optim.clip_grad_norm(members.values(), 1.0) == 5.0
    assert a.grad is memory
    assert difference(a.grad, [0.6, 0.0]) <= 1e-6
    assert difference(b.grad, [0.0, 0.8]) <= 1e-6
    assert members["c"].grad is None


def test_clip_grad_norm_leaves_small_and_not_finite_gradients():
    weight = Parameter(np.zeros(2))
    for gradient in ([3.0, 4.0], [np.nan, 1.0], [np.inf, 1.0]):
        weight.grad = np.array(gradient)
        optim.clip_grad_norm([weight], 6.0)
        assert np.array_equal(weight.grad, gradient, equal_nan=True)


def test_clip_grad_norm_takes_gradients_that_are_not_contiguous():
    weight = Parameter(np.zeros((3, 2), np.float32))
    wide = np.ones((2, 6), np.float32)
    weight.grad = wide[:, ::2].T
    assert optim.clip_grad_norm([weight], 1.0) == pytest.approx(math.sqrt(6))
    assert difference(wide[:, ::2], np.full((2, 3), 6**-0.5)) <= 1e-6
    assert np.array_equal(wide[:, 1::2], np.ones((2, 3)))


def test_clip_grad_value_bounds_every_element_in_place():
    weight, other = Parameter(np.zeros(4)), Parameter(np.zeros(2))
    weight.grad = np.array([-3.0, -0.2, 0.2, 3.0])
    memory = weight.grad
    optim.clip_grad_value([weight, other], 0.5)
    assert weight.grad is memory
    assert weight.grad.tolist() == [-0.5, -0.2, 0.2, 0.5]
    assert other.grad is None
