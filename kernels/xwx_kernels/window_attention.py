"""Attention inside windows of a map of tokens, on a globe that closes or on a regional map.

Windows tile the map (Swin, arXiv 2103.14030), here without the mask at the seam: longitude is
periodic, so windows that are shifted, or that do not divide the columns, go on across the date
line and see their true neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xwx_kernels._operators.window_attention import fused
from xwx_kernels.arguments import check_count, check_pair, check_tensors
from xwx_kernels.precision import as_given, has_type
from xwx_kernels.selection import choose, transformed

__all__ = ["gather_windows", "reference", "window_attention"]

LONGITUDE = ("circular", "zero")
OFFERED = ("auto", "triton", "torch")


def window_attention(
    qkv: Tensor,
    *,
    size: tuple[int, int],
    window: tuple[int, int],
    heads: int,
    shift: int = 0,
    longitude: str = "circular",
    backend: str = "auto",
) -> Tensor:
    """Let every token attend to the tokens of its window.

    Windows tile the map from its north-west corner. A window larger than the map is cut to it,
    and the last row of windows ends at the southern edge. Where the columns do not divide, the
    last window of a closed map takes its missing keys from the first columns, whose own tokens
    attend in the first window; on a regional map it ends at the eastern edge.

    Computed in the type of `qkv`, under ``torch.autocast`` too; softmax is in float32 or wider.

    Parameters
    ----------
    qkv : Tensor, shape (B, h*w, 3*D)
        Queries, keys and values of tokens in row-major order, rows from north to south. Each is
        made of `heads` heads, one behind the other, of D / `heads` channels.
    size : (int, int)
        Rows h and columns w of the map.
    window : (int, int)
        Rows and columns of a window.
    heads : int
    shift : int
        Column at which the first window begins, at least 0 and less than the columns of a
        window. Needs a closed map whose columns the window divides.
    longitude : {"circular", "zero"}
        What lies beyond the last column: the first one, or nothing.
    backend : {"auto", "triton", "torch"}
        What computes it. ``"auto"`` is Triton on a GPU for windows of up to 64 tokens in float32
        and 128 in 16 bits, and ``scaled_dot_product_attention`` otherwise; both differentiate
        once. ``"torch"`` is made of operations that differentiate any number of times, as
        ``"auto"`` is for ``torch.func`` and in forward mode.

    Returns
    -------
    Tensor, shape (B, h*w, D)
        In the type and on the device of `qkv`.

    Raises
    ------
    TypeError
        For what is not a tensor of floating point, or not a whole number.
    ValueError
        For shapes that do not agree, an empty window, a shift that the map or the window does not
        allow, an unknown longitude, or an unknown backend.
    RuntimeError
        When `backend` names an implementation that cannot run on these inputs.
    """
    _check(qkv, size, window, heads, shift, longitude)
    window = min(window[0], size[0]), min(window[1], size[1])
    chosen = choose(
        *("window_attention", backend, qkv.device),
        lambda _: _obstacle(qkv, window),
        offered=OFFERED,
    )
    if chosen == "torch":
        exact = backend == "torch" or transformed()
        return reference(qkv, size, window, heads, shift, longitude, exact=exact)
    out: Tensor = fused(qkv, *size, *window, heads, shift, longitude, chosen)
    return out


def reference(
    qkv: Tensor,
    size: tuple[int, int],
    window: tuple[int, int],
    heads: int,
    shift: int,
    longitude: str,
    *,
    exact: bool = True,
) -> Tensor:
    """Gather the windows, attend in each, put the results in their places, in torch operations.

    With `exact` the attention is written out, in float32 or wider; otherwise it is torch's own,
    which is up to twice as fast on a CPU but differentiates once.
    """
    batch = qkv.shape[0]
    tokens, mask, slots = gather_windows(size, window, shift, longitude, qkv.device)
    windows, count = tokens.shape
    parts = qkv.index_select(1, tokens.flatten())
    width = qkv.shape[2] // 3
    parts = parts.view(batch * windows, count, 3, heads, width // heads)
    q, k, v = parts.permute(2, 0, 3, 1, 4).unbind()
    if mask is not None:
        mask = mask.repeat(batch, 1)[:, None, None]  # one mask for all heads and queries
    with as_given(qkv.device):
        attend = _attend if exact else F.scaled_dot_product_attention
        out = attend(q, k, v, mask)
    out = out.transpose(1, 2).reshape(batch, windows * count, width)
    return out.index_select(1, slots)


def gather_windows(
    size: tuple[int, int],
    window: tuple[int, int],
    shift: int,
    longitude: str,
    device: torch.device,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return where the tokens of every window come from, and where their results are.

    Parameters
    ----------
    size, window, shift, longitude
        As in :func:`window_attention`; the window no larger than the map.
    device : torch.device

    Returns
    -------
    tokens : Tensor of int, shape (windows, rows * columns)
        The token in each slot of each window. A slot beyond the edge repeats a token of its own
        window, so that nothing from elsewhere gets in.
    mask : Tensor of bool, shape (windows, rows * columns), or None
        Which slots are keys; None for all.
    slots : Tensor of int, shape (h*w,)
        The slot, counted through all windows, with each token's own result.
    """
    (height, width), (rows, columns) = size, window
    down, across = -(-height // rows), -(-width // columns)
    row = torch.arange(down * rows, device=device).view(down, 1, rows, 1)
    column = torch.arange(across * columns, device=device).view(1, across, 1, columns)
    if longitude == "circular":
        inside = row < height
        place = row.clamp(max=height - 1) * width + (column + shift) % width
    else:
        inside = (row < height) & (column < width)
        place = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
    tokens = place.reshape(down * across, rows * columns)
    mask = None
    if down * rows > height or (longitude == "zero" and across * columns > width):
        mask = inside.expand(down, across, rows, columns).reshape(tokens.shape)
    i = torch.arange(height, device=device)[:, None]
    # Inductor takes no remainders of what may be negative.
    j = (torch.arange(width, device=device) + (width - shift)) % width
    first = (i // rows * across + j // columns) * (rows * columns)
    slots = first + i % rows * columns + j % columns
    return tokens, mask, slots.flatten()


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``softmax(q k^T / sqrt(d)) v`` over the keys that `mask` admits."""
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = (q.to(wide) * q.shape[-1] ** -0.5) @ k.to(wide).mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    out: Tensor = scores.softmax(-1) @ v.to(wide)
    return out.to(q.dtype)


def _obstacle(qkv: Tensor, window: tuple[int, int]) -> str | None:
    """Return why Triton does not take these inputs, or None."""
    if qkv.dtype not in _LARGEST:
        return f"it does not take {qkv.dtype}"
    if not has_type(qkv.device, qkv.dtype):
        return f"{torch.cuda.get_device_name(qkv.device)} does not compute in {qkv.dtype}"
    largest, tokens = _LARGEST[qkv.dtype], window[0] * window[1]
    if tokens > largest:
        return f"its windows of {qkv.dtype} go up to {largest} tokens, this one has {tokens}"
    return None


#: What the kernels for GPUs take, and tokens in a window: its weights fill the registers.
_LARGEST = {torch.float32: 64, torch.bfloat16: 128, torch.float16: 128}


def _check(
    qkv: Tensor,
    size: tuple[int, int],
    window: tuple[int, int],
    heads: int,
    shift: int,
    longitude: str,
) -> None:
    check_tensors("window_attention", {"qkv": qkv})
    check_pair("window_attention", "size", size)
    check_pair("window_attention", "window", window)
    check_count("window_attention", "heads", heads)
    check_count("window_attention", "shift", shift)
    height, width = size
    if qkv.ndim != 3 or qkv.shape[1] != height * width:
        raise ValueError(
            f"window_attention: qkv has shape {tuple(qkv.shape)}, but size={size} needs (B, "
            f"{height * width}, 3*D): pass tokens in row-major order"
        )
    if heads < 1 or qkv.shape[2] % (3 * heads) or not qkv.shape[2]:
        raise ValueError(
            f"window_attention: qkv has {qkv.shape[2]} channels, heads={heads}: need a multiple "
            "of 3 * heads, that is queries, keys and values of each head"
        )
    if longitude not in LONGITUDE:
        raise ValueError(f"window_attention: longitude={longitude!r}: choose from {LONGITUDE}")
    columns = min(window[1], width)
    if not 0 <= shift < columns:
        raise ValueError(
            f"window_attention: shift={shift} is not in 0, ..., {columns - 1}, the columns of a "
            "window: pass the column at which the first window begins"
        )
    if shift and longitude == "zero":
        raise ValueError(
            f"window_attention: shift={shift} needs longitude='circular', a map that closes: "
            "pass shift=0"
        )
    if shift and width % columns:
        raise ValueError(
            f"window_attention: shift={shift} needs columns that the window divides, but "
            f"{width} % {columns} = {width % columns}: pass shift=0"
        )
