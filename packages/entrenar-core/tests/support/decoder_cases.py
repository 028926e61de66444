"""Configurations of every causal architecture that its tests go through."""

from typing import Any

from entrenar_core.testing import tiny_config

CASES: dict[str, dict[str, dict[str, Any]]] = {
    "llama": {
        "multi-head": {"num_key_value_heads": 4},
        "multi-query, tied head": {"num_key_value_heads": 1, "tie_word_embeddings": True},
        "biases, padding": {"attention_bias": True, "mlp_bias": True, "pad_token_id": 7},
        "wide heads, llama3 rope": {
            "head_dim": 10,
            "rope_theta": 500.0,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
            },
        },
        "yarn": {
            "rms_norm_eps": 1e-2,
            "rope_scaling": {
                "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
            },
        },
    },
    "mistral": {
        "window": {"sliding_window": 5},
        "window of one": {"sliding_window": 1, "num_key_value_heads": 4},
        "no window, tied head, padding": {
            "sliding_window": None, "tie_word_embeddings": True, "pad_token_id": 7,
        },
        "wide heads": {"head_dim": 10, "num_key_value_heads": 1, "sliding_window": 7},
        "window larger than the sequence": {"sliding_window": 500, "rope_theta": 500.0},
    },
    "qwen2": {
        "no window": {"use_sliding_window": False},
        "window from a layer on": {
            "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1,
        },
        "window on chosen layers": {
            "use_sliding_window": True,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "tied head": {"tie_word_embeddings": True, "num_key_value_heads": 1},
        "linear rope": {
            "num_key_value_heads": 4, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        },
    },
    "qwen3": {
        "wide heads": {"head_dim": 10},
        "biases, tied head": {"head_dim": 6, "attention_bias": True, "tie_word_embeddings": True},
        "window": {
            "head_dim": 8, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0,
        },
        "multi-query": {"head_dim": 6, "num_key_value_heads": 1, "rms_norm_eps": 1e-2},
    },
    "gpt2": {
        "as GPT-2": {},
        "untied, relu": {"tie_word_embeddings": False, "activation_function": "relu"},
        "unscaled, gelu": {"scale_attn_weights": False, "activation_function": "gelu"},
        "scaled by layer, silu": {
            "scale_attn_by_inverse_layer_idx": True, "activation_function": "silu", "n_layer": 3,
        },
        "default inner width": {"n_inner": None, "layer_norm_epsilon": 1e-2},
        "tanh": {"activation_function": "tanh", "n_head": 1},
    },
}  # fmt: skip
"""`model_type` → name → keys of a `config.json` beside those of `tiny_config`."""

PARAMETERS = [(kind, name) for kind, cases in CASES.items() for name in cases]


def config_of(kind: str, name: str, **more: Any) -> dict[str, Any]:
    """The keys of the case; with room for 96 positions and no end of text."""
    positions = "n_positions" if kind == "gpt2" else "max_position_embeddings"
    own = {positions: 96, "eos_token_id": None, "bos_token_id": None}
    return tiny_config(kind, **{**own, **CASES[kind][name], **more})
