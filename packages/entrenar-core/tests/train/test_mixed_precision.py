"""Training whose matrices are multiplied in bfloat16, beside the same in float32."""

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError
from entrenar_core import lora, models
from entrenar_core.autograd.precision import BF16, WHOLE, products
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.kernels import has_bf16
from entrenar_core.models.packing import pack
from entrenar_core.optim import AdamW
from entrenar_core.train import config as config_module
from entrenar_core.train import precision_notes as notes_module
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.precision_notes import precision_notes
from entrenar_core.train.trainer import Trainer

pytestmark = pytest.mark.tier2

SHAPE = {
    "vocab_size": 60, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 32, "eos_token_id": 0,
}  # fmt: skip
KINDS = ("weights", "lora", "qlora")


def documents():
    rng = np.random.default_rng(0)
    starts = rng.integers(1, 60, size=8)
    ids = [((s + np.arange(100) ** 2) % 59 + 1).astype(np.int32) for s in starts]
    return TokenizedDocuments.from_arrays([f"{i}.txt" for i in range(8)], ids, [100] * 8)


BATCHES = Batches(documents(), seq_len=32, batch_size=4, seed=0, eos_id=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    models.save(models.from_config(SHAPE, seed=0), folder)
    return folder


def made(kind, source, precision):
    """The model to train: as a whole, or an adapter on weights that are kept as `precision` or in
    NF4."""
    if kind == "weights":
        return models.load(source)
    few = {"quantize": "nf4"} if kind == "qlora" else {}
    kept = "bfloat16" if precision == "bf16" else "float32"
    model = models.load(source, dtype=kept, **few)
    lora.adapt(model, lora.LoraConfig(rank=4, alpha=8), seed=0)
    pack(model)
    return model


def trained(kind, source, precision, **options):
    model = made(kind, source, precision)
    optimizer = AdamW({n: p for n, p in model.named_parameters().items() if p.requires_grad})
    config = TrainingConfig.model_validate({"max_steps": 30, "learning_rate": 3e-3})
    trainer = Trainer(
        model, optimizer, LanguageModelling(model), config=config, mixed_precision=precision,
        **options,
    )  # fmt: skip
    trainer.fit(BATCHES)
    return trainer.loss_on(BATCHES), model


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_in_bfloat16_ends_where_that_in_float32_does(kind, base):
    whole, _ = trained(kind, base, "fp32")
    rounded, model = trained(kind, base, "bf16")
    assert rounded == pytest.approx(whole, rel=5e-3)
    assert rounded != whole
    trainable = [p for p in model.named_parameters().values() if p.requires_grad]
    assert {p.data.dtype for p in trainable} == {np.dtype("float32")}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_point_where_those_in_float32_do(kind, base):
    found = {}
    for precision in ("fp32", "bf16"):
        model = made(kind, base, "fp32")
        for name, parameter in model.named_parameters().items():
            if "lora_B" in name:  # which begins as zeros, and hides what is behind it
                rng = np.random.default_rng(len(name))
                parameter.data = 0.1 * rng.standard_normal(parameter.shape, np.float32)
        config = TrainingConfig.model_validate({"mixed_precision": precision})
        seen = []

        class Watched(LanguageModelling):
            def loss(self, batch, normalizer, seen=seen):
                seen.append(products())
                return super().loss(batch, normalizer)

        trained = {n: p for n, p in model.named_parameters().items() if p.requires_grad}
        trainer = Trainer(model, AdamW(trained), Watched(model), config=config)
        kept = {}
        step = trainer.optimizer.step

        def looking(*args, kept=kept, trained=trained, step=step, **options):
            if not kept:
                kept |= {n: p.grad.copy() for n, p in trained.items()}
            return step(*args, **options)

        trainer.optimizer.step = looking
        trainer.fit(Batches(documents(), seq_len=32, batch_size=8, seed=0, eos_id=0))
        assert set(seen) == {BF16 if precision == "bf16" else WHOLE}
        found[precision] = kept
    for name, whole in found["fp32"].items():
        a, b = whole.astype(np.float64).ravel(), found["bf16"][name].astype(np.float64).ravel()
        assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.999, name


def test_the_same_training_gives_the_same_bits(base):
    first, second = (trained("weights", base, "bf16")[1].named_parameters() for _ in range(2))
    assert all(np.array_equal(p.data, second[n].data) for n, p in first.items())


def test_a_training_is_not_gone_on_with_in_another_precision(base, tmp_path):
    trained("weights", base, "bf16", folder=tmp_path)
    model = models.load(base)
    trainer = Trainer(
        model, AdamW(model.named_parameters()), LanguageModelling(model), folder=tmp_path,
        config=TrainingConfig.model_validate({"max_steps": 30, "learning_rate": 3e-3}),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="of a training that differs"):
        trainer.fit(BATCHES, resume=True)


@pytest.mark.parametrize(("able", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_the_processor_can(able, wanted, monkeypatch):
    monkeypatch.setattr(config_module, "has_bf16", lambda: able)
    config = TrainingConfig.model_validate({"mixed_precision": "auto"})
    assert config.mixed_precision == wanted
    assert config.products is (BF16 if able else WHOLE)


@pytest.mark.parametrize(
    ("able", "said"), [(True, "by the processor's instructions"), (False, "has no instructions")]
)
def test_what_multiplies_is_said(able, said, monkeypatch):
    monkeypatch.setattr(notes_module, "has_bf16", lambda: able)
    (note,) = precision_notes(TrainingConfig.model_validate({"mixed_precision": "bf16"}))
    assert said in note
    assert precision_notes(TrainingConfig.model_validate({})) == []


def test_what_is_frozen_takes_half_the_memory(base):
    def size(model):
        return sum(p.data.nbytes for p in model.named_parameters().values() if p.data.ndim == 2)

    model = models.load(base, dtype="bfloat16")
    before = {n: np.asarray(p.data, np.float32) for n, p in model.named_parameters().items()}
    pack(model)
    assert size(model) < (0.75 if has_bf16() else 0.51) * size(models.load(base))  # small panels
    after = {n: np.asarray(p.data, np.float32) for n, p in model.named_parameters().items()}
    assert all(np.array_equal(before[n], after[n]) for n in before)
