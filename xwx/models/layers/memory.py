"""What an attention block remembers: keys and values of past forecast steps, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import xwx_kernels
from torch import Tensor

from xwx.models.layers.kernels import backend

__all__ = ["Memory", "memory_tensors", "restore_memory"]

_HELD = ("k", "v", "score", "age")


@dataclass(frozen=True, eq=False)
class Memory:
    """The keys and values of a few past steps, of one block (EMFormer, section 3.2).

    A *frame* is what one forecast step wrote: keys and values of all N tokens. Queries attend to
    the frames held and to the present jointly; the share of the attention that a frame draws is
    its mass, and ``score = alpha * mass + (1 - alpha) * score before``. Once `length` frames are
    held, each step forgets one of them: that of the lowest score, the oldest of equals. The
    present frame is always kept. Batch entries forget independently of each other.

    Parameters
    ----------
    length : int
        Most frames to hold, at least 1; a network without memory is given None instead.
    alpha : float
        Weight of the present mass in the scores, from 0 to 1.
    attached : bool
        Whether gradients flow into what is held, as for backpropagation through several steps.
    k, v : Tensor, shape (B, heads, M, N, d), optional
        Frames held, oldest first, in the type that attention computes in; None while empty.
    score : Tensor, shape (B, M), optional
    age : Tensor of int, shape (B, M), optional
        The forecast step, counted from 0, that wrote the frame; increases along M.
    parts : tuple of Memory
        Of a windowed block, which treats windows as batch entries: one memory for the windows of
        each shape, in place of `k`, `v`, `score` and `age`.

    Raises
    ------
    ValueError
        For a length or `alpha` out of range, or more frames than `length`.
    """

    length: int
    alpha: float = 0.9
    attached: bool = False
    k: Tensor | None = None
    v: Tensor | None = None
    score: Tensor | None = None
    age: Tensor | None = None
    parts: tuple[Memory, ...] = ()

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"Memory length={self.length}: at least 1; for none pass None instead")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"Memory alpha={self.alpha}: give a weight from 0 to 1")
        if self.k is not None and self.k.shape[2] > self.length:
            raise ValueError(
                f"Memory of {self.k.shape[2]} frames with length={self.length}: give at most "
                f"{self.length}"
            )

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """Attend to remembered and present keys.

        Parameters
        ----------
        q, k, v : Tensor, shape (B, heads, N, d)
            Queries, keys and values of the present state, without padding.
        bias : Tensor, shape (heads, lags), optional
            Added to the logits of a frame: the last column to the present, the one before it to
            the newest frame held, and so on.

        Returns
        -------
        Tensor, shape (B, heads, N, d)
            The attention output.
        Memory
            The memory for the next step; this one is left as it was.

        Raises
        ------
        ValueError
            For shapes that do not fit what is held.
        """
        past_k, past_v, score, age = self._held(q)
        if bias is not None:
            bias = bias[:, -past_k.shape[2] - 1 :]
        out, _, score = xwx_kernels.memory_attention(
            *(q, k, v, past_k, past_v, score, self.alpha), bias=bias, backend=backend()
        )
        present = age.new_zeros((len(age), 1)) if self.age is None else age[:, -1:] + 1
        if past_k.shape[2] == self.length:
            past, worst = score[:, :-1], score[:, :-1].argmin(1)  # the first of equals
            past_k, past_v = _without(past_k, worst), _without(past_v, worst)
            age = _without(age, worst)
            score = torch.cat([_without(past, worst), score[:, -1:]], dim=1)
        if not self.attached:
            past_k, past_v, k, v = (x.detach() for x in (past_k, past_v, k, v))
        # A copy, as k and v are views of a projection three times their size.
        return out, replace(
            self,
            k=torch.cat([past_k.to(out.dtype), k[:, :, None].to(out.dtype)], dim=2),
            v=torch.cat([past_v.to(out.dtype), v[:, :, None].to(out.dtype)], dim=2),
            score=score,
            age=torch.cat([age, present], dim=1),
        )

    def detach(self) -> Memory:
        """Return the memory cut off from the steps that wrote it: no gradient flows further."""
        if self.parts:
            return replace(self, parts=tuple(part.detach() for part in self.parts))
        if self.k is None or self.v is None:
            return self
        return replace(self, k=self.k.detach(), v=self.v.detach())

    def _held(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return keys, values, scores and ages, of no frames while empty."""
        if self.k is not None and self.v is not None:
            if self.score is None or self.age is None:
                raise ValueError("Memory with keys, but without score or age: give all or none")
            return self.k, self.v, self.score, self.age
        none = q.new_empty((*q.shape[:2], 0, *q.shape[2:]))
        scores = q.new_empty((q.shape[0], 0), dtype=torch.promote_types(q.dtype, torch.float32))
        return none, none, scores, scores.long()


def _without(x: Tensor, index: Tensor) -> Tensor:
    """Drop entry `index[b]` of axis 2 of x (B, heads, M, N, d), or of axis 1 of x (B, M)."""
    axis = 2 if x.ndim == 5 else 1
    count = x.shape[axis] - 1
    shape = [1] * x.ndim
    shape[axis] = count
    # Before the dropped entry all stay where they are, behind it they move up: no gathering.
    ahead = torch.arange(count, device=x.device).view(shape) < index.view(-1, *[1] * (x.ndim - 1))
    return torch.where(ahead, x.narrow(axis, 0, count), x.narrow(axis, 1, count))


def memory_tensors(memory: Sequence[Memory | None] | None) -> dict[str, Tensor]:
    """Return all that a memory is made of under flat names, as safetensors keeps them.

    Parameters
    ----------
    memory : sequence of Memory or None, or None
        One a block, as a network takes and gives it; None for no memory.

    Returns
    -------
    dict of str to Tensor
        ``blocks``, their number; for block n ``n.length`` and ``n.alpha``, and ``n.k``, ``n.v``,
        ``n.score`` and ``n.age`` once it holds something; with ``n.parts.m.`` before the name for
        part m of a windowed block. Gradients and `attached` are not kept.
        Nothing for None.
    """
    if memory is None:
        return {}
    tensors = {"blocks": torch.tensor(len(memory))}
    for n, block in enumerate(memory):
        if block is not None:
            tensors |= _flatten(block, f"{n}.")
    return tensors


def _flatten(memory: Memory, prefix: str) -> dict[str, Tensor]:
    tensors = {
        f"{prefix}length": torch.tensor(memory.length),
        f"{prefix}alpha": torch.tensor(memory.alpha, dtype=torch.float64),
    }
    for name in _HELD:
        held = getattr(memory, name)
        if held is not None:
            tensors[prefix + name] = held.detach().contiguous()
    for m, part in enumerate(memory.parts):
        tensors |= _flatten(part, f"{prefix}parts.{m}.")
    return tensors


def restore_memory(tensors: Mapping[str, Tensor]) -> list[Memory | None] | None:
    """Rebuild a memory from what :func:`memory_tensors` returned.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        On the device where the network runs.

    Returns
    -------
    list of Memory or None, or None
        One a block, not attached; None from no tensors.

    Raises
    ------
    ValueError
        When tensors are missing or belong to something else.
    """
    if not tensors:
        return None
    tensors = dict(tensors)
    try:
        count = int(tensors.pop("blocks"))
        memory = [_rebuild(tensors, f"{n}.") for n in range(count)]
    except KeyError as error:
        raise ValueError(f"memory without {error}: give all that memory_tensors returned") from None
    if tensors:
        names = ", ".join(sorted(tensors)[:5])
        raise ValueError(f"no memory is made of {names}: give only what memory_tensors returned")
    return memory


def _rebuild(tensors: dict[str, Tensor], prefix: str) -> Memory | None:
    """Take the tensors of one memory out of all of them; None where there are none."""
    if not any(name.startswith(prefix) for name in tensors):
        return None
    length, alpha = int(tensors.pop(f"{prefix}length")), float(tensors.pop(f"{prefix}alpha"))
    parts: list[Memory] = []
    while (part := _rebuild(tensors, f"{prefix}parts.{len(parts)}.")) is not None:
        parts.append(part)
    memory = Memory(length, alpha, parts=tuple(parts))
    if f"{prefix}k" not in tensors:
        return memory
    k, v, score, age = (tensors.pop(prefix + name) for name in _HELD)
    return replace(memory, k=k, v=v, score=score, age=age)
