"""What a teacher with another tokenizer reads for a batch, and what is compared."""

import numpy as np
import pytest

from aligned_world import PAIRS, World
from entrenar_common.errors import ConfigError
from entrenar_core.data.batches import Batch
from entrenar_core.data.spelling import Spelling


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("names", PAIRS)
def test_the_tokens_of_a_group_are_the_same_text_for_both(names, packing):
    world = World(*names, packing=packing)
    for number in range(world.batches.steps_per_epoch):
        batch = world.batches.batch(number)
        found = world.rows.read(batch)
        labels = batch.labels.reshape(-1)
        assert len(found.groups)
        for first, count, place, their_count in found.groups.tolist():
            ours = world.student.decode(labels[first : first + count])
            theirs = found.targets[place : place + their_count]
            if theirs.tolist() == [world.teacher.eos_id]:
                assert ours == world.student.decode([world.student.eos_id])
            else:
                # pieces put a space before a text
                assert ours.lstrip(" ") == world.teacher.decode(theirs).lstrip(" ")


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("names", PAIRS[:2])
def test_the_teacher_predicts_a_group_from_the_text_that_the_student_has_read(names, packing):
    world = World(*names, packing=packing)
    batch = world.batches.batch(0)
    found = world.rows.read(batch)
    width, length = found.ids.shape[1], batch.ids.shape[1]
    for first, _, place, _ in found.groups.tolist():
        row, column = divmod(int(found.places[place]), width)
        assert row == first // length
        theirs = world.teacher.decode(found.ids[row, : column + 1])
        ours = world.student.decode(batch.ids[row, : first % length + 1])
        # both call the end of a text the same; a row may begin within a group, or a character
        assert theirs
        assert ours.endswith(theirs)


def test_every_labelled_byte_is_compared_but_those_of_the_rows_edges():
    world = World("few merges", "many merges", seq_len=12)
    for number in range(world.batches.steps_per_epoch):
        found = world.rows.read(world.batches.batch(number))
        # a group cut by an edge, and the first one, which has nothing before it for the teacher
        longest = max(len(key[1]) for key in Spelling(world.teacher).keys)
        assert found.bytes - found.compared <= 2 * longest * len(found.ids)
        assert 0 < found.compared <= found.bytes


def test_the_end_of_a_document_is_a_group_of_its_own():
    world = World("few merges", "pieces", packing=False, seq_len=60)
    batch = world.batches.batch(0)
    found = world.rows.read(batch)
    ends = np.flatnonzero(batch.labels.reshape(-1) == world.student.eos_id)
    compared = {first: i for i, (first, *_) in enumerate(found.groups.tolist())}
    assert len(ends) == 8
    for end in ends.tolist():
        _, count, place, their_count = found.groups[compared[end]].tolist()
        assert (count, their_count) == (1, 1)
        assert found.targets[place] == world.teacher.eos_id


def test_a_group_with_a_token_that_is_not_labelled_is_left_out():
    world = World("bytes", "many merges", packing=False, seq_len=60)
    batch = world.batches.batch(0)
    groups = world.rows.read(batch).groups
    longer = groups[groups[:, 1] > 1][0]
    labels = batch.labels.copy()
    labels.reshape(-1)[longer[0] + 1] = -100
    changed = Batch(batch.ids, labels, batch.row_ids, batch.documents, batch.positions)
    before, after = world.rows.read(batch), world.rows.read(changed)
    assert len(after.groups) == len(groups) - 1
    assert longer[0] not in after.groups[:, 0]
    # tokens of one byte: of the group all are lost to the comparison, and one as a label
    assert after.compared == before.compared - longer[1]
    assert after.bytes == before.bytes - 1


def test_what_is_beyond_the_teachers_positions_is_not_compared():
    short = World("many merges", "bytes", seq_len=20, longest=16)
    batch = short.batches.batch(0)
    found = short.rows.read(batch)
    assert found.ids.shape[1] <= 16
    whole = World("many merges", "bytes", seq_len=20).rows.read(batch)
    assert whole.ids.shape[1] > 16
    assert 0 < len(found.groups) < len(whole.groups)


def test_a_batch_that_does_not_say_what_it_is_of_is_refused():
    world = World("few merges", "many merges")
    batch = world.batches.batch(0)
    with pytest.raises(ConfigError, match="does not say which documents"):
        world.rows.read(Batch(batch.ids, batch.labels, batch.row_ids))
