"""Laws of batches."""

import torch

from more4d.datasets.batch import ViewBatch


def view(number: int) -> ViewBatch:
    video = torch.full((1, 3, 1, 2, 2), float(number))
    return ViewBatch(truth=video, known=-video, coverage=video[:, :1], captions=(f"view {number}",))


def test_collated_samples_stand_in_order_on_the_first_axis():
    batch = ViewBatch.collate([view(4), view(7), view(1)])
    assert batch.truth[:, 0, 0, 0, 0].tolist() == [4, 7, 1]
    assert batch.coverage.shape == (3, 1, 1, 2, 2)
    assert batch.captions == ("view 4", "view 7", "view 1")


def test_moving_a_batch_takes_its_tensors_along_and_keeps_the_rest():
    moved = view(2).to("meta")
    assert {moved.truth.device.type, moved.known.device.type, moved.coverage.device.type} == {"meta"}
    assert moved.captions == ("view 2",)
