import pytest
import torch
from torch import Tensor

from more4d.datasets.labelled_images import (
    augment_photo,
    colour_jitter,
    gaussian_blur,
    recolour_objects,
    uneven_lighting,
)


def a_picture() -> Tensor:
    return torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(20))
def test_pictures_stay_pictures(seed: int) -> None:
    changed = augment_photo(a_picture(), seeded(seed))
    assert changed.shape == (3, 24, 32)
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1


@pytest.mark.parametrize("change", [augment_photo, colour_jitter, uneven_lighting])
def test_the_generator_decides(change) -> None:
    assert torch.equal(change(a_picture(), seeded(3)), change(a_picture(), seeded(3)))
    assert not torch.equal(change(a_picture(), seeded(3)), change(a_picture(), seeded(4)))


def test_recolouring_moves_no_pixel() -> None:
    picture = torch.full((3, 8, 8), 0.3)
    picture[:, 2:5, 2:5] = 0.6
    changed = colour_jitter(picture, seeded(1))
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:5, 2:5] = True
    assert float(changed[:, inside].std(1).max()) < 1e-6 and float(changed[:, ~inside].std(1).max()) < 1e-6
    assert float((changed[:, 2, 2] - changed[:, 0, 0]).abs().max()) > 0.05


def test_blur_keeps_flat_pictures_and_the_mean_of_a_dot() -> None:
    flat = torch.full((3, 9, 9), 0.4)
    torch.testing.assert_close(gaussian_blur(flat, 1.0), flat)
    dot = torch.zeros(3, 9, 9)
    dot[:, 4, 4] = 1
    spread = gaussian_blur(dot, 1.0)
    torch.testing.assert_close(spread.sum((1, 2)), torch.ones(3))
    assert float(spread.max()) < 0.5


def test_each_object_gets_one_tint() -> None:
    ids = torch.zeros(24, 32, dtype=torch.int32)
    ids[5:15, 5:15], ids[10:20, 18:30] = 1, 2
    picture = torch.full((3, 24, 32), 0.3)
    changed = recolour_objects(picture, ids, seeded(0))
    for object_id in range(3):
        assert float(changed[:, ids == object_id].std(1).max()) < 1e-6
    assert float((changed[:, 6, 6] - changed[:, 18, 25]).abs().max()) > 0.01


def test_a_hidden_object_takes_the_colour_of_its_surroundings() -> None:
    ids = torch.zeros(24, 32, dtype=torch.int32)
    ids[5:15, 5:15] = 1
    picture = torch.where(ids > 0, torch.tensor([0.6, 0.2, 0.2])[:, None, None], 0.4)
    differences = []
    for seed in range(20):
        changed = recolour_objects(picture, ids, seeded(seed))
        inside, outside = changed[:, ids == 1].mean(1), picture[:, ids == 0].mean(1)
        differences.append(float((inside - outside).abs().max()))
    assert min(differences) < 1e-4 < max(differences)
