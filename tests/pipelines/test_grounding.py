"""As many things move as the prompt names, and those that it means."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from more4d.networks.strag import UNDECIDED, focused
from more4d.pipeline import More4DPipeline
from more4d.pipelines import grounding
from more4d.pipelines.grounding import choose_named, first_that_fits, fits_prompt
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


HEIGHT, WIDTH = 24, 32


def moved(*way: float, rows: slice = slice(8, 16)) -> torch.Tensor:
    """Normalised motion of a square on the left of three frames, by the end so far in x, y and z."""
    motion = torch.zeros(3, 3, HEIGHT, WIDTH)
    motion[:, 1, rows, 4:12] = torch.tensor(way)[:, None, None] / 2
    motion[:, 2, rows, 4:12] = torch.tensor(way)[:, None, None]
    return motion


def likely() -> torch.Tensor:
    cells = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    cells[8:16, 4:12] = True
    return cells


@pytest.mark.parametrize(
    ("prompt", "motion", "fits"),
    [
        ("the dog runs to the left", moved(-0.3, 0, 0), True),
        ("the dog runs to the left", moved(0.3, 0, 0), False),
        ("the dog runs to the left", moved(0, 0, 0), False),
        ("the dog runs to the left", moved(-1.5 / WIDTH, 0, 0), False),  # too little to be seen
        ("the dog runs to the left", moved(-0.3, 0, 0, rows=slice(0, 8)), False),  # another thing
        ("the dog runs to the left", moved(-0.3, 0, 0, rows=slice(0, 24)), False),  # everything
        ("the dog walks toward the camera", moved(0.05, 0.05, -0.3), True),
        ("the dog walks away from the camera", moved(0.05, 0.05, -0.3), False),
        ("the balloon floats up", moved(0, -0.3, 0), True),
        ("the dog spins", moved(0.3, 0, 0), True),
        ("the dog runs to the left and the cat runs to the right", moved(0.3, 0, 0), True),
    ],
)
def test_motion_fits_a_prompt(prompt: str, motion: torch.Tensor, fits: bool) -> None:
    clauses = understand(prompt, More4DPipeline.from_pretrained("tiny").preset).clauses
    assert fits_prompt(motion, likely(), clauses)[0] is fits


def test_of_several_motions_the_first_that_fits_is_taken_or_else_the_best() -> None:
    clauses = understand("the dog runs to the left", More4DPipeline.from_pretrained("tiny").preset).clauses
    still, right, left = moved(0, 0, 0), moved(0.3, 0, 0), moved(-0.3, 0, 0)
    generated = []

    def all_of(*motions: torch.Tensor) -> Iterator[torch.Tensor]:
        for motion in motions:
            generated.append(motion)
            yield motion

    assert first_that_fits(all_of(right, left, still), likely(), clauses) is left
    assert len(generated) == 2  # no more than is needed
    assert first_that_fits(all_of(still, right, still), likely(), clauses) is right


def test_motion_is_generated_anew_from_other_noise_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = More4DPipeline.from_pretrained("tiny")
    generator = torch.Generator().manual_seed(0)
    scene = Guide(colours=torch.rand(48, 64, 3, generator=generator), depth_m=torch.full((48, 64), 4.0))
    prompt = "the dog runs to the left"
    clauses = understand(prompt, pipe.preset).clauses
    judged = []

    def motion(attempts: int, fitting: int) -> torch.Tensor:
        judged.clear()

        def judge(*given: object) -> tuple[bool, float]:
            judged.append(given[0])
            return len(judged) == fitting, 0.0

        monkeypatch.setattr(grounding, "fits_prompt", judge)
        tracks = replace(pipe.preset.tracks, attempts=attempts)
        monkeypatch.setattr(pipe.components, "preset", replace(pipe.preset, tracks=tracks))
        return generate_motion(pipe.components, scene, prompt, clauses, seed=0)

    once = motion(1, 1)
    assert not judged
    assert torch.equal(motion(3, 1), once) and len(judged) == 1
    second = motion(3, 2)
    assert torch.equal(second, judged[1]) and not torch.equal(second, once)
    assert torch.equal(motion(3, 2), second)
