import pytest
import torch

from more4d.distributed import Processes
from more4d.foundation.errors import InputError

FOUR = Processes(rank=5, count=8, local_rank=1, local_count=4)


def test_a_launcher_says_who_we_are(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.launched() == Processes(rank=0, count=1, local_rank=0, local_count=1)
    for name, number in (("RANK", 5), ("WORLD_SIZE", 8), ("LOCAL_RANK", 1), ("LOCAL_WORLD_SIZE", 4)):
        monkeypatch.setenv(name, str(number))
    assert Processes.launched() == FOUR and FOUR.are_several and not FOUR.is_first


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [FOUR.device(asked) for asked in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    assert Processes().device("cuda:2") == "cuda:2"
    with pytest.raises(InputError, match="one GPU for 8 processes"):
        FOUR.device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="4 processes were launched here, and there are 2 GPUs"):
        FOUR.device("auto")


def test_without_a_gpu_all_share_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert FOUR.device("auto") == "cpu"
    with pytest.raises(InputError, match="there are 0 GPUs"):
        FOUR.device("cuda")


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # put back afterwards
    monkeypatch.delenv("OMP_NUM_THREADS")
    try:
        FOUR.share_cores(12)
        assert torch.get_num_threads() == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        torch.set_num_threads(2)
        FOUR.share_cores(12)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
