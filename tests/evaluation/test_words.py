"""Prompts of one scene in several kinds of words."""

from more4d.evaluation.words import HELD_OUT, HELD_OUT_WORDS, KNOWN, NOUN, REST, prompts_of, summarise_words
from more4d.scenes.held_out import HELD_OUT_COLOURS, HELD_OUT_MOTIONS
from more4d.scenes.motion_sampling import DIRECTION_PHRASES, VERB_PHRASES
from more4d.scenes.scene import Action
from more4d.scenes.textures import NAMED_COLOURS

ACTIONS = (
    Action(object_id=1, noun="dog", colour="red", verb="run", direction="left"),
    Action(object_id=2, noun="cat", colour="black", verb="still", direction=None),
)


def test_held_out_words_are_for_what_scenes_have() -> None:
    names = {*HELD_OUT_COLOURS, *HELD_OUT_MOTIONS}
    names |= {f"@{verb}" for verb in VERB_PHRASES} | {f">{way}" for way in DIRECTION_PHRASES}
    assert set(HELD_OUT_WORDS) <= names | {f"#{colour}" for colour in NAMED_COLOURS}


def test_a_scene_is_prompted_in_each_kind_of_words() -> None:
    prompts = prompts_of("a caption", ACTIONS, 0)
    assert prompts[KNOWN] == "the red dog runs to the left"
    assert prompts[HELD_OUT] == "the scarlet puppy dashes leftwards"
    assert prompts[REST] == "the fribbly dog zorps snorkily to the left"
    assert prompts[NOUN] == "the blorp runs to the left"


def test_means_are_over_all_scenes_and_by_the_number_of_things() -> None:
    def scene(iou: float, right: bool, several: bool) -> dict:
        run = {"iou": iou, "directions": [["left", right]], "objects": [right, True], "understood": right}
        return {"several": several, "by": {KNOWN: run}}

    found = summarise_words([scene(0.2, True, False), scene(0.6, False, True)])
    assert found["scenes"] == 2 and found["by"][KNOWN]["motion_iou"] == 0.4
    assert found["by"][f"{KNOWN}, one thing"]["direction_accuracy"] == 1
    assert found["by"][f"{KNOWN}, several"]["prompted_object_moves"] == 0
