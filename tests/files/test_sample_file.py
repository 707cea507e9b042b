"""Laws of files of samples."""

import pytest
import torch

from more4d.datasets.latent_cache import SampleFile, write_samples
from more4d.foundation.errors import InputError


def test_samples_come_back_one_by_one(tmp_path):
    path = tmp_path / "samples.safetensors"
    samples = {
        number: {"picture": torch.randn(2, number), "captions": [f'ä "{number}"']} for number in (3, 7, 12)
    }
    write_samples(path, samples)
    stored = SampleFile(path)
    for number, sample in samples.items():
        read = stored.read(number)
        assert read.keys() == sample.keys()
        assert torch.equal(read["picture"], sample["picture"])
        assert read["captions"] == sample["captions"]


def test_a_sample_that_is_not_there_and_a_damaged_file_are_named(tmp_path):
    path = tmp_path / "samples.safetensors"
    write_samples(path, {1: {"a": torch.ones(2)}})
    with pytest.raises(InputError, match="has no sample 2"):
        SampleFile(path).read(2)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="is damaged"):
        SampleFile(path)
    with pytest.raises(InputError, match="none"):
        SampleFile(tmp_path / "none.safetensors")


def test_a_bit_that_changed_on_disk_is_noticed(tmp_path):
    path = tmp_path / "samples.safetensors"
    write_samples(path, {number: {"a": torch.full((64,), float(number))} for number in (1, 2)})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the last tensor
    path.write_bytes(bytes(data))
    stored, bad = SampleFile(path), 0
    for number in (1, 2):
        try:
            stored.read(number)
        except InputError as error:
            assert "not what was written" in str(error)
            bad += 1
    assert bad == 1
