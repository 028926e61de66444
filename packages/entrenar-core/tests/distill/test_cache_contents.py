"""What a cache keeps of a teacher's predictions, beside the definitions of it."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, IntegrityError
from entrenar_core.distill.cache import Settings, fidelity
from entrenar_core.distill.cache.index import index_type
from entrenar_core.distill.cache.row import RowForm, StoredRow
from entrenar_core.distill.cache.selection import log_probabilities, select
from teacher_caches import LENGTH, SHARED, cached, live, rows


def softmax(z):
    z = z.astype(np.float64)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def drawn(n=6, width=40, spread=2.0):
    return (np.random.default_rng(1).standard_normal((n, width)) * spread).astype(np.float32)


# --- which ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mass", [0.3, 0.9, 0.999])
def test_as_few_ids_are_kept_as_have_the_mass(mass):
    logits = drawn()
    counts, ids, _, _ = select(logits.copy(), Settings((1.0,), mass=mass, max_k=40))
    begin = 0
    for p, count in zip(softmax(logits), counts, strict=True):
        kept = ids[begin : begin + count]
        begin += count
        assert np.array_equal(kept, np.argsort(-p, kind="stable")[:count])
        assert p[kept[:-1]].sum() < mass <= p[kept].sum() + 1e-9
    assert begin == len(ids)


def test_no_more_than_max_k_and_at_least_one_are_kept():
    few, _, _, _ = select(drawn(), Settings((1.0,), mass=0.999, max_k=3))
    one, _, _, _ = select(drawn(spread=30.0), Settings((1.0,), mass=1e-6, max_k=3))
    assert (few.tolist(), one.tolist()) == ([3] * 6, [1] * 6)


def test_a_mass_of_one_keeps_everything():
    counts, _, _, tails = select(drawn(spread=30.0), Settings((1.0,), mass=1.0, max_k=1000))
    assert counts.tolist() == [40] * 6
    assert (tails == -np.inf).all()


@pytest.mark.parametrize("max_k", [2, 3, 5])
def test_of_equally_likely_ids_the_first_are_kept(max_k):
    logits = np.zeros((2, 6), np.float32)
    logits[1, [4, 2]] = 1.0
    _, ids, _, _ = select(logits, Settings((1.0,), mass=1.0, max_k=max_k))
    assert ids[:max_k].tolist() == list(range(max_k))
    assert ids[max_k:].tolist() == [2, 4, 0, 1, 3, 5][:max_k]


@pytest.mark.parametrize("spread", [2.0, 60.0])
def test_the_tail_is_what_the_others_have_at_each_temperature(spread):
    logits, temperatures = drawn(spread=spread), (0.5, 1.0, 4.0)
    counts, ids, _, tails = select(logits.copy(), Settings(temperatures, mass=0.8, max_k=9))
    mask = np.ones(logits.shape, bool)
    mask[np.repeat(np.arange(6), counts), ids] = False
    for temperature, found in zip(temperatures, tails, strict=True):
        z = logits.astype(np.float64) / temperature
        others = np.where(mask, z, -np.inf)
        wanted = np.logaddexp.reduce(others, axis=-1) - np.logaddexp.reduce(z, axis=-1)
        assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("precision", [np.float16, np.float32])
def test_probabilities_add_up_to_one_however_they_are_rounded(precision):
    counts, _, values, tails = select(drawn(), Settings((2.0,), mass=0.9, max_k=30))
    owners = np.repeat(np.arange(6), counts)
    stored = values.astype(precision).astype(np.float64)
    log_p = log_probabilities(stored, owners, tails[0], 2.0)
    assert np.bincount(owners, np.exp(log_p)) + np.exp(
        tails[0].astype(np.float64)
    ) == pytest.approx(1, abs=1e-12)


# --- bytes --------------------------------------------------------------------------------------

FORMS = [
    RowForm(tokens, temperatures, precision, wide)
    for tokens, temperatures, precision, wide in [
        (3, 1, "float16", False),
        (3, 2, "float32", False),
        (4, 3, "float16", True),
        (5, 1, "float32", True),
    ]
]


def stored(form):
    rng, counts = np.random.default_rng(2), np.arange(form.tokens) * 2
    high = 2**24 if form.wide else 2**16
    values = rng.standard_normal(counts.sum()).astype(np.float16).astype(np.float32)
    return StoredRow(
        tokens=rng.integers(0, high, form.tokens),
        counts=counts,
        ids=rng.integers(0, high, counts.sum()),
        values=values,
        tails=rng.standard_normal((form.temperatures, form.tokens)).astype(np.float32),
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_row_is_read_as_it_was_written(form):
    row = stored(form)
    found = StoredRow.unpacked(row.packed(form), form, where="here")
    for name in ("tokens", "counts", "ids", "values", "tails"):
        assert np.array_equal(getattr(found, name), getattr(row, name)), name


@pytest.mark.parametrize("form", FORMS)
def test_a_row_has_the_bytes_that_it_is_documented_to_have(form):
    row, kept = stored(form), form.tokens * (form.tokens - 1)
    h, v = int(form.wide), {"float16": 2, "float32": 4}[form.precision]
    wanted = form.tokens * (4 * form.temperatures + 4 + h) + kept * (v + 2 + h)
    assert len(row.packed(form)) == form.size(kept) == wanted


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:9]])
def test_a_row_of_another_size_is_refused(change):
    data = change(stored(FORMS[0]).packed(FORMS[0]))
    with pytest.raises(IntegrityError, match=f"^here: has {len(data)} bytes, wanted"):
        StoredRow.unpacked(data, FORMS[0], where="here")


@pytest.mark.parametrize(("precision", "value"), [("float16", 2), ("float32", 4)])
def test_a_cache_has_the_bytes_that_follow_from_what_is_kept(tmp_path, precision, value):
    folder = cached(tmp_path / "cache", precision=precision).folder
    kept, temperatures = int(folder.index["kept"].sum()), 2
    sizes = {p.suffix: p.stat().st_size for p in folder.path.iterdir() if p.suffix != ".json"}
    assert sizes[".rows"] == 9 * LENGTH * (4 * temperatures + 4) + kept * (value + 2)
    assert sizes[".index"] == 9 * (4 * 8 + 8 * temperatures)
    assert index_type(temperatures).itemsize == 4 * 8 + 8 * temperatures
    assert folder.size == sizes[".rows"] + sizes[".index"]


def test_the_index_has_the_sums_of_its_rows(tmp_path):
    teacher, batches = cached(tmp_path / "cache"), rows()
    for row_id, entry in enumerate(teacher.folder.index):
        row = teacher.folder.row(row_id)
        p = softmax(
            live().expected(batches.gather(np.array([row_id]))).logits(slice(0, LENGTH))[:, :SHARED]
        )
        owners = np.repeat(np.arange(LENGTH), row.counts)
        assert (entry["targets"], entry["kept"]) == (LENGTH, row.counts.sum())
        assert entry["mass"][1] == pytest.approx(p[owners, row.ids].sum(), rel=1e-5)


# --- how near it is -----------------------------------------------------------------------------


def dense(row, temperature, place):
    """What a cache has of the positions of a row, the rest evenly on what was left out (T, V)."""
    found, begin = [], 0
    for count, tail in zip(row.counts, row.tails[place].astype(np.float64), strict=True):
        ids, values = (x[begin : begin + count] for x in (row.ids, row.values.astype(np.float64)))
        begin += count
        p = np.full(SHARED, np.exp(tail) / (SHARED - count))
        heads = np.exp(values / temperature)
        p[ids] = heads / heads.sum() * (1 - np.exp(tail))
        found.append(p)
    return np.array(found)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_the_distance_from_the_teacher_is_that_of_the_distributions(tmp_path, precision):
    teacher, batches, told = cached(tmp_path / "cache", precision=precision), rows(), live()
    for place, near in enumerate(fidelity(teacher, told, batches)):
        spread, rounding = 0.0, 0.0
        for row_id in range(9):
            row = teacher.folder.row(row_id)
            logits = told.expected(batches.gather(np.array([row_id]))).logits(slice(0, LENGTH))
            p = softmax(logits[:, :SHARED].astype(np.float64) / near.temperature)
            q = dense(row, near.temperature, place)
            spread += (p * np.log(p / q)).sum()
            mask = np.zeros(p.shape, bool)
            mask[np.repeat(np.arange(LENGTH), row.counts), row.ids] = True
            rounding += np.where(mask, p * np.log(p / q), 0).sum()
            a, b = (np.where(mask, 0, x).sum(axis=-1) for x in (p, q))
            rounding += (a * np.log(a / b)).sum()
        assert near.spread == pytest.approx(spread / (9 * LENGTH), rel=1e-6)
        assert near.rounding == pytest.approx(rounding / (9 * LENGTH), rel=1e-3, abs=1e-12)


def test_rounding_costs_less_than_its_square(tmp_path):
    """KL is quadratic near 0: half the variance of the rounding of log p, here below 2⁻⁷/2 each."""
    for near in fidelity(cached(tmp_path / "cache"), live(), rows()):
        assert 0 <= near.rounding <= (2**-8) ** 2 / 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"mass": 0.0},
        {"mass": 1.1},
        {"max_k": 0},
        {"max_k": 65536},
        {"precision": "int8"},
        {"temperatures": ()},
        {"temperatures": (1.0, 1.0)},
        {"temperatures": (0.0,)},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} .* is not possible"):
        Settings(**{"temperatures": (1.0,), **wrong})
