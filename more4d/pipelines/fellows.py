"""What connects the processes that make one sample together."""

from dataclasses import dataclass
from typing import Any

from torch import distributed

from more4d.foundation.errors import ProcessesError


@dataclass
class Fellows:
    """All processes of the run, as one of them reaches them.

    Attributes:
        words: gloo's, over which the first process tells the others what to do.
        tensors: over which the network's tokens go.
        out_of_step: whether a draw was broken off, after which nothing can be done together any more.
    """

    words: distributed.ProcessGroup
    tensors: distributed.ProcessGroup
    out_of_step: bool = False

    def say(self, words: Any) -> None:
        """Tell all others; for the first process."""
        distributed.broadcast_object_list([words], src=0, group=self.words)

    def hear(self) -> Any:
        """What the first process says; for the others.

        Raises:
            ProcessesError: it is gone.
        """
        heard = [None]
        try:
            distributed.broadcast_object_list(heard, src=0, group=self.words)
        except RuntimeError as error:
            raise ProcessesError("process 0 has ended in the middle of the run; see what it said") from error
        return heard[0]
