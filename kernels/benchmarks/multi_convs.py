"""Multi-convs against convolutions as one would write them in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from measuring import Case, Ways
from torch import Tensor
from xwx_kernels import multi_convs

SIZES = (1, 3, 5)
#: Batch, rows, columns, channels. On the CPU: two shapes that carry goals, the bundled model's map,
#: and the valley of the 1.4 degree presets.
ON_CPU = ((1, 45, 90, 2304), (4, 16, 32, 768), (4, 37, 72, 192), (1, 16, 32, 2304))
ON_GPU = tuple(
    (batch, rows, columns, 2304)
    for rows, columns in ((16, 32), (64, 128), (90, 180))
    for batch in (1, 4, 16)
)


#: At these batches the compiled ways are timed too; each takes seconds to compile.
COMPILED = (4,)
QUICK = (4, 64, 128, 2304)


def cases(device: torch.device, *, quick: bool = False) -> Iterator[Case]:
    """Yield forward alone and forward with backward at every size."""
    on_gpu = device.type == "cuda"
    for dtype in (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,):
        for shape in ((QUICK,) if quick else ON_GPU) if on_gpu else ON_CPU:
            for backward in (False, True):
                compiled = on_gpu and not quick and shape[0] in COMPILED
                yield _case(shape, dtype, device, backward=backward, compiled=compiled)


def _case(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    *,
    backward: bool,
    compiled: bool,
) -> Case:
    batch, rows, columns, channels = shape
    elements = batch * rows * columns * channels
    width = torch.finfo(dtype).bits // 8
    # forward: x in, y out. backward: gradient and x in, dx out, and twice the arithmetic
    maps, passes = (5, 3) if backward else (2, 1)
    return Case(
        "multi_convs",
        f"{batch} x {rows} x {columns}, {channels} channels",
        "forward+backward" if backward else "forward",
        dtype,
        lambda: ways(shape, dtype, device, backward=backward, compiled=compiled),
        maps * elements * width,
        passes * 2 * 25 * elements,
        "vector",
    )


def ways(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    *,
    backward: bool = True,
    compiled: bool = False,
) -> Ways:
    """Return the ways to compute the same sums, on fresh inputs.

    "Tokens" begin and end with tokens (B, h w, C), which is what a transformer holds; "NCHW"
    begins and ends with an image that already lies so in memory, and sees no rearrangement.
    """
    batch, rows, columns, channels = shape
    make = {"device": device, "dtype": dtype}
    tokens = torch.randn(batch, rows * columns, channels, **make)
    gradient = torch.randn_like(tokens)
    kernels = [torch.randn(channels, 1, k, k, device=device) for k in SIZES]
    image = torch.randn(batch, channels, rows, columns, **make)
    gradient_image = torch.randn_like(image)
    single = kernels[-1].clone()
    for leaf in (tokens, image, single, *kernels):
        leaf.requires_grad_(backward)

    def complete(run: Callable[[Tensor, list[Tensor]], Tensor], x: Tensor, weights: list[Tensor]):
        if not backward:
            with torch.no_grad():
                return run(x, weights)
        up = gradient if x is tokens else gradient_image
        return torch.autograd.grad(run(x, weights), [x, *weights], up)

    def ours(x: Tensor, weights: list[Tensor]) -> Tensor:
        return multi_convs(x, *weights, size=(rows, columns))

    def branches(x: Tensor, weights: list[Tensor]) -> Tensor:
        return sum(_convolve(x, weight) for weight in weights[1:]) + _convolve(x, weights[0])

    def on_tokens(
        run: Callable[[Tensor, list[Tensor]], Tensor],
        layout: torch.memory_format,
        inner: torch.dtype = dtype,
    ) -> Callable[[Tensor, list[Tensor]], Tensor]:
        def through(x: Tensor, weights: list[Tensor]) -> Tensor:
            image = x.view(batch, rows, columns, channels).permute(0, 3, 1, 2)
            image = image.to(inner).contiguous(memory_format=layout)
            y = run(image, [weight.to(inner) for weight in weights])
            return y.permute(0, 2, 3, 1).reshape(x.shape).to(x.dtype)

        return through

    plain, last = torch.contiguous_format, torch.channels_last
    chosen = {
        "multi_convs": (ours, tokens, kernels),
        "three branches, tokens": (on_tokens(branches, plain), tokens, kernels),
        "one 5 x 5, tokens": (on_tokens(branches_of_one, plain), tokens, [single]),
        "one 5 x 5, tokens, channels last": (on_tokens(branches_of_one, last), tokens, [single]),
    }
    if dtype != torch.float32:  # the published layer runs in float32 within bfloat16 models
        cast = on_tokens(branches, plain, torch.float32)
        chosen["three branches, tokens, in float32"] = (cast, tokens, kernels)
    else:
        chosen["three branches, NCHW"] = (branches, image, kernels)
        chosen["one 5 x 5, NCHW"] = (branches_of_one, image, [single])
    if compiled:
        for name in ("three branches, tokens", "one 5 x 5, tokens, channels last"):
            run, x, weights = chosen[name]
            chosen[f"{name}, compiled"] = (torch.compile(run, dynamic=False), x, weights)
    return {name: (lambda way=way: complete(*way)) for name, way in chosen.items()}


def branches_of_one(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Convolve an image with the one kernel that there is."""
    return _convolve(x, weights[0])


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve an image (B, C, h, w): longitude closes, beyond the poles lie zeros."""
    r = kernel.shape[-1] // 2
    x = F.pad(x, (r, r, 0, 0), mode="circular") if r else x
    return F.conv2d(x, kernel, padding=(r, 0), groups=x.shape[1])
