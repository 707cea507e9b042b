"""Laws of checkpoints on disk."""

import json

import pytest
import torch

from more4d.foundation.errors import WeightsError
from more4d.training.checkpoint import METADATA_FILE, CheckpointFolder


def save(folder: CheckpointFolder, step: int, parts: int = 1) -> None:
    folder.begin(step)
    for rank in range(parts):
        folder.write_shard(step, rank, parts, {f"tensor {rank}": torch.full((2, 3), step + rank / 8)})
    folder.commit(step, {"told": step})


def test_what_was_written_is_read_whoever_wrote_it(tmp_path):
    folder = CheckpointFolder(tmp_path)
    save(folder, 7, parts=3)
    newest = folder.latest()
    assert newest.step == newest.metadata["told"] == 7
    with newest.open() as stored:
        found = {name: float(tensor[0, 0]) for name, tensor in stored.items()}
    assert found == {"tensor 0": 7.0, "tensor 1": 7.125, "tensor 2": 7.25}


def test_there_is_nothing_before_the_first(tmp_path):
    assert CheckpointFolder(tmp_path / "never made").latest() is None


def test_what_was_not_committed_is_not_there_and_is_cleared_away(tmp_path):
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    folder.begin(2)
    folder.write_shard(2, 0, 1, {"tensor": torch.zeros(1)})
    assert folder.latest().step == 1
    save(folder, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize(
    "harm", ["shorter", "flipped", "gone", "no facts", "half facts", "other facts", "other format"]
)
def test_a_broken_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, harm):
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    save(folder, 2)
    (part,) = (tmp_path / "step-00000002").glob("part-*")
    data, facts = bytearray(part.read_bytes()), part.with_name(METADATA_FILE)
    if harm == "shorter":
        part.write_bytes(data[:-1])
    elif harm == "flipped":
        data[-1] ^= 1
        part.write_bytes(data)
    elif harm == "gone":
        part.unlink()
    elif harm == "no facts":
        facts.unlink()
    elif harm == "half facts":
        facts.write_text(facts.read_text()[:20])
    else:
        key = {"other facts": "facts", "other format": "format"}[harm]
        facts.write_text(facts.read_text().replace(f'"{key}"', '"something"'))
    assert folder.latest().step == 1
    assert folder.steps() == [1]  # the broken one takes nobody's place
    assert "step-00000002" in caplog.text
    save(folder, 2)  # and it can be written again
    assert folder.latest().step == 2


def test_when_all_are_broken_nothing_is_read(tmp_path):
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    (tmp_path / "step-00000001" / METADATA_FILE).unlink()
    with pytest.raises(WeightsError, match="delete them to start over"):
        folder.latest()


def test_a_newer_format_is_not_guessed_at(tmp_path):
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    facts = tmp_path / "step-00000001" / METADATA_FILE
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "version": 99}))
    with pytest.raises(WeightsError, match="newer version"):
        folder.latest()
    assert folder.steps() == [1]


def test_the_last_few_and_every_nth_stay(tmp_path):
    folder = CheckpointFolder(tmp_path, keep_last=2, keep_every=4)
    for step in range(1, 10):
        save(folder, step)
    assert folder.steps() == [4, 8, 9]
    assert len(list(tmp_path.iterdir())) == 3
