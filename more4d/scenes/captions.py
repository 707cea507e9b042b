"""From facts to sentences: synonyms, optional colours and places, free order."""

import numpy as np

from more4d.scenes.scene import Action

Random = np.random.Generator
WAY_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("left", "to the left", "leftward", "toward the left"),
    "right": ("right", "to the right", "rightward", "toward the right"),
    "up": ("up", "upward", "into the air"),
    "down": ("down", "downward"),
    "toward": ("toward the camera", "towards us", "closer", "forward to the viewer"),
    "away": ("away from the camera", "away", "into the distance", "away from us"),
}
VERB_WORDS: dict[str, tuple[str, ...]] = {
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
    "float": ("floats", "drifts", "is floating"),
    "nod": ("nods", "nods its head", "moves its head"),
    "still": ("stays still", "stands still", "does not move"),
}
ALL_STILL = ("everything stays still", "nothing moves", "a still scene", "all is still")


def word(rng: Random, choices: tuple[str, ...]) -> str:
    """One of several words."""
    return choices[int(rng.integers(len(choices)))]


def clause(rng: Random, action: Action) -> str:
    """One action as a clause."""
    article = "the" if rng.random() < 0.7 else "a"
    name = f"{action.colour} {action.noun}" if rng.random() < 0.6 else action.noun
    if article == "a" and name[0] in "aeiou":
        article = "an"
    doing = word(rng, VERB_WORDS[action.verb])
    if action.direction:
        doing = f"{doing} {word(rng, WAY_WORDS[action.direction])}"
    return f"{article} {name} {doing}"


def compose(rng: Random, actions: tuple[Action, ...], place: str) -> str:
    """All actions in one sentence, in any order, with the place now and then."""
    if not any(action.verb != "still" for action in actions):
        return word(rng, ALL_STILL)
    order = rng.permutation(len(actions))
    clauses = [clause(rng, actions[index]) for index in order]
    if place and rng.random() < 0.3:
        clauses[-1] += f" {place}"
    sentence = clauses[0]
    for following in clauses[1:]:
        sentence += word(rng, (" and ", " while ", ", and ", " as ")) + following
    return sentence
