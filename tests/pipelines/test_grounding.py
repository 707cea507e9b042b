"""As many things move as the prompt names, and those that it means."""

import pytest
import torch

from more4d.networks.strag import UNDECIDED, focused
from more4d.pipeline import More4DPipeline
from more4d.pipelines.grounding import choose_named
from more4d.pipelines.motion_filters import Guide
from more4d.pipelines.prompt_words import understand
from more4d.pipelines.tracks import generate_motion


def two_things() -> tuple[torch.Tensor, torch.Tensor]:
    """A near, small thing on the left, and a far, large one on the right that is a little less probable."""
    moving, depth_m = torch.zeros(6, 8), torch.full((60, 80), 9.0)
    moving[2:4, 1:3] = 0.9
    moving[1:4, 5:8] = 0.7
    depth_m[20:40, 10:30] = 2.0
    return moving, depth_m


def test_the_less_probable_of_two_things_is_scenery() -> None:
    moving, depth_m = two_things()
    focus = choose_named(moving, depth_m, 1)[0, 0]
    assert (focus[1:4, 5:8] == 0).all()
    assert (focus == 0).sum() == 9 and (focus[focus != 0] == UNDECIDED).all()


@pytest.mark.parametrize(
    ("where", "left_stays"),
    [("left", False), ("right", True), ("small", False), ("big", True), ("front", False), ("back", True)],
)
def test_words_of_position_choose(where: str, left_stays: bool) -> None:
    focus = choose_named(*two_things(), 1, [where])[0, 0]
    assert bool((focus[2:4, 1:3] == 0).all()) == left_stays
    assert bool((focus[1:4, 5:8] == 0).all()) != left_stays


def test_all_things_move_where_as_many_are_named() -> None:
    assert choose_named(*two_things(), 2) is None
    moving, depth_m = two_things()
    assert choose_named(torch.zeros_like(moving), depth_m, 1) is None


def test_what_is_undecided_stays_as_the_head_has_it() -> None:
    probs = torch.tensor([0.5, 0.3, 0.2])[None, :, None, None].expand(1, 3, 1, 2).clone()
    result = focused(probs, torch.tensor([[[[UNDECIDED, 0.0]]]]), (3,))
    assert torch.equal(result[0, :, 0, 0], probs[0, :, 0, 0])
    assert result[0, :, 0, 1].tolist() == [1, 0, 0]


@pytest.mark.parametrize(("prompt", "steps"), [("the dog runs to the left", 2), ("the dog nods", 8)])
def test_what_has_no_direction_is_sampled_in_more_steps(prompt: str, steps: int) -> None:
    pipe = More4DPipeline.from_pretrained("tiny")
    counted = []
    scene = Guide(colours=torch.rand(48, 64, 3), depth_m=torch.full((48, 64), 4.0))
    clauses = understand(prompt, pipe.preset).clauses
    generate_motion(
        pipe.components,
        scene,
        prompt,
        clauses,
        seed=0,
        progress=lambda stage, done, total: counted.append((stage, done, total)),
    )
    assert counted[-1] == ("tracks", steps, steps)
