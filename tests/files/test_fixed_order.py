"""Equal contents are equal files."""

import safetensors.torch
import torch

from more4d.files.atomic import sort_metadata

NOTES = {f"note {number}": f'text {number}, ü, "quoted"\n' for number in range(12)}


def test_texts_are_sorted_and_nothing_else_changes(tmp_path):
    path, tensors = tmp_path / "a.safetensors", {"b": torch.arange(5.0), "a": torch.ones(2, 3).half()}
    written = set()
    for _ in range(6):
        safetensors.torch.save_file(tensors, path, metadata=NOTES)
        size = path.stat().st_size
        sort_metadata(path)
        assert path.stat().st_size == size
        written.add(path.read_bytes())
    assert len(written) == 1
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == NOTES
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())


def test_a_file_without_texts_stays_as_it_is(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2)}, path)
    before = path.read_bytes()
    sort_metadata(path)
    assert path.read_bytes() == before
