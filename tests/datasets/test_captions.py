"""Laws of the questions about captions."""

from more4d.datasets import captions
from more4d.datasets.captions import DIRECTIONS, CaptionQuestions, QuestionBatch


def test_questions_are_answered_by_their_scene(monkeypatch):
    monkeypatch.setattr(captions, "SURVEY", 60)
    questions = CaptionQuestions(seed=0)
    batch = QuestionBatch.collate([questions[i] for i in range(40)])
    absent = batch.verb == len(questions.verbs)
    assert 0 < int(absent.sum()) < 40
    assert ((batch.direction == len(DIRECTIONS)) == absent).all()
    for index in range(40):
        if not absent[index]:
            direction = int(batch.direction[index])
            assert 0 <= direction < len(DIRECTIONS)
            assert 0 <= int(batch.verb[index]) < len(questions.verbs)


def test_a_question_is_always_the_same(monkeypatch):
    monkeypatch.setattr(captions, "SURVEY", 60)
    questions = CaptionQuestions(seed=0)
    assert questions[7].captions == questions[7].captions
    assert int(questions[7].noun) == int(questions[7].noun)
