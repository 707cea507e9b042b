import pytest
import torch

from more4d.geometry.tracks import resample_frames, resampling_matrix
from more4d.pipelines.motion_filters import smooth_in_time


@pytest.mark.parametrize(
    ("frames", "wanted"), [(1, 5), (2, 7), (13, 49), (13, 5), (49, 13), (13, 1), (13, 13)]
)
def test_what_stands_still_stays_still(frames, wanted):
    values = torch.full((frames, 3, 2), 1.5)
    assert torch.allclose(resample_frames(values, wanted), torch.full((wanted, 3, 2), 1.5), atol=1e-6)


def test_first_and_last_frame_are_kept_exactly():
    values = torch.randn(13, 4, generator=torch.Generator().manual_seed(0))
    resampled = resample_frames(values, 49)
    assert torch.equal(resampled[0], values[0])
    assert torch.allclose(resampled[-1], values[-1], atol=1e-6)


def test_uniform_motion_stays_uniform():
    values = torch.arange(13.0)[:, None]
    steps = resample_frames(values, 49).diff(dim=0)
    assert torch.allclose(steps, torch.full_like(steps, 12 / 48), atol=1e-5)


def test_a_smooth_curve_is_followed_between_its_samples():
    def curve(count):
        return torch.sin(torch.linspace(0, torch.pi, count))[:, None]

    assert (resample_frames(curve(13), 49) - curve(49)).abs().max() < 1e-3


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match="positive"):
        resampling_matrix(13, 0)


def test_smoothing_leaves_uniform_motion_and_both_ends():
    uniform = torch.linspace(0, 3, 13)[:, None]
    assert torch.allclose(smooth_in_time(uniform, 5), uniform, atol=1e-6)
    shaken = torch.randn(13, 4, generator=torch.Generator().manual_seed(0))
    smooth = smooth_in_time(shaken, 3)
    assert torch.equal(smooth[0], shaken[0])
    assert torch.equal(smooth[-1], shaken[-1])


def test_every_pass_smooths_more():
    shaken = torch.randn(13, 50, generator=torch.Generator().manual_seed(0))
    jerks = [float(smooth_in_time(shaken, passes).diff(3, dim=0).norm()) for passes in range(4)]
    assert jerks == sorted(jerks, reverse=True)
    assert jerks[1] < jerks[0] / 2


@pytest.mark.parametrize("frames", [1, 2])
def test_there_is_nothing_to_smooth_in_two_frames(frames):
    values = torch.randn(frames, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(smooth_in_time(values, 2), values)
