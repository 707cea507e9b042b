"""The tokens of one sample divided among processes (Ulysses: Jacobs et al. 2023, arXiv 2309.14509).

Every process has a run of the tokens, and all weights. Most layers of a transformer work on one token at a
time; self-attention works on all of them, but on one head at a time. So around it the processes exchange
data: each sends its tokens of all heads and receives all tokens of some heads, and afterwards the reverse.

    [b, tokens / n, heads, head_dim]  -- all-to-all -->  [b, tokens, heads / n, head_dim]

diffusers' own context parallelism does the same exchange. It needs equal shares, or else gathers the lengths
of all processes at every attention; and it splits tensors by the name of an argument, where motion perception
also has to know which tokens a process has.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, distributed


@dataclass(frozen=True)
class ContextParallel:
    """The processes that compute every sample together, calling the network with the same inputs.

    Attributes:
        group: of torch.distributed: NCCL for tensors on GPUs, gloo for a CPU.
    """

    group: distributed.ProcessGroup

    def shard(self, tokens: int, heads: int) -> "TokenShard":
        """The part of a sequence that this process computes.

        Raises:
            ValueError: more processes than tokens or heads, or gradients are enabled, which are not
                exchanged.
        """
        processes = self.group.size()
        if torch.is_grad_enabled():
            raise ValueError("context parallelism computes no gradients; call the network under no_grad")
        if processes > min(tokens, heads):
            raise ValueError(f"{processes} processes cannot share {tokens} tokens of {heads} heads")
        # Uneven shares are allowed; the first processes have one token, or one head, more.
        return TokenShard(
            group=self.group,
            rank=self.group.rank(),
            sizes=split_evenly(tokens, processes),
            heads=split_evenly(heads, processes),
        )


@dataclass(frozen=True, kw_only=True)
class TokenShard:
    """One process's run of a sequence of tokens, and the heads it attends with.

    Attributes:
        rank: of this process in the group.
        sizes: how many tokens each process has, in the order of the sequence.
        heads: how many heads each process attends with.
    """

    group: distributed.ProcessGroup
    rank: int
    sizes: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def start(self) -> int:
        """First token of this process."""
        return list(accumulate(self.sizes, initial=0))[self.rank]

    @property
    def stop(self) -> int:
        """First token after those of this process."""
        return self.start + self.sizes[self.rank]

    def tokens_for_heads(
        self, *vectors: Float[Tensor, "b mine heads head_dim"]
    ) -> tuple[Float[Tensor, "b all few head_dim"], ...]:
        """From some tokens of all heads to all tokens of some heads; several tensors in one exchange."""
        # Queries, keys and values in one exchange: [3, b, mine, heads, head_dim]
        stacked = torch.stack(vectors)
        count, batch, _, _, width = stacked.shape
        few = self.heads[self.rank]
        # What arrives from each process: its tokens, of this process's heads.
        shapes = [(count, batch, tokens, few, width) for tokens in self.sizes]
        return self._all_to_all(stacked.split(self.heads, dim=3), shapes, dim=2).unbind(0)

    def heads_for_tokens(
        self, attended: Float[Tensor, "b all few head_dim"]
    ) -> Float[Tensor, "b mine heads head_dim"]:
        """Back from all tokens of some heads to some tokens of all heads."""
        batch, _, _, width = attended.shape
        # What arrives from each process: this process's tokens, of its heads.
        shapes = [(batch, self.sizes[self.rank], few, width) for few in self.heads]
        return self._all_to_all(attended.split(self.sizes, dim=1), shapes, dim=2)

    def gather(self, tokens: Float[Tensor, "b mine channels"]) -> Float[Tensor, "b all channels"]:
        """Every process's tokens, on every process."""
        batch, _, channels = tokens.shape
        shapes = [(batch, size, channels) for size in self.sizes]
        return self._all_to_all((tokens,) * len(shapes), shapes, dim=1)

    def _all_to_all(self, parts: tuple[Tensor, ...], shapes: list[tuple[int, ...]], dim: int) -> Tensor:
        """Send part i to process i, and join what comes back, of these shapes, along `dim`."""
        # Flat buffers, because the parts of uneven shares differ in length.
        sent = torch.cat([part.reshape(-1) for part in parts])
        lengths = [torch.Size(shape).numel() for shape in shapes]
        received = sent.new_empty(sum(lengths))
        distributed.all_to_all_single(received, sent, lengths, [part.numel() for part in parts], self.group)
        return torch.cat(
            [piece.view(shape) for piece, shape in zip(received.split(lengths), shapes, strict=True)], dim
        )


def split_evenly(count: int, shares: int) -> tuple[int, ...]:
    """Split `count` into `shares` numbers; the first have one more where it does not divide."""
    each, rest = divmod(count, shares)
    return tuple(each + (share < rest) for share in range(shares))
