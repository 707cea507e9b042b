import pytest

from more4d.files import atomic
from more4d.files.atomic import file_fingerprint, fingerprint, path_fingerprint


def test_the_order_of_keys_does_not_matter_and_everything_else_does():
    assert fingerprint({"a": 1, "b": [2, None]}) == fingerprint({"b": [2, None], "a": 1})
    others = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": [1]}, {"a": None}, {}]
    assert len({fingerprint(value) for value in others}) == len(others)


def test_a_changed_file_has_another_fingerprint(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    for limit in (1 << 20, 16):
        monkeypatch.setattr(atomic, "WHOLE_BYTES", limit)
        path.write_bytes(bytes(200_000))
        before = file_fingerprint(path)
        assert before == file_fingerprint(path)
        path.write_bytes(bytes(199_999) + b"x")
        assert file_fingerprint(path) != before
        path.write_bytes(bytes(200_001))
        assert file_fingerprint(path) != before


@pytest.mark.parametrize(
    "name",
    ["a.safetensors", "a.bin", "a.pth", "a.pt", "deep/a.torch", "config.json", "a.safetensors.index.json"],
)
def test_a_folder_is_known_by_all_that_holds_weights_in_it(tmp_path, name):
    (tmp_path / "deep").mkdir()
    (tmp_path / name).write_bytes(b"one")
    before = path_fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_bytes(b"more")
    assert path_fingerprint(tmp_path) == before
    (tmp_path / name).write_bytes(b"two")
    assert path_fingerprint(tmp_path) != before


def test_what_is_read_beside_a_file_counts(tmp_path):
    path, index = tmp_path / "a-00001-of-00001.safetensors", tmp_path / "a.safetensors.index.json"
    path.write_bytes(b"one")
    index.write_bytes(b"{}")
    alone = path_fingerprint(path)
    assert alone == file_fingerprint(path)
    (tmp_path / "config.json").write_text("{}")
    assert path_fingerprint(path) != alone
    before = path_fingerprint(index)
    path.write_bytes(b"two")
    assert path_fingerprint(index) != before
