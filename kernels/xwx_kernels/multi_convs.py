"""Multi-convs: parallel convolutions of several sizes over a map of tokens, as one convolution.

Branches with kernels ``k_r`` of different odd sizes see the same padded map, so their sum is one
convolution with the sum of the centred kernels, ``K = sum_r E_r k_r``, where ``E_r`` embeds a
kernel in the largest size (EMFormer, arXiv 2602.01194, section 3.1). The chain rule through that
sum hands every branch its own gradient: the slice of the gradient of ``K`` under it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xwx_kernels._operators.multi_convs import fused
from xwx_kernels.arguments import check_pair, check_tensors
from xwx_kernels.precision import as_given
from xwx_kernels.selection import choose

__all__ = ["fuse_kernels", "multi_convs", "pad_map"]

LONGITUDE = ("circular", "zero")
LATITUDE = ("zero", "pole")


def multi_convs(
    x: Tensor,
    *kernels: Tensor,
    size: tuple[int, int],
    longitude: str = "circular",
    latitude: str = "zero",
    backend: str = "auto",
) -> Tensor:
    """Sum of convolutions of several odd sizes over a latitude-longitude map of tokens.

    Sums are formed in float32 or wider, whatever the type of the tokens. Gradients that nobody
    asked for are not computed.

    Parameters
    ----------
    x : Tensor, shape (B, h*w, C)
        Tokens in row-major order, rows from north to south.
    *kernels : Tensor, shape (C, 1, k, k) or (C, C / groups, k, k)
        One kernel a branch, each of an odd size k of its own. The second axis tells the number
        of groups; 1 is a depthwise convolution.
    size : (int, int)
        Rows h and columns w of the map.
    longitude : {"circular", "zero"}
        What lies beyond the first and last column: the other side of the globe, or zeros.
    latitude : {"zero", "pole"}
        What lies beyond the first and last row: zeros, or the rows across the pole, that is the
        mirrored rows turned by 180 degrees (cell-centred rows, even w).
    backend : {"auto", "triton", "numba", "torch"}
        What computes it. The fast implementations are for depthwise kernels and differentiate
        once; ``"torch"`` is made of differentiable torch operations and takes everything.
        ``"auto"`` is Triton on a GPU, and numba on a CPU where there are enough channels and
        columns for it to be faster; torch for the rest, for ``torch.func`` and in forward mode.

    Returns
    -------
    Tensor, shape (B, h*w, C)
        In the type and on the device of `x`.

    Raises
    ------
    TypeError
        For what is not a tensor of floating point, and a size that is not two whole numbers.
    ValueError
        For shapes or devices that do not agree, an even kernel, an unknown padding, a circular map
        of one column, a pole on a map with an odd number of columns, or an unknown backend.
    RuntimeError
        When `backend` names an implementation that cannot run on these inputs.
    """
    _check(x, kernels, size, longitude, latitude)
    chosen = choose(
        *("multi_convs", backend, x.device),
        lambda name: _obstacle(name, x, kernels),
        pays=lambda name: _pays(name, x, kernels, size[1]),
    )
    if chosen == "torch":
        return reference(x, *kernels, size=size, longitude=longitude, latitude=latitude)
    y: Tensor = fused(x, list(kernels), *size, longitude, latitude, chosen)
    return y


def reference(
    x: Tensor, *kernels: Tensor, size: tuple[int, int], longitude: str, latitude: str
) -> Tensor:
    """Pad, convolve once with the fused kernel, in torch operations."""
    batch, _, channels = x.shape
    kernel = fuse_kernels(kernels)
    if not channels:  # of which there are no groups; the product is empty, and differentiable
        return x * kernel.sum().to(x.dtype)
    wide = torch.promote_types(torch.promote_types(x.dtype, kernel.dtype), torch.float32)
    radius = kernel.shape[-1] // 2
    padded = pad_map(x.reshape(batch, *size, channels), radius, longitude, latitude).to(wide)
    groups = channels // kernel.shape[1]
    with as_given(x.device):
        # A permuted view is the channels-last layout that convolutions handle without a copy.
        y = F.conv2d(padded.permute(0, 3, 1, 2), kernel.to(wide), groups=groups)
    return y.permute(0, 2, 3, 1).reshape(x.shape).to(x.dtype)


def fuse_kernels(kernels: tuple[Tensor, ...]) -> Tensor:
    """Return ``K = sum_r E_r k_r``: the kernels centred in the largest one and added.

    Parameters
    ----------
    kernels : tuple of Tensor, each of shape (C, G, k, k), k odd

    Returns
    -------
    Tensor, shape (C, G, K, K), with K the largest k
    """
    largest = max(k.shape[-1] for k in kernels)
    margins = [(largest - k.shape[-1]) // 2 for k in kernels]
    centred = [F.pad(k, (m,) * 4) if m else k for k, m in zip(kernels, margins, strict=True)]
    return torch.stack(centred).sum(0) if len(centred) > 1 else centred[0]


def pad_map(x: Tensor, radius: int, longitude: str, latitude: str) -> Tensor:
    """Surround a map with what lies beyond its edges on the sphere.

    Parameters
    ----------
    x : Tensor, shape (B, h, w, C)
    radius : int
        Rows and columns to add on each side; may exceed h or w.
    longitude, latitude : str
        As in :func:`multi_convs`.

    Returns
    -------
    Tensor, shape (B, h + 2 radius, w + 2 radius, C)
    """
    if radius == 0:
        return x
    height, width = x.shape[1:3]
    if latitude == "pole":
        # Row -1-i is row i seen across the pole; beyond the other pole the map starts again.
        row = _around(2 * height, height + 2 * radius, -radius, x.device)
        across = row >= height
        row = torch.where(across, 2 * height - 1 - row, row)
        turned = torch.where(across[:, None], width // 2, 0)
        column = (torch.arange(width, device=x.device) + turned) % width
        x = x[:, row[:, None], column]
    if longitude == "circular":
        if radius <= width:
            x = torch.cat([x[:, :, width - radius :], x, x[:, :, :radius]], dim=2)
        else:
            x = x[:, :, _around(width, width + 2 * radius, -radius, x.device)]
    margin_lon = radius if longitude == "zero" else 0
    margin_lat = radius if latitude == "zero" else 0
    return F.pad(x, (0, 0, margin_lon, margin_lon, margin_lat, margin_lat))


def _around(period: int, count: int, first: int, device: torch.device) -> Tensor:
    """Return `count` places in a row on a circle, from a negative one on.

    Compilers take no remainders of what may be negative, so this begins some turns later.
    """
    start = first + period * (-first // period + 1)
    return (torch.arange(count, device=device) + start) % period


def _obstacle(backend: str, x: Tensor, kernels: tuple[Tensor, ...]) -> str | None:
    """Return why a fast implementation does not take these inputs, or None."""
    if kernels[0].shape[1] != 1:
        return f"it is for depthwise kernels (C, 1, k, k), these are {tuple(kernels[0].shape)}"
    types = _TYPES[backend]
    for tensor in (x, *kernels):
        if tensor.dtype not in types:
            return f"it does not take {tensor.dtype}"
    if backend == "numba" and any(k.dtype != x.dtype for k in kernels):
        return f"tokens are {x.dtype}, a kernel is not"
    largest = max(k.shape[-1] for k in kernels)
    if backend == "triton" and largest > _LARGEST:
        return f"its kernels go up to {_LARGEST} x {_LARGEST}, not {largest} x {largest}"
    return None


def _pays(backend: str, x: Tensor, kernels: tuple[Tensor, ...], width: int) -> bool:
    """Return whether a fast implementation is faster than torch's convolution on these inputs."""
    if backend != "numba":
        return True
    if x.dtype == torch.float64:  # for which torch's convolution on a CPU is a plain loop
        return x.shape[2] >= 8
    trains = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *kernels))
    largest = max(k.shape[-1] for k in kernels)
    channels, columns = _WORTH[trains][min(largest, 5)]
    return x.shape[2] >= channels and width >= columns


#: Channels and columns from which numba is the faster one in float32, by whether gradients are
#: wanted and by the largest kernel, 5 for more. It computes 64 channels even where there are fewer.
_WORTH = {
    False: {1: (16, 16), 3: (192, 64), 5: (128, 32)},
    True: {1: (16, 16), 3: (192, 64), 5: (32, 16)},
}
#: What the fast implementations take.
_TYPES = {
    "triton": (torch.float32, torch.bfloat16, torch.float16),
    "numba": (torch.float32, torch.float64),
}
_LARGEST = 5


def _check(
    x: Tensor, kernels: tuple[Tensor, ...], size: tuple[int, int], longitude: str, latitude: str
) -> None:
    check_tensors("multi_convs", {"x": x} | {f"kernels[{n}]": k for n, k in enumerate(kernels)})
    check_pair("multi_convs", "size", size)
    height, width = size
    if x.ndim != 3 or x.shape[1] != height * width:
        images = "; images (B, C, h, w) become such by x.flatten(2).mT" if x.ndim == 4 else ""
        raise ValueError(
            f"multi_convs: x has shape {tuple(x.shape)}, but size={size} needs (B, "
            f"{height * width}, C): pass tokens in row-major order{images}"
        )
    if not kernels:
        raise ValueError("multi_convs: no kernel given; pass at least one of shape (C, 1, k, k)")
    channels = x.shape[2]
    for k in kernels:
        fits = k.ndim == 4 and k.shape[0] == channels and k.shape[1] == kernels[0].shape[1]
        if not fits or not k.shape[1] or channels % k.shape[1]:
            raise ValueError(
                f"multi_convs: kernel of shape {tuple(k.shape)} does not fit {channels} channels: "
                f"need ({channels}, 1, k, k), or ({channels}, {channels} / groups, k, k)"
            )
        if k.shape[2] != k.shape[3] or k.shape[2] % 2 == 0:
            raise ValueError(
                f"multi_convs: kernel of shape {tuple(k.shape)}: k must be odd and the same "
                "in both directions"
            )
    if longitude not in LONGITUDE:
        raise ValueError(f"multi_convs: longitude={longitude!r}: choose from {LONGITUDE}")
    if latitude not in LATITUDE:
        raise ValueError(f"multi_convs: latitude={latitude!r}: choose from {LATITUDE}")
    if longitude == "circular" and width < 2:
        raise ValueError(
            f"multi_convs: longitude='circular' needs at least 2 columns, size={size}: "
            "use longitude='zero'"
        )
    if latitude == "pole" and width % 2:
        raise ValueError(
            f"multi_convs: latitude='pole' turns rows by half a circle, which needs an even "
            f"number of columns, size={size}: use latitude='zero'"
        )
