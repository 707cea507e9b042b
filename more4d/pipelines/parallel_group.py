"""What connects the processes that make one sample together."""

from dataclasses import dataclass
from typing import Any

from torch import distributed

from more4d.foundation.errors import DistributedError


@dataclass
class ParallelGroup:
    """All processes of the run, as one of them reaches them.

    Attributes:
        control_group: gloo's, over which the first process tells the others what to do.
        tensor_group: over which the network's tokens go.
        desynchronised: whether a draw was broken off, after which nothing can be done together any more.
    """

    control_group: distributed.ProcessGroup
    tensor_group: distributed.ProcessGroup
    desynchronised: bool = False

    def broadcast(self, message: Any) -> None:
        """Tell all others; for the first process."""
        distributed.broadcast_object_list([message], src=0, group=self.control_group)

    def receive(self) -> Any:
        """What the first process says; for the others.

        Raises:
            DistributedError: it is gone.
        """
        received = [None]
        try:
            distributed.broadcast_object_list(received, src=0, group=self.control_group)
        except RuntimeError as error:
            raise DistributedError(
                "process 0 has ended in the middle of the run; see what it said"
            ) from error
        return received[0]
