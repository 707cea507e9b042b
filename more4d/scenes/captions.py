"""From facts to sentences: synonyms, optional colours and places, free order."""

import numpy as np

from more4d.scenes.scene import Action

Random = np.random.Generator
DIRECTION_PHRASES: dict[str, tuple[str, ...]] = {
    "left": ("left", "to the left", "leftward", "toward the left"),
    "right": ("right", "to the right", "rightward", "toward the right"),
    "up": ("up", "upward", "into the air"),
    "down": ("down", "downward"),
    "toward": ("toward the camera", "towards us", "closer", "forward to the viewer"),
    "away": ("away from the camera", "away", "into the distance", "away from us"),
}
VERB_PHRASES: dict[str, tuple[str, ...]] = {
    "move": ("moves", "goes", "slides", "glides", "is moving"),
    "walk": ("walks", "walks", "is walking", "strolls", "goes"),
    "drive": ("drives", "drives", "is driving", "rolls", "goes"),
    "reverse": ("backs up", "reverses", "rolls backward"),
    "roll": ("rolls", "is rolling"),
    "bounce": ("bounces", "bounces up and down", "is bouncing"),
    "jump": ("jumps", "jumps up and down", "hops", "is jumping"),
    "spin": ("spins", "turns around", "rotates", "is spinning"),
    "sway": ("sways", "sways in the wind", "bends in the wind", "is swaying"),
    "wave": ("waves", "waves in the wind", "flutters", "is waving"),
    "run": ("runs", "runs", "is running"),
    "fly": ("flies", "flies", "is flying", "soars"),
    "flap": ("flaps its wings", "flaps", "is flapping its wings"),
    "greet": ("waves a hand", "waves", "raises an arm and waves", "is waving"),
    "circle": ("circles around", "goes around in a circle", "orbits", "moves in a circle"),
    "rock": ("rocks from side to side", "sways", "tilts to and fro", "is rocking"),
    "float": ("floats", "drifts", "is floating"),
    "nod": ("nods", "nods its head", "moves its head"),
    "still": ("stays still", "stands still", "does not move"),
}
PEOPLE = frozenset(("man", "woman", "boy", "girl", "toy figure"))
ALL_STILL = ("everything stays still", "nothing moves", "a still scene", "all is still")


def choose(rng: Random, choices: tuple[str, ...]) -> str:
    """One of several words."""
    return choices[int(rng.integers(len(choices)))]


def object_phrase(rng: Random, action: Action) -> str:
    """An object with or without its colour: "the red car", "a woman in red"."""
    coloured = rng.random() < 0.6
    article = "the" if rng.random() < 0.7 else "a"
    if action.noun in PEOPLE:
        return f"{article} {action.noun} in {action.colour}" if coloured else f"{article} {action.noun}"
    name = f"{action.colour} {action.noun}" if coloured else action.noun
    if article == "a" and name[0] in "aeiou":
        article = "an"
    return f"{article} {name}"


def clause(rng: Random, action: Action) -> str:
    """One action as a clause, its parts in free order."""
    name, doing = object_phrase(rng, action), choose(rng, VERB_PHRASES[action.verb])
    if action.direction is None:
        return f"{name} {doing}"
    direction = choose(rng, DIRECTION_PHRASES[action.direction])
    if rng.random() < 0.1 and not doing.startswith("is "):
        return f"{direction}, {name} {doing}"
    return f"{name} {doing} {direction}"


def compose_caption(rng: Random, actions: tuple[Action, ...], place: str) -> str:
    """All actions in one sentence, in any order, with the place and what is still now and then."""
    if not any(action.verb != "still" for action in actions):
        return choose(rng, ALL_STILL)
    clauses = [clause(rng, actions[index]) for index in rng.permutation(len(actions))]
    named = place and rng.random() < 0.35
    if named and rng.random() < 0.7:
        clauses[-1] += f" {place}"
    sentence = clauses[0]
    for following in clauses[1:]:
        sentence += choose(rng, (" and ", " while ", ", and ", " as ", ", ")) + following
    if named and not sentence.endswith(place):
        sentence = f"{place}, {sentence}"
    choice = rng.random()
    if choice < 0.06:
        sentence += choose(
            rng, (", everything else stays still", " while the rest is still", ", nothing else moves")
        )
    elif choice < 0.12:
        sentence = (
            choose(rng, ("a video of a scene: ", "in this clip ", "a photo in which ", "we see that "))
            + sentence
        )
    return sentence[0].upper() + sentence[1:] + "." if rng.random() < 0.2 else sentence
