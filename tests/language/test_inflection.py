"""Forms of English words."""

import pytest

from more4d.language.inflection import plural, verb_forms


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("dog", "dogs"),
        ("fox", "foxes"),
        ("fir tree", "fir trees"),
        ("fireman", "firemen"),
        ("puppy", "puppies"),
        ("monkey", "monkeys"),
        ("wolf", "wolves"),
    ],
)
def test_plurals(one: str, several: str) -> None:
    assert plural(one) == several


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("walk", {"walk", "walks", "walking", "walked"}),
        ("hop", {"hop", "hops", "hopping", "hopped"}),
        ("glide", {"glide", "glides", "gliding", "glided"}),
        ("hurry along", {"hurry along", "hurries along", "hurrying along", "hurried along"}),
        ("run", {"run", "runs", "running", "ran"}),
        ("wander", {"wander", "wanders", "wandering", "wandered"}),
        ("gallop", {"gallop", "gallops", "galloping", "galloped"}),
        ("lie", {"lie", "lies", "lying", "lay", "lain"}),
    ],
)
def test_forms_of_verbs(verb: str, forms: set[str]) -> None:
    assert set(verb_forms(verb)) == forms
