from more4d.performance.config import MEMORY_MODES


def test_the_command_line_knows_all_memory_modes_and_no_others(command, photo):
    result = command(photo, "--prompt", "it rolls", "--memory", "tiny")
    assert result.code == 2 and "--memory" in result.err
    assert all(mode in result.err for mode in MEMORY_MODES)


def test_an_item_is_made_in_a_memory_mode_and_kept_in_another(command, photo, tmp_path):
    arguments = (photo, "--prompt", "it rolls", "--camera", "static", "--frames", "2", "--memory")
    assert command(*arguments, "group").code == 0
    tracks = tmp_path / "out/ball/tracks.safetensors"
    made, when = tracks.read_bytes(), tracks.stat().st_mtime_ns
    assert command(*arguments, "sequential").code == 0
    assert tracks.stat().st_mtime_ns == when  # no other result was to be expected
    assert command(*arguments, "fp8").code == 0
    assert tracks.stat().st_mtime_ns != when and tracks.stat().st_size == len(made)
