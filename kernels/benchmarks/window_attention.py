"""Window attention against windows that are cut out of the map and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from measuring import Case, Ways
from torch import Tensor
from xwx_kernels import window_attention


@dataclass(frozen=True)
class Shape:
    """A map of `size` with `dim` channels in `heads` heads, in windows that begin at `shift`."""

    batch: int
    size: tuple[int, int]
    dim: int
    heads: int
    window: tuple[int, int]
    shift: int = 0

    def __str__(self) -> str:
        """Return a line for the table."""
        (height, width), (rows, columns) = self.size, self.window
        return (
            f"{self.batch} x {height} x {width}, {self.dim} channels, {self.heads} heads, "
            f"{rows} x {columns} from column {self.shift}"
        )


#: The valley of the 1.4 degree presets, its map of patches, the bundled model's map, and one whose
#: rows and columns do not divide.
ON_CPU = (
    *(Shape(1, (16, 32), 768, 8, *w) for w in (((8, 8), 0), ((16, 4), 2), ((4, 16), 8))),
    *(Shape(1, (64, 128), 768, 8, *w) for w in (((8, 8), 0), ((8, 8), 4), ((16, 4), 2))),
    *(Shape(1, (37, 72), 64, 4, (4, 8), shift) for shift in (0, 4)),
    Shape(1, (45, 90), 384, 8, (8, 8)),
)
ON_GPU = tuple(
    Shape(batch, size, 768, 8, *w)
    for size, windows in (
        ((64, 128), (((8, 8), 0), ((8, 8), 4), ((16, 4), 2), ((4, 16), 8))),
        ((90, 180), (((8, 8), 0), ((16, 4), 2), ((4, 16), 0))),
    )
    for batch in (1, 4)
    for w in windows
)


def cases(device: torch.device, *, quick: bool = False) -> Iterator[Case]:
    """Yield forward alone and forward with backward at every size."""
    on_gpu = device.type == "cuda"
    for dtype in (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,):
        for shape in (ON_GPU[4:6] if quick else ON_GPU) if on_gpu else ON_CPU:
            # It takes seconds to compile one.
            compiled = on_gpu and not quick and shape.batch == 4 and shape.window == (8, 8)
            for backward in (False, True):
                yield _case(shape, dtype, device, backward=backward, compiled=compiled)


def _case(
    shape: Shape, dtype: torch.dtype, device: torch.device, *, backward: bool, compiled: bool
) -> Case:
    elements = shape.batch * shape.size[0] * shape.size[1] * shape.dim
    bytes_each = torch.finfo(dtype).bits // 8
    # forward: three parts in, one out. backward: these and the gradient in, three parts out, and
    # twice the arithmetic
    maps, passes = (11, 3) if backward else (4, 1)
    keys = min(shape.window[0], shape.size[0]) * min(shape.window[1], shape.size[1])
    return Case(
        "window_attention",
        str(shape),
        "forward+backward" if backward else "forward",
        dtype,
        lambda: ways(shape, dtype, device, backward=backward, compiled=compiled),
        maps * elements * bytes_each,
        passes * 4 * keys * elements,
        "matrix",
    )


def ways(
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    *,
    backward: bool = True,
    compiled: bool = False,
) -> Ways:
    """Return the ways to compute the same attention, on fresh inputs."""
    count = shape.size[0] * shape.size[1]
    qkv = torch.randn(shape.batch, count, 3 * shape.dim, device=device, dtype=dtype)
    gradient = torch.randn(shape.batch, count, shape.dim, device=device, dtype=dtype)
    qkv.requires_grad_(backward)

    def complete(run: Callable[[Tensor, Shape], Tensor]) -> object:
        if not backward:
            with torch.no_grad():
                return run(qkv, shape)
        return torch.autograd.grad(run(qkv, shape), qkv, gradient)

    chosen = {
        "window_attention": _ours,
        "roll, pad, cut, attend, join, roll": cut_and_join,
        "window_attention, backend='torch'": _reference,
    }
    if compiled:
        chosen["roll, pad, ..., compiled"] = torch.compile(cut_and_join, dynamic=False)
    return {name: (lambda run=run: complete(run)) for name, run in chosen.items()}


def _ours(qkv: Tensor, shape: Shape, backend: str = "auto") -> Tensor:
    return window_attention(
        qkv,
        size=shape.size,
        window=shape.window,
        heads=shape.heads,
        shift=shape.shift,
        backend=backend,
    )


def _reference(qkv: Tensor, shape: Shape) -> Tensor:
    return _ours(qkv, shape, "torch")


def cut_and_join(qkv: Tensor, shape: Shape) -> Tensor:
    """Attend as is usual: roll the map, pad it, cut windows, attend, and all of it backwards."""
    (height, width), batch = shape.size, shape.batch
    rows, columns = min(shape.window[0], height), min(shape.window[1], width)
    south, east = -height % rows, -width % columns
    down, across = (height + south) // rows, (width + east) // columns
    x = qkv.view(batch, height, width, -1)
    if shape.shift:
        x = x.roll(-shape.shift, dims=2)
    if east:
        x = torch.cat([x, x[:, :, :east]], dim=2)
    x = F.pad(x, (0, 0, 0, 0, 0, south))
    x = x.view(batch, down, rows, across, columns, -1).transpose(2, 3)
    x = x.reshape(batch * down * across, rows * columns, 3, shape.heads, -1)
    q, k, v = x.permute(2, 0, 3, 1, 4).unbind()
    mask = None
    if south:
        row = torch.arange(height + south, device=qkv.device).view(1, down, 1, rows, 1) < height
        mask = row.expand(batch, down, across, rows, columns).reshape(len(q), 1, 1, -1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
    out = out.reshape(batch, down, across, rows, columns, -1).transpose(2, 3)
    out = out.reshape(batch, height + south, width + east, -1)[:, :height, :width]
    if shape.shift:
        out = out.roll(shape.shift, dims=2)
    return out.reshape(batch, height * width, -1)
