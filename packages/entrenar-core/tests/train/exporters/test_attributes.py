"""What of a configuration may leave the machine."""

import pytest

from entrenar_core.train.exporters.attributes import flattened, is_private, sendable


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token", "x"),
        ("hf_token", "x"),
        ("hub.accessToken", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("apikey", "x"),
        ("api_keys", '["x"]'),
        ("db.password", 1234),
        ("headers.x-any", "x"),
        ("Authorization", "x"),
        ("endpoint", "https://me:pw@host/"),
        ("endpoint", "https://host/?a=b&sig_token=x"),
    ],
)
def test_what_looks_like_a_secret_is_private(name, value):
    assert is_private(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", 512),
        ("num_key_value_heads", 8),
        ("tokenizer", "bpe"),
        ("monkey", "see"),
        ("keyboard", "de"),
        ("add_special_tokens", True),
        ("endpoint", "https://host:4318/v1"),
        ("schedule", "cosine"),
    ],
)
def test_what_does_not_is_not(name, value):
    assert not is_private(name, value)


def test_nested_settings_have_names_with_dots():
    settings = {"a": {"b": [{"c": 1}, {"c": None}]}, "d": [1, 2], "e": {}, "f": "x"}
    assert flattened(settings, prefix="p.") == {"p.a.b.0.c": 1, "p.d": "[1, 2]", "p.f": "x"}


def test_a_long_text_is_cut():
    assert len(sendable({"a": "x" * 100_000})["a"]) == 4096
