"""How well a preset understands people's words: the same scenes, prompted in several ways.

The motion of every prompt is generated, and objects moved as wholes, as for a photo with known depth.
Held-out synonyms are those of `HELD_OUT_WORDS`; invented words are in no list at all.

The list was written down before the thesaurus (`language/`), as what people may type, and nothing was tuned
on it: entries are neither added to the thesaurus nor taken out of it because they are here. What both name
is understood because the same word was thought of twice; the rest is a word that is in no list.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from einops import rearrange

from more4d.evaluation.data import UnseenScene
from more4d.evaluation.record import mean
from more4d.evaluation.tracks import PHOTO_SCALE, about_positions, native_size
from more4d.geometry.camera import resize
from more4d.geometry.tracks import denormalise_motion
from more4d.pipelines.components import Components
from more4d.pipelines.grounding import look
from more4d.pipelines.motion_filters import Guide, joint_bilateral_source
from more4d.pipelines.moving_objects import move_as_wholes
from more4d.pipelines.prompt_words import Understood, moving, understand
from more4d.pipelines.tracks import generate_motion
from more4d.scenes.motion_sampling import DIRECTION_PHRASES, PEOPLE, VERB_PHRASES
from more4d.scenes.render import render_clip, render_image
from more4d.scenes.scene import Action

TABLE = """
ball: football, basketball
barrel: keg
bear: grizzly
bird: sparrow, pigeon
box: carton
boy: lad
bus: coach
camel: dromedary
car: sedan, taxi
cart: wagon
cat: kitten, tabby
chair: stool
chicken: hen
cow: bull
cube: block
deer: stag
dog: puppy, poodle
donkey: mule
duck: mallard
flag: banner
flower: rose
fox: vixen
girl: schoolgirl
goat: billy goat
horse: pony, mare
lamp: lantern
leopard: cheetah
man: guy, policeman
mushroom: toadstool
ostrich: emu
pig: hog
robot: android
rocket: missile
sheep: lamb
sphere: orb
toy figure: doll
train: locomotive
tree: oak
truck: lorry
vase: jug
wolf: coyote
woman: lady

@move: shifts, travels
@walk: wanders, marches
@drive: cruises
@reverse: moves in reverse
@roll: tumbles
@bounce: springs up and down
@jump: leaps
@spin: twirls, whirls
@sway: wobbles
@wave: ripples
@run: dashes, sprints
@fly: swoops
@flap: beats its wings
@greet: says hello
@circle: goes round in circles
@rock: rocks back and forth
@float: hovers
@nod: bobs its head
@still: remains motionless

>left: leftwards, to the left-hand side
>right: rightwards, to the right side
>up: skyward, higher
>down: lower, to the ground
>toward: nearer, our way
>away: off into the background, out of sight

#red: scarlet
#blue: navy
#green: emerald
#yellow: golden
#purple: violet
#orange: tangerine
#pink: magenta
#brown: chestnut
#white: ivory
#black: jet-black
#grey: gray
#turquoise: teal
#beige: tan
"""
"""Nouns, verbs (@), directions (>) and colours (#) by their names in `scenes`, and other words for them."""
HELD_OUT_WORDS: dict[str, tuple[str, ...]] = {
    name: tuple(re.split(", ", words))
    for name, words in (line.split(": ") for line in TABLE.split("\n") if line)
}
MOST_SCENES = 80
"""Of the set, five prompts each: what more would add is less than the difference between seeds."""
KNOWN, HELD_OUT, NOUN = "known words", "held-out synonyms", "an invented noun"
REST, CAPTION = "known noun, invented words beside it", "the caption itself"


def prompts_of(scene_caption: str, actions: Sequence[Action], index: int) -> dict[str, str]:
    """The prompts of a scene, by kind; `index` chooses among several words for one thing."""
    moving = [action for action in actions if action.verb != "still"]

    def joined(*kinds: str) -> str:
        return " and ".join(_clause(action, index, kinds) for action in moving)

    return {
        CAPTION: scene_caption,
        KNOWN: joined(),
        HELD_OUT: joined("noun", "colour", "verb", "direction"),
        REST: joined("beside"),
        NOUN: joined("invented"),
    }


def _clause(action: Action, index: int, kinds: Sequence[str]) -> str:
    """One action, with held-out words for its noun, colour, verb or direction, or with invented ones."""

    def word(kind: str, key: str, known: str) -> str:
        others = HELD_OUT_WORDS.get(key, ()) if kind in kinds else ()
        return others[index % len(others)] if others else known

    noun = word("noun", action.noun, action.noun)
    colour = word("colour", f"#{action.colour}", action.colour)
    verb = word("verb", f"@{action.verb}", VERB_PHRASES[action.verb][0])
    name = f"{noun} in {colour}" if action.noun in PEOPLE else f"{colour} {noun}"
    if "invented" in kinds:
        name = "blorp"
    if "beside" in kinds:
        name, verb = f"fribbly {action.noun}", "zorps snorkily"
    way = action.direction or ""
    if way:
        way = word("direction", f">{way}", DIRECTION_PHRASES[way][1 if way in ("left", "right") else 0])
    return f"the {name} {verb} {way}".strip()


def measure_words(models: Components, unseen: UnseenScene) -> dict[str, Any]:
    """All prompts of one scene, as plain numbers; `summarise_words` averages them over scenes.

    Raises:
        WeightsError: a network's file cannot be used.
    """
    height, width = native_size(models.preset)
    clip = render_clip(unseen.scene, height=height, width=width, frames=models.preset.frames)
    photo = render_image(unseen.scene, height=PHOTO_SCALE * height, width=PHOTO_SCALE * width)
    guide = Guide(colours=clip.tracks.colours, depth_m=clip.depth.depth_m)
    large_m = resize(guide.depth_m[..., None], *photo.shape[:2], mode="nearest")[..., 0]
    picks = joint_bilateral_source(guide, Guide(colours=photo, depth_m=large_m))
    start = clip.tracks.positions[0]
    prompts = prompts_of(clip.caption, clip.actions, unseen.index)
    known = _gist(understand(prompts[KNOWN], models.preset))
    result: dict[str, Any] = {"seed": unseen.seed, "several": unseen.several, "prompts": prompts, "by": {}}
    for kind, prompt in prompts.items():
        understood = understand(prompt, models.preset)
        meant = look(models, guide, photo, large_m, understood)
        motion = generate_motion(
            models,
            guide,
            meant.prompt,
            meant.clauses,
            seed=1000 * unseen.index,
            photo=photo,
            thing=meant.thing,
        )
        motion = rearrange(motion, "xyz t h w -> t h w xyz")
        whole, *_ = move_as_wholes(motion, photo, large_m, outline=meant.thing, picks=picks)
        found = about_positions(denormalise_motion(whole, start, clip.tracks.camera), clip)
        result["by"][kind] = {
            "iou": found["errors"]["iou"],
            "directions": found["directions"],
            "objects": found["objects"],
            "understood": None if kind == NOUN else _gist(understood) == known,
        }
    return result


def _gist(understood: Understood) -> list[Any]:
    """What moves and where to, in any order."""
    return sorted((each.nouns, str(each.direction)) for each in moving(understood.clauses))


def summarise_words(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over scenes by the kind of words, of all scenes and of those with one thing or several."""
    parts = {
        "": results,
        ", one thing": [each for each in results if not each["several"]],
        ", several": [each for each in results if each["several"]],
    }
    kinds = list(results[0]["by"]) if results else []
    rows = {
        f"{kind}{part}": _summary([each["by"][kind] for each in chosen])
        for kind in kinds
        for part, chosen in parts.items()
        if chosen
    }
    return {"scenes": len(results), "by": rows}


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    directions = [right for run in runs for _, right in run["directions"]]
    objects = [run["objects"] for run in runs if run["objects"]]
    return {
        "motion_iou": mean(run["iou"] for run in runs),
        "direction_accuracy": mean(directions),
        "prompted_object_moves": mean(right for right, _ in objects),
        "others_stay_still": mean(still for _, still in objects),
        "understood": mean(run["understood"] for run in runs),
    }
