"""BERT, RoBERTa and DistilBERT as GGUF files describe them: keys from a config, and back.

All three are `bert` to llama.cpp, which computes sentence embeddings with them and nothing else.
It counts positions from 0, takes every token to be of type 0, and computes GELU by tanh.
"""

from typing import Any, ClassVar

import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_core.io.gguf import GGUFFiles, Value, f32, flag, u32
from entrenar_core.models.gguf_family import Described, Family, decimal, register
from entrenar_core.models.gguf_names import BERT, DISTILBERT, Names
from entrenar_core.models.pooling import Pooling
from entrenar_core.models.sentence import SentenceSettings

POOLINGS = {"mean": 1, "cls": 2}
"""Pooling by mode → `pooling_type`."""

TYPES = "token_types.weight"
POSITIONS = "position_embd.weight"


class EncoderFamily(Family):
    """What llama.cpp calls `bert`."""

    names = Names(BERT)
    head = "embedding"
    unused = ("pooler.",)
    activation_key: ClassVar[str] = "hidden_act"

    def describe(self, model: Any) -> Described:
        if not hasattr(model, "sentence"):
            raise UnsupportedError(
                f"llama.cpp's bert computes sentence embeddings alone, and no {model.hf_class}",
                hint="write this model as safetensors",
            )
        config, pooling = model.config, model.sentence.pooling
        activation = getattr(config, self.activation_key)
        if activation not in ("gelu", "gelu_new"):
            raise UnsupportedError(
                f"llama.cpp's bert has no {self.activation_key} of {activation!r}",
                hint="this model cannot be written as GGUF; use safetensors",
            )
        if pooling.mode not in POOLINGS:
            raise UnsupportedError(
                f"llama.cpp has no pooling of mode {pooling.mode!r}",
                hint=f"it has {', '.join(POOLINGS)}; this model can be written as safetensors",
            )
        notes = []
        if activation == "gelu":
            notes.append("llama.cpp computes GELU by tanh: values differ by up to 5e-4 of it")
        if pooling.normalise:
            notes.append("the embeddings are not normalised in the file: llama.cpp does it by flag")
        here = self.architecture
        keys: dict[str, Value] = {
            f"{here}.context_length": u32(config.positions),
            f"{here}.embedding_length": u32(config.hidden_size),
            f"{here}.block_count": u32(config.num_hidden_layers),
            f"{here}.feed_forward_length": u32(config.intermediate_size),
            f"{here}.attention.head_count": u32(config.num_attention_heads),
            f"{here}.attention.layer_norm_epsilon": f32(self.epsilon(config)),
            f"{here}.attention.causal": flag(False),
            f"{here}.pooling_type": u32(POOLINGS[pooling.mode]),
            "tokenizer.ggml.token_type_count": u32(self.types(config)),
        }
        return Described(keys, notes=tuple(notes))

    def epsilon(self, config: Any) -> float:
        """The ε of every norm."""
        return config.layer_norm_eps

    def types(self, config: Any) -> int:
        """How many types tokens can have."""
        return config.type_vocab_size

    def raw(self, file: GGUFFiles) -> dict[str, Any]:
        here = self.architecture
        types = file.tensors[TYPES].shape[0] if TYPES in file.tensors else 1
        return {
            "model_type": "bert",
            "max_position_embeddings": file.metadata.integer(f"{here}.context_length"),
            "hidden_size": file.metadata.integer(f"{here}.embedding_length"),
            "num_hidden_layers": file.metadata.integer(f"{here}.block_count"),
            "intermediate_size": file.metadata.integer(f"{here}.feed_forward_length"),
            "num_attention_heads": file.metadata.integer(f"{here}.attention.head_count"),
            "layer_norm_eps": decimal(file, f"{here}.attention.layer_norm_epsilon"),
            "hidden_act": "gelu",
            "type_vocab_size": types,
        }

    def implied(self, file: GGUFFiles) -> dict[str, np.ndarray]:
        """DistilBERT's files have no types of tokens."""
        if TYPES in file.tensors or "token_embd.weight" not in file.tensors:
            return {}
        width = file.tensors["token_embd.weight"].shape[1]
        return {"embeddings.token_type_embeddings.weight": np.zeros((1, width), np.float32)}

    def settle(self, file: GGUFFiles, model: Any) -> None:
        number = file.metadata.integer(f"{self.architecture}.pooling_type", POOLINGS["mean"])
        for mode, known in POOLINGS.items():
            if number == known:
                model.sentence = SentenceSettings(Pooling(mode))
                return
        raise UnsupportedError(
            f"{file.path}: {self.architecture}.pooling_type is {number}, which is not supported",
            hint=f"supported: {', '.join(f'{n} ({mode})' for mode, n in POOLINGS.items())}",
        )


class RobertaFamily(EncoderFamily):
    """RoBERTa: the rows of positions before the first that is used are cut off."""

    def to_gguf(self, name: str, array: np.ndarray, config: Any) -> np.ndarray:
        return array[config.pad_token_id + 1 :] if name == POSITIONS else array

    def gguf_shape(self, name: str, shape: tuple[int, ...], config: Any) -> tuple[int, ...]:
        return (config.positions, *shape[1:]) if name == POSITIONS else shape


class DistilBertFamily(EncoderFamily):
    """DistilBERT: a BERT without types of tokens."""

    names = Names(DISTILBERT)
    activation_key = "activation"

    def epsilon(self, config: Any) -> float:
        del config
        return 1e-12

    def types(self, config: Any) -> int:
        del config
        return 1


BERT_FAMILY = register(EncoderFamily("bert", ("bert",)))
ROBERTA_FAMILY = register(RobertaFamily("bert", ("roberta",)))
DISTILBERT_FAMILY = register(DistilBertFamily("bert", ("distilbert",)))
