from more4d.pipelines import fingerprint as module
from more4d.pipelines.fingerprint import file_fingerprint, fingerprint


def test_the_order_of_keys_does_not_matter_and_everything_else_does():
    assert fingerprint({"a": 1, "b": [2, None]}) == fingerprint({"b": [2, None], "a": 1})
    others = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": [1]}, {"a": None}, {}]
    assert len({fingerprint(value) for value in others}) == len(others)


def test_a_changed_file_has_another_fingerprint(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    for limit in (1 << 20, 16):
        monkeypatch.setattr(module, "WHOLE_BYTES", limit)
        path.write_bytes(bytes(200_000))
        before = file_fingerprint(path)
        assert before == file_fingerprint(path)
        path.write_bytes(bytes(199_999) + b"x")
        assert file_fingerprint(path) != before
        path.write_bytes(bytes(200_001))
        assert file_fingerprint(path) != before
