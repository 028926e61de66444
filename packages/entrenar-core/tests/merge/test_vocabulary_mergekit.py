"""The same tokenizers, and the same bytes of embeddings, as mergekit's own functions make."""

from dataclasses import dataclass, field
from functools import cache
from itertools import cycle

import ml_dtypes
import numpy as np
import pytest

from entrenar_core.merge.group import Held, rows_and_columns
from entrenar_core.merge.token_choice import ModelToken, TokenChoice, TokenizerChoice, Zero
from entrenar_core.merge.tokens import merged_tokens
from entrenar_core.merge.vocabulary import Vocabulary
from mergekit_tokens import ROWS, SETS, assert_same_tokenizer, size_of, tokens_of, write

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning"),  # mergekit
]

COLUMNS = 128
"""Whole vectors of torch's sums, also where threads share them: other columns are summed up in an
order that depends on the machine."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The folders of the models, of each set that was asked for."""

    @cache
    def made(name):
        root = tmp_path_factory.mktemp("models")
        return {
            model: write(root / model, content, size_of(content) + ROWS.get((name, model), 0))
            for model, content in SETS[name]().items()
        }

    return made


@pytest.fixture
def ordered(monkeypatch):
    """mergekit adds ordinary tokens in the order of a hash table, a new one in every process. Here
    it is that of their ids."""
    pytest.importorskip("mergekit")
    backend = pytest.importorskip("transformers").tokenization_utils_tokenizers.TokenizersBackend
    unordered = backend.get_vocab
    monkeypatch.setattr(
        backend, "get_vocab", lambda self: dict(sorted(unordered(self).items(), key=_number))
    )


def _number(item):
    return item[1]


@dataclass
class Case:
    """A choice, with models by their names, as both sides understand it."""

    source: str = "union"
    tokens: dict[str, tuple] = field(default_factory=dict)
    """token → (source, force); a source is a name, (name, token or id), 0 or None."""
    pad: int | None = None
    base: str | None = "base"
    models: str = "byte-level"
    """One of SETS."""

    def ours(self, folders):
        chosen = {t: TokenChoice(self._ours(s, folders), f) for t, (s, f) in self.tokens.items()}
        source = self._source(folders)
        models = {folders[name]: tokens_of(folders[name]) for name in folders}
        base = folders.get(self.base)
        choice = TokenizerChoice(source, chosen, self.pad)
        return Vocabulary(merged_tokens(models, choice, base=base), choice, base)

    def _source(self, folders):
        return self.source if self.source in ("base", "union") else folders[self.source]

    def _ours(self, source, folders):
        if isinstance(source, tuple):
            key = "token" if isinstance(source[1], str) else "token_id"
            return ModelToken(folders[source[0]], **{key: source[1]})
        return Zero() if source == 0 else folders.get(source)

    def theirs(self, folders):
        """What mergekit builds: its tokenizer info, and the task that permutes embeddings."""
        from mergekit.common import ImmutableMap
        from mergekit.tokenizer.build import build_tokenizer
        from mergekit.tokenizer.config import TokenEmbeddingConfig
        from mergekit.tokenizer.embed import PermutedVocabulary

        named = references(folders)
        source = self.source if self.source in ("base", "union") else named[self.source]
        base = named.get(self.base)
        info = build_tokenizer(base, [*named.values()], source, False, [*self.tokens])
        tokens = {
            token: TokenEmbeddingConfig(source=self._theirs(s, named), force=force)
            for token, (s, force) in self.tokens.items()
        }
        task = PermutedVocabulary.model_construct(
            tokens=ImmutableMap(data=tokens),
            pad_to_multiple_of=self.pad,
            base_model=base,
            vocabulary_axis=0,
        )
        return info, task

    def _theirs(self, source, named):
        if isinstance(source, tuple):
            key = "token" if isinstance(source[1], str) else "token_id"
            return {"kind": "model_token", "model": named[source[0]], key: source[1]}
        return {"kind": "zero"} if source == 0 else named.get(source)


CASES = {
    "union": Case(),
    "union without a base": Case(base=None),
    "base": Case("base"),
    "a model": Case("third"),
    "padded": Case(pad=64),
    "tokens without a row": Case(models="stripped", pad=16),
    "a base with tokens without a row": Case("base", models="stripped"),
    "other kinds": Case(models="kinds"),
    "averages of three": Case(models="four"),
    "new tokens": Case(
        tokens={
            "<new>": (("second", "<tool>"), False),
            " new token": (("third", 300), False),
            "nothing": (0, False),
            "<tool>": ("second", True),
            "<|im_end|>": ("third", False),
            "<|im_start|>": (("base", "</s>"), True),
        },
        pad=100,
    ),
    "new tokens in a model's": Case(
        "second", {"<new>": (0, False), "<s>": ("base", True)}, base=None
    ),
}


def references(folders):
    from mergekit.common import ModelReference

    return {name: ModelReference.parse(str(folder)) for name, folder in folders.items()}


def tables(folders, dtypes):
    random = np.random.default_rng(5)
    sizes = {name: tokens_of(folder).rows for name, folder in folders.items()}
    return {
        name: random.standard_normal((rows, COLUMNS), np.float32).astype(dtype)
        for (name, rows), dtype in zip(sizes.items(), cycle(dtypes), strict=False)
    }


def as_torch(array):
    torch = pytest.importorskip("torch")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@pytest.mark.usefixtures("ordered")
@pytest.mark.parametrize("name", CASES)
def test_the_tokenizer_is_the_one_that_mergekit_builds(name, sets, tmp_path):
    folders = sets(CASES[name].models)
    ours, (info, _) = CASES[name].ours(folders), CASES[name].theirs(folders)
    assert dict(ours.tokens.vocabulary) == info.tokenizer.get_vocab()
    assert_same_tokenizer(ours.tokens.tokenizer, info.tokenizer, tmp_path)


F32, BF16, F16 = np.float32, ml_dtypes.bfloat16, np.float16


@pytest.mark.usefixtures("ordered")
@pytest.mark.parametrize("dtypes", [(F32,) * 3, (BF16,) * 3, (F16,) * 3, (BF16, F16, BF16)])
@pytest.mark.parametrize("name", CASES)
def test_embeddings_are_those_of_mergekit_bit_for_bit(name, dtypes, sets):
    case, folders = CASES[name], sets(CASES[name].models)
    assert_same_tables(case, folders, tables(folders, dtypes))


@pytest.mark.usefixtures("ordered")
@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("name", CASES)
def test_tensors_of_one_axis_are_those_of_mergekit(name, dtype, sets):
    case, folders = CASES[name], sets(CASES[name].models)
    # Small integers: their sum is exact, and its order, which depends on the machine, is the same.
    made = {
        key: (np.arange(tokens_of(folder).rows) * 7 % 5 - 2).astype(dtype)
        for key, folder in folders.items()
    }
    assert_same_tables(case, folders, made)


def assert_same_tables(case, folders, made):
    ours, (info, task) = case.ours(folders), case.theirs(folders)
    named = references(folders)
    wanted = task.execute(info, {named[key]: as_torch(table) for key, table in made.items()})
    found = ours.aligned({folders[key]: Held(table) for key, table in made.items()})
    for key in folders:
        rows = found[folders[key]]
        expected = wanted[named[key]]
        assert rows.shape == tuple(expected.shape)
        count = rows_and_columns(rows.shape)[0]
        read = np.concatenate([rows.read(slice(0, 333)), rows.read(slice(333, count))])
        read = read.reshape(rows.shape)
        assert read.dtype == rows.dtype == as_numpy(expected).dtype
        np.testing.assert_array_equal(as_bits(read), as_bits(as_numpy(expected)))


def as_numpy(tensor):
    torch = pytest.importorskip("torch")
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def as_bits(array):
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
