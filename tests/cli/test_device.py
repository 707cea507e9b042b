import pytest
import torch

from more4d.cli.device import open_device, usable_cores
from more4d.foundation.errors import InputError


def test_without_a_gpu_the_cpu_is_chosen_and_all_its_cores(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert open_device("auto") == torch.device("cpu")
    assert threads == [usable_cores()] and usable_cores() >= 1


def test_with_a_gpu_it_is_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert open_device("auto").type == "cuda"
    with pytest.raises(InputError, match=r"cuda:3: only 1 CUDA"):
        open_device("cuda:3")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"no CUDA GPU .* --device cpu"):
        open_device("cuda")
