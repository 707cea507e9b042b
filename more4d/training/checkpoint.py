"""Training state on disk: written to a temporary name, then renamed, so that it is whole or absent."""

import logging
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from more4d.foundation.errors import WeightsError
from more4d.training.ema import ExponentialMovingAverage

log = logging.getLogger(__name__)
NAME = "checkpoint.pt"


def save_checkpoint(
    folder: Path,
    step: int,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: ExponentialMovingAverage | None,
) -> None:
    """Everything that a run needs to go on after `step` steps, in one file."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "step": step,
        "module": trainable_state(module),
        "optimiser": optimiser.state_dict(),
        "average": average.state_dict() if average else None,
    }
    temporary = folder / f".{NAME}.{os.getpid()}"
    with temporary.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / NAME)


def load_checkpoint(
    folder: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: ExponentialMovingAverage | None,
) -> int:
    """Restore what `save_checkpoint` wrote; returns the steps already taken, 0 where there is no checkpoint.

    Raises:
        WeightsError: the checkpoint is unreadable or belongs to another network.
    """
    path = folder / NAME
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError) as error:
        raise WeightsError(f"cannot read checkpoint {path}; delete it to start over") from error
    expected = trainable_state(module)
    if state["module"].keys() != expected.keys():
        odd = sorted(state["module"].keys() ^ expected.keys())[0]
        raise WeightsError(f"checkpoint {path} is of another network ('{odd}'); use another output folder")
    module.load_state_dict(state["module"], strict=False)
    optimiser.load_state_dict(state["optimiser"])
    if average:
        average.load_state_dict(state["average"])
    log.info("resumed from %s after %d steps", path, state["step"])
    return int(state["step"])


def trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that are trained, and buffers of the modules that hold one."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}
