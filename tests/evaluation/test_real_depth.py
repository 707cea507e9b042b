"""Laws of the measured frames."""

from more4d.evaluation.real_depth import measured_frames


def test_every_measured_frame_can_be_read(shared):
    frames = measured_frames(shared / "data")
    assert {frame.group for frame in frames} == {"NYU Depth v2", "7-Scenes", "ICL-NUIM"}
    for frame in {frame.group: frame for frame in frames}.values():
        photo, truth = frame.read()
        assert tuple(photo.shape[:2]) == tuple(truth.depth_m.shape) == (480, 640)
        assert truth.valid.float().mean() > 0.6
        assert 0.5 < float(truth.depth_m[truth.valid].median()) < 10


def test_a_folder_without_them_has_none(tmp_path):
    assert measured_frames(tmp_path) == []
