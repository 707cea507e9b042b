"""Laws of the questions about captions."""

import pytest
import torch

from more4d.datasets import procedural
from more4d.datasets.procedural import DIRECTIONS, CaptionQuestions, QuestionBatch
from more4d.scenes.motion_sampling import ALL_STILL


@pytest.fixture(scope="module")
def questions():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procedural, "VOCABULARY_SCENES", 60)
        yield CaptionQuestions(seed=0)


def test_questions_are_answered_by_their_scene(questions):
    batch = QuestionBatch.collate([questions[i] for i in range(40)])
    absent = batch.verb == len(questions.verbs)
    assert int(absent.sum()) == 40 < len(absent)
    assert ((batch.direction == len(DIRECTIONS)) == absent).all()
    for index, caption in enumerate(batch.caption.tolist()):
        named = questions.nouns[int(batch.noun[index])] in batch.captions[caption].lower()
        assert named or bool(absent[index])


def test_where_nothing_moves_nothing_that_stands_there_is_asked_about(questions):
    still = [sample for sample in map(questions.__getitem__, range(250)) if sample.captions[0] in ALL_STILL]
    assert still and all(len(sample.noun) == 1 for sample in still)


def test_a_question_is_always_the_same(questions):
    first, again = questions[7], questions[7]
    assert first.captions == again.captions
    assert torch.equal(first.noun, again.noun)


def test_stories_of_one_world_differ(questions):
    told = {
        questions[procedural.WORLDS_IN_USE * story].captions for story in range(procedural.CAPTIONS_PER_WORLD)
    }
    assert len(told) > procedural.CAPTIONS_PER_WORLD // 2


def test_parts_by_length_hold_every_question_once(questions):
    batch = QuestionBatch.collate([questions[i] for i in range(21)])

    def facts(some):
        columns = (some.caption, some.noun, some.verb, some.direction)
        rows = torch.stack(columns, 1).tolist()
        return sorted((some.captions[caption], *rest) for caption, *rest in rows)

    parts = batch.by_length(8)
    assert [len(part.captions) for part in parts] == [8, 8, 5]
    assert sorted(fact for part in parts for fact in facts(part)) == facts(batch)
    lengths = [max(map(len, part.captions)) for part in parts]
    assert lengths == sorted(lengths)
