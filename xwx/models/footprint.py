"""What a network takes of a device, found without computing or allocating anything.

A rollout runs on fake tensors, which have shapes, types and devices but no values, while every
storage that torch would allocate is counted from its birth to its death. The peak of what is alive
is the memory that the rollout needs of torch's allocator.
"""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import xwx_kernels  # noqa: F401 - defines the operators that are counted below
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry, shape_wrapper

from xwx.models.rollout import rollout
from xwx.spec import Spec

__all__ = ["Footprint", "footprint", "weights_of"]

#: Steps after which nothing changes any more in a rollout without a memory: the second is the
#: first that finds the state of another.
_SETTLED = 2


@dataclass(frozen=True)
class Footprint:
    """What the steps of a rollout take of a device.

    Attributes
    ----------
    weights : int
        Bytes of parameters and buffers.
    states : int
        Bytes of the states kept from step to step: those given, those that the network sees next,
        and the newest.
    memory : int
        Bytes of anything else kept from step to step, such as keys and values of past frames, at
        the last step that was followed.
    activations : int
        Bytes beyond all these at the worst moment of a step.
    operations : int
        Floating-point operations of the last step that was followed; a multiplication with
        addition is two.
    traffic : int
        Bytes that the operations of that step read and write.
    calls : int
        How many operations these are.

    Notes
    -----
    Not seen is what an operation allocates for itself and frees again (packed copies of matrices,
    partial results of attention), nor what an allocator keeps in reserve.
    """

    weights: int
    states: int
    memory: int
    activations: int
    operations: int
    traffic: int
    calls: int

    @property
    def peak(self) -> int:
        """Bytes alive at the worst moment."""
        return self.weights + self.states + self.memory + self.activations


def footprint(
    network: nn.Module,
    spec: Spec,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    steps: int = _SETTLED,
    remember: Callable[[nn.Module], Any] | None = None,
) -> Footprint:
    """Follow the first steps of a rollout of one start on fake tensors.

    Parameters
    ----------
    network : torch.nn.Module
        Stays as it is: a copy without numbers runs.
    spec : Spec
        What it takes and gives.
    device : torch.device
        Where it would run; need not be where it is.
    autocast : torch.dtype, optional
        The type of :class:`torch.autocast`; none by default.
    steps : int
        How many steps to follow: with a memory of M frames, M + 2 until it is full.
    remember : callable, optional
        From the copy of the network to the empty memory that the first step is given.

    Raises
    ------
    Exception
        Whatever a network raises that cannot run without numbers, because what it does depends on
        values or an operation of it has no fake form.
    """
    alive = _Alive()
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        light = _copied(network, fake, device)
        for tensor in _tensors(light):
            alive.note(tensor)
        weights = alive.bytes
        shape = (1, spec.history, len(spec.channels), *spec.grid.shape)
        x = torch.empty(shape, device=device)
        state = x.nbytes // spec.history
        alive.note(x)
        forcing = _forcing(spec, device)
        ahead = rollout(light, x, steps, forcing, None if remember is None else remember(light))
        for _ in range(steps):
            alive.begin_step()
            with torch.inference_mode(), alive, _precision(device, autocast):
                last = next(ahead)[0].float()
        held = alive.bytes
        states = (2 * spec.history + 1) * state
        del last
    memory = max(0, held - weights - states)
    return Footprint(
        weights=weights,
        states=states,
        memory=memory,
        activations=max(0, alive.peak - weights - states - memory),
        operations=alive.operations,
        traffic=alive.traffic,
        calls=alive.calls,
    )


def weights_of(network: nn.Module) -> int:
    """Return the bytes of the parameters and buffers of a network."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in _tensors(network)}
    return sum(storages.values())


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())


def _copied(network: nn.Module, fake: FakeTensorMode, device: torch.device) -> nn.Module:
    """Return a copy on a device whose weights take no room: what it keeps of a run goes with it."""

    def lighten(tensor: Tensor) -> Tensor:
        moved: Tensor = fake.from_tensor(tensor).to(device)
        return moved.detach().requires_grad_(tensor.requires_grad)

    light = {id(tensor): lighten(tensor) for tensor in _tensors(network)}
    return copy.deepcopy(network, light)


def _forcing(spec: Spec, device: torch.device) -> Callable[[int], Tensor | None] | None:
    if not spec.forcings:
        return None
    shape = (1, len(spec.forcings), *spec.grid.shape)
    return lambda step: torch.empty(shape, device=device)


def _precision(
    device: torch.device, autocast: torch.dtype | None
) -> AbstractContextManager[object]:
    return nullcontext() if autocast is None else torch.autocast(device.type, autocast)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make, until the last tensor that uses them is gone.

    And floating-point operations, by the formulas of torch: its own counter hooks into modules, so
    that what they compute again on the way back would live on.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = self.operations = self.traffic = self.calls = 0
        self._known: dict[int, int] = {}

    def begin_step(self) -> None:
        """Count operations from here on."""
        self.operations = self.traffic = self.calls = 0

    def note(self, tensor: Tensor) -> bool:
        """Count the storage of a tensor once; return whether it is a new one."""
        storage = tensor.untyped_storage()
        # torch keeps this object as long as the storage lives, though nobody else refers to it.
        key = id(storage)
        if key in self._known:
            return False
        self._known[key] = storage.nbytes()
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._forget, key)
        return True

    def _forget(self, key: int) -> None:
        self.bytes -= self._known.pop(key)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:  # operations made of others: those count, one by one
            out = func.decompose(*args, **kwargs) if func is not _DEVICE else NotImplemented
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        if (formula := _FORMULAS.get(func.overloadpacket)) is not None:
            self.operations += formula(*args, **kwargs, out_val=out)
        made = [t for t in tree_iter(out) if isinstance(t, Tensor)]
        if [t for t in made if self.note(t)]:  # a view makes nothing
            read = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)]
            self.traffic += sum(t.nbytes for t in (*made, *read))
            self.calls += 1
        return out


_DEVICE = torch.ops.prim.device.default


def _attention(q: Any, k: Any, *_: Any, **__: Any) -> int:
    """Two products with each key, for q (B, heads, N, d) and k (B, heads, M, d)."""
    return int(4 * q.numel() * k[-2])


def _attention_backward(gradient: Any, q: Any, k: Any, *_: Any, **__: Any) -> int:
    """Five products with each key: the scores again, and what q, k, v and the scores get."""
    return int(10 * q.numel() * k[-2])


def _window_attention(
    qkv: Any, height: int, width: int, rows: int, columns: int, *_: Any, **__: Any
) -> int:
    """The same, where the keys are the tokens of a window."""
    return int(4 * qkv.numel() // 3 * rows * columns)


def _memory_attention(q: Any, k: Any, v: Any, cache_k: Any, *_: Any, **__: Any) -> int:
    """The same for each frame held and the present."""
    return int(4 * q.numel() * k[-2] * (cache_k[2] + 1))


def _multi_convs(x: Any, kernels: Any, *_: Any, **__: Any) -> int:
    """Depthwise, and as many taps as the largest kernel has."""
    return int(2 * x.numel() * max(kernel[-1] for kernel in kernels) ** 2)


#: Those of torch, and what torch does not know; these take shapes in place of tensors.
_FORMULAS: dict[Any, Callable[..., int]] = flop_registry | {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: shape_wrapper(_attention),  # type: ignore[no-untyped-call]
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: shape_wrapper(  # type: ignore[no-untyped-call]
        _attention_backward
    ),
    torch.ops.xwx_kernels.window_attention: shape_wrapper(_window_attention),  # type: ignore[no-untyped-call]
    torch.ops.xwx_kernels.memory_attention: shape_wrapper(_memory_attention),  # type: ignore[no-untyped-call]
    torch.ops.xwx_kernels.multi_convs: shape_wrapper(_multi_convs),  # type: ignore[no-untyped-call]
}
