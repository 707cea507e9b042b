import torch

from more4d.pipelines.object_depth import reduce_relief


def test_an_object_keeps_a_share_of_its_relief_and_nothing_of_what_is_far_from_it() -> None:
    depth_m = torch.full((20, 30), 10.0)
    objects = torch.zeros(20, 30, dtype=torch.long)
    objects[5:15, 5:20] = 1
    ramp = torch.exp(torch.linspace(-0.1, 0.1, 15))
    depth_m[5:15, 5:20] = 4 * ramp
    depth_m[5:8, 5:20] = 9.0  # taken for the background
    reduced = reduce_relief(depth_m, objects, 0.25)
    assert torch.equal(reduced[objects == 0], depth_m[objects == 0])
    assert torch.allclose(reduced[10, 5:20], 4 * ramp**0.25, rtol=1e-3)
    assert torch.allclose(reduced[5, 5:20], reduced[9, 5:20])
    assert torch.allclose(reduce_relief(depth_m, objects, 0.0)[objects == 1], torch.tensor(4.0), rtol=1e-3)


def test_each_object_has_its_own_depth() -> None:
    objects = torch.tensor([[0, 1, 1, 2, 2]]).expand(4, 5)
    depth_m = torch.tensor([[9.0, 2.0, 2.2, 5.0, 5.5]]).expand(4, 5).contiguous()
    reduced = reduce_relief(depth_m, objects, 0.5)
    assert float(reduced[0, 2] / reduced[0, 1]) < 1.1 and float(reduced[0, 4] / reduced[0, 3]) < 1.1
    assert bool((reduced[:, 1:3] < 2.3).all()) and bool((reduced[:, 3:] > 4.9).all())
