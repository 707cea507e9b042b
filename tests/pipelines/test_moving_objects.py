import numpy as np
import pytest
import torch

from more4d.files.image import load_mask
from more4d.foundation.errors import InputError
from more4d.pipelines.moving_objects import move_as_wholes, nearest_of_object, objects_of_masks


def a_red_box_of_which_a_part_moves():
    """Image, depth, outline, and motion to the right of the left half of the box."""
    image, outline = torch.ones(120, 160, 3), torch.zeros(120, 160, dtype=torch.bool)
    outline[30:90, 40:120] = True
    image[outline] = torch.tensor([0.8, 0.1, 0.1])
    motion = torch.zeros(5, 30, 40, 3)
    motion[:, 8:22, 11:20, 0] = torch.linspace(0, 0.2, 5)[:, None, None]
    return image, torch.full((120, 160), 3.0), outline, motion


def test_an_object_moves_whole_and_nothing_else_does():
    image, depth_m, outline, motion = a_red_box_of_which_a_part_moves()
    whole, source, *_ = move_as_wholes(motion, image, depth_m)
    end = whole[-1].flatten(0, 1)[source][..., 0]
    moves = end > 0.1
    assert float((moves & outline).sum() / (moves | outline).sum()) > 0.95
    assert float(end[~moves].abs().max()) == 0
    again, same, *_ = move_as_wholes(motion, image, depth_m)
    assert torch.equal(whole, again) and torch.equal(source, same)


def test_a_mask_decides_what_moves():
    image, depth_m, _, motion = a_red_box_of_which_a_part_moves()
    mask = torch.zeros(120, 160, dtype=torch.bool)
    mask[30:90, 40:80] = True
    whole, source, *_ = move_as_wholes(motion, image, depth_m, objects_of_masks(mask, 120, 160))
    assert torch.equal(whole[-1].flatten(0, 1)[source][..., 0] > 0.1, mask)


def test_the_opacity_of_a_photo_is_the_outline():
    """Of two things of one colour that are cut out together, only that moves in which motion is generated."""
    image, depth_m, outline, motion = a_red_box_of_which_a_part_moves()
    cut_out = outline.clone()
    cut_out[30:90, 130:150] = True
    image[cut_out] = torch.tensor([0.97, 0.97, 0.97])  # not to be told from the background by its colour
    whole, source, *_ = move_as_wholes(motion, image, depth_m, outline=cut_out)
    assert torch.equal(whole[-1].flatten(0, 1)[source][..., 0] > 0.1, outline)


def test_every_pixel_takes_a_cell_of_its_own_object():
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(3, (6, 8), generator=generator)
    objects = torch.randint(3, (24, 32), generator=generator)
    assert torch.equal(cells.flatten()[nearest_of_object(objects, cells)], objects)


def test_masks_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="marks nothing"):
        objects_of_masks(np.zeros((60, 80), bool), 60, 80)
    with pytest.raises(InputError, match="80 x 80 and the photo 80 x 60"):
        objects_of_masks(np.ones((80, 80), bool), 60, 80)


def test_a_file_that_is_no_picture_is_no_mask(tmp_path):
    (tmp_path / "mask.png").write_text("no picture")
    with pytest.raises(InputError, match="is not a picture"):
        load_mask(tmp_path / "mask.png")
