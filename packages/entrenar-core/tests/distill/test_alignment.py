"""Which tokens of two tokenizers cover the same bytes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from byte_tokenizers import KINDS, TEXTS, byte_level, lowercasing, of_kind, words
from entrenar_common.errors import ConfigError, IntegrityError
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.spelling import Spelling
from entrenar_core.data.tokenizer import train_bpe
from entrenar_core.distill.alignment import align, common_cuts
from entrenar_core.distill.cross_tokenizer import describe
from entrenar_core.distill.matching import match

SPELLINGS = {name: Spelling(of_kind(name)) for name in KINDS}
BYTE_LEVEL = ("bytes", "few merges", "many merges", "a template")

characters = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from([*"the cat and dog\r\n\t", "é", "e\u0301", "漢", "🙂", "ﬁ", "</s>", "\u0000"]),
)
texts = st.lists(characters, max_size=40).map("".join)
pairs = st.sampled_from(list(itertools.product(KINDS, repeat=2)))
byte_level_pairs = st.sampled_from(list(itertools.product(BYTE_LEVEL, repeat=2)))


def spans(name, text):
    (found,) = SPELLINGS[name].spans([text])
    return found


def ranges(found, cuts):
    """The bytes of each group by the ends of its tokens."""
    ends = [0, *(int(found.ends[cut - 1]) for cut in cuts[1:])]
    return list(itertools.pairwise(ends))


@settings(max_examples=150, deadline=None)
@given(texts, pairs)
def test_groups_cover_the_same_bytes_on_both_sides_and_every_byte_once(text, names):
    ours, theirs = (spans(name, text) for name in names)
    cuts, their_cuts = common_cuts(ours, theirs)
    covered = ranges(ours, cuts)
    assert covered == ranges(theirs, their_cuts)
    assert all(low < high for low, high in covered)
    if ours.last > ours.first and theirs.last > theirs.first:  # words make no token of spaces
        assert [0, *(high for _, high in covered)][-1] == len(text.encode())
        assert (cuts[-1], their_cuts[-1]) == (ours.last, theirs.last)
    assert (cuts[0], their_cuts[0]) == (ours.first, theirs.first)


@pytest.mark.tier2
@settings(max_examples=150, deadline=None)
@given(texts, byte_level_pairs)
def test_the_tokens_of_a_group_decode_to_its_bytes(text, names):
    ours, theirs = (spans(name, text) for name in names)
    data = text.encode()
    for name, found, cuts in zip(names, (ours, theirs), common_cuts(ours, theirs), strict=True):
        for (low, high), (first, last) in zip(
            ranges(found, cuts), itertools.pairwise(cuts), strict=True
        ):
            decoded = of_kind(name).decode(found.ids[first:last])
            assert decoded == data[low:high].decode(errors="replace")


@pytest.mark.tier2
@settings(max_examples=100, deadline=None)
@given(texts, byte_level_pairs)
def test_no_boundary_that_both_have_is_inside_a_group(text, names):
    ours, theirs = (spans(name, text) for name in names)
    lengths = [
        [len(bytes_of(SPELLINGS[name], number)) for number in found.ids[found.first : found.last]]
        for name, found in zip(names, (ours, theirs), strict=True)
    ]
    common = set.intersection(*(set(itertools.accumulate(sizes)) for sizes in lengths))
    assert [high for _, high in ranges(ours, common_cuts(ours, theirs)[0])] == sorted(common)


def bytes_of(spelling, number):
    """What the tokenizer itself prints for a token: escaped where it is part of a character."""
    return spelling.keys[number][1]


@pytest.mark.tier2
@settings(max_examples=100, deadline=None)
@given(texts, st.sampled_from(list(KINDS)))
def test_the_ids_are_those_of_the_tokenizer(text, name):
    assert np.array_equal(spans(name, text).ids, of_kind(name).encode(text))


def test_a_boundary_can_lie_inside_a_character():
    ours, theirs = spans("bytes", "é"), spans("bytes", "é")
    assert ranges(ours, common_cuts(ours, theirs)[0]) == [(0, 1), (1, 2)]


def test_bytes_that_stand_for_one_character_are_one_group_beside_pieces():
    ours, theirs = spans("bytes", "th🙂"), spans("pieces", "th🙂")
    cuts, their_cuts = common_cuts(ours, theirs)
    assert ranges(ours, cuts) == [(0, 2), (2, 6)]
    assert np.diff(cuts).tolist() == [2, 4]
    # the mark of the word's start and "th"; then four bytes
    assert np.diff(their_cuts).tolist() == [2, 4]


def test_spaces_that_are_in_no_token_go_to_the_next_one_and_at_the_end_to_the_last():
    assert ranges(spans("words", " the  dog "), [0, 1, 2]) == [(0, 4), (4, 10)]


def test_spans_are_of_the_text_before_it_is_normalised():
    text = "e\u0301a"  # NFC makes one character of the first two
    found = spans("NFC", text)
    assert ranges(found, np.flatnonzero(np.concatenate([[True], found.cuts]))) == [(0, 3), (3, 4)]


# --- documents ----------------------------------------------------------------------------------


def documents(tokenizer, texts=TEXTS):
    sizes = [len(text.encode()) for text in texts]
    return TokenizedDocuments.from_arrays(
        [f"text {i}" for i in range(len(texts))], tokenizer.encode_many(texts), sizes
    )


def aligned(student, teacher, texts=TEXTS):
    return align(texts, documents(student, texts), Spelling(student), Spelling(teacher))


def test_an_alignment_has_the_teachers_tokens_of_each_document():
    student, teacher = of_kind("few merges"), of_kind("pieces")
    found = aligned(student, teacher)
    for index, text in enumerate(TEXTS):
        assert np.array_equal(found.teacher.document(index), teacher.encode(text))
        assert found.ends_of(index)[-1] == len(text.encode())
    assert np.array_equal(found.teacher.byte_counts, found.student.byte_counts)


def test_selected_documents_keep_their_cuts():
    found = aligned(of_kind("few merges"), of_kind("many merges"))
    chosen = found.select([2, 0])
    for place, index in enumerate([2, 0]):
        for a, b in zip(chosen.document(place), found.document(index), strict=True):
            assert np.array_equal(a, b)
        assert np.array_equal(chosen.ends_of(place), found.ends_of(index))
        assert np.array_equal(chosen.teacher.document(place), found.teacher.document(index))


def test_a_group_with_an_unknown_token_is_known_to_be_one():
    ours, theirs = of_kind("bytes"), of_kind("words")
    text = "the fox"
    _, their_cuts, known = aligned(ours, theirs, [text]).document(0)
    assert known.tolist() == [True, False]
    assert theirs.encode(text)[their_cuts[:-1]].tolist() == [3, 0]


def test_other_texts_than_those_that_were_tokenized_are_an_error():
    student = of_kind("bytes")
    sides = Spelling(student), Spelling(of_kind("pieces"))
    with pytest.raises(IntegrityError, match="text 1: not the text that was tokenized"):
        align(["same", "changed"], documents(student, ["same", "before"]), *sides)
    with pytest.raises(IntegrityError, match="text 1"):
        align(["same"], documents(student, ["same", "more"]), *sides)
    with pytest.raises(IntegrityError, match="a document after the last one"):
        align(["same", "more"], documents(student, ["same"]), *sides)


@pytest.mark.parametrize(
    ("student", "teacher", "text"),
    [
        (lowercasing(), train_bpe(TEXTS, 280), "the student's tokenizer does not see letter case"),
        (train_bpe(TEXTS, 280), lowercasing(), "the teacher's tokenizer does not see letter case"),
        (
            words(normalizers.BertNormalizer()),
            train_bpe(TEXTS, 280),
            "the student's tokenizer does not see accents and letter case",
        ),
    ],
)
def test_a_tokenizer_that_does_not_see_what_the_other_one_sees_is_refused(student, teacher, text):
    with pytest.raises(ConfigError, match=text):
        aligned(student, teacher)


def test_two_tokenizers_that_both_lower_the_case_are_aligned_in_the_original_text():
    other = byte_level(270, TEXTS[:1], normalizer=normalizers.Lowercase())
    found = aligned(lowercasing(), other, ["The CAT"])
    ours, _, _ = found.document(0)
    ends = np.concatenate([[0], found.ends_of(0)])[ours]
    assert ends[-1] == len("The CAT")


# --- vocabularies -------------------------------------------------------------------------------


def matched(student, teacher, **weights):
    return match(Spelling(student), Spelling(teacher), **weights)


def test_a_tokenizer_matches_itself_id_by_id():
    for name in KINDS:
        found = matched(of_kind(name), of_kind(name))
        ids = np.arange(of_kind(name).vocab_size)
        unknown = SPELLINGS[name].unknown_id
        assert np.array_equal(found.student, found.teacher)
        assert np.array_equal(found.student, ids[ids != unknown] if unknown is not None else ids)


def test_ids_match_by_the_bytes_that_their_tokens_stand_for():
    student, teacher = of_kind("many merges"), of_kind("pieces")
    found = matched(student, teacher)
    told = {
        (student.decode([mine]), teacher.decode([theirs]))
        for mine, theirs in zip(found.student.tolist(), found.teacher.tolist(), strict=True)
    }
    names = {("<s>", "<s>"), ("<|endoftext|>", "</s>")}
    assert all(mine == theirs for mine, theirs in told - names)
    assert {" ", "t", "h", "e"} <= {mine for mine, _ in told}


def test_the_end_of_a_text_matches_whatever_it_is_called():
    student, teacher = train_bpe(TEXTS, 280, eos_token="<|end|>"), of_kind("pieces")
    found = matched(student, teacher)
    pairs = dict(zip(found.teacher.tolist(), found.student.tolist(), strict=True))
    assert pairs[teacher.eos_id] == student.eos_id
    assert list(pairs.values()).count(student.eos_id) == 1


def test_the_weights_are_the_share_of_the_teachers_ids_that_match():
    student, teacher = of_kind("bytes"), of_kind("few merges")
    found = matched(student, teacher)
    assert found.matched_weight == pytest.approx(257 / 280)
    assert found.matched_weight + found.sorted_weight == 1
    assert (len(found.student_only), len(found.teacher_only)) == (0, 280 - 257)


@pytest.mark.parametrize("weights", [(0.5, None), (None, 0.5), (0.0, 0.0)])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ConfigError, match="matched_weight"):
        matched(
            of_kind("bytes"),
            of_kind("pieces"),
            matched_weight=weights[0],
            sorted_weight=weights[1],
        )


def test_what_two_tokenizers_have_in_common_is_said_in_words():
    student, teacher = of_kind("bytes"), of_kind("few merges")
    text = "xyz the"
    found = aligned(student, teacher, [text])
    (ids,) = teacher.encode_many([text])
    single = sum(len(teacher.decode([number]).encode()) == 1 for number in ids)
    assert describe(found, matched(student, teacher)) == (
        "different tokenizers: 257 of 280 of the teacher's ids match by their bytes; "
        f"{100 * single / 7:.0f} % of bytes in 1:1 groups"
    )
