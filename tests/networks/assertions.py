"""Assertions about weights of networks and about error messages."""

import pytest
import torch


def assert_same_state(one: torch.nn.Module, other: torch.nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    buffers = dict(other.named_buffers())
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in one.named_buffers())


def assert_one_line_error(error: pytest.ExceptionInfo[Exception], *words: str) -> None:
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
