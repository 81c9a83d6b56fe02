"""A linear filter of every channel around every cell, as strong as the noise asks for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xwx.models.schedule import Rectified
from xwx.models.uvit.ring import close_ring

__all__ = ["Stencil"]

#: Noise times at which the kernels are kept; those between are interpolated.
KNOTS = 33


class Stencil(nn.Module):
    """What the nearest neighbours tell of a cell: the best linear estimate, or what it became.

    Kernels are kept for a few noise times. :meth:`set_neighbours` gives them the values of the
    best linear filter; from there they learn with the rest of the network.

    Parameters
    ----------
    channels : int
    side : int
        Of the kernels in cells, odd.
    periodic : bool
        Whether the last column neighbours the first. Beyond every other edge the outermost cells
        go on.
    """

    def __init__(self, channels: int, side: int, *, periodic: bool) -> None:
        super().__init__()
        self.radius, self.periodic = side // 2, periodic
        self.kernels = nn.Parameter(torch.zeros(KNOTS, channels, side, side))

    @torch.no_grad()
    def set_neighbours(self, covariance: Tensor, schedule: Rectified) -> None:
        r"""Set the kernels to those of the best linear filter, the Wiener filter.

        With R the covariance of the cells of the kernel with each other and r that with the one
        in the middle, ``w = (alpha^2 R + sigma^2 I)^-1 alpha r`` gives the best estimate of the
        clean cell; of frames of unit variance, ``k = (s^2 w - alpha delta) / sigma`` is what is
        to be added to the noisy one, with ``s^2 = alpha^2 + sigma^2``.

        Parameters
        ----------
        covariance : Tensor, shape (C, 2 side - 1, 2 side - 1)
            Of normalised states at two cells, by how many rows and columns they are apart.
        schedule : Rectified
        """
        side = 2 * self.radius + 1
        row = torch.arange(side).repeat_interleave(side)
        column = torch.arange(side).repeat(side)
        apart = [place[:, None] - place + side - 1 for place in (row, column)]
        between = covariance.double()[:, apart[0], apart[1]]  # (C, side^2, side^2)
        middle = side * side // 2
        delta = torch.zeros(side * side, dtype=torch.float64)
        delta[middle] = 1.0
        for knot, t in enumerate(torch.linspace(0, 1, KNOTS, dtype=torch.float64)):
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            seen = alpha**2 * between + sigma**2 * torch.eye(side * side, dtype=torch.float64)
            best = torch.linalg.solve(seen, alpha * between[:, :, middle])
            added = ((alpha**2 + sigma**2) * best - alpha * delta) / sigma
            self.kernels[knot].copy_(added.view(-1, side, side))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Filter maps (N, C, H, W) of unit variance, whose noise times are (N,)."""
        place = t.clamp(0, 1) * (KNOTS - 1)
        below = place.floor().clamp(max=KNOTS - 2).long()
        share = (place - below)[:, None, None, None].to(x.dtype)
        kernels = torch.lerp(self.kernels[below], self.kernels[below + 1], share)
        r = self.radius
        around = close_ring(x, r) if self.periodic else F.pad(x, (r, r, 0, 0), mode="replicate")
        around = F.pad(around, (0, 0, r, r), mode="replicate")
        # every frame has kernels of its own: frames and channels become channels of one map
        y = F.conv2d(
            around.flatten(0, 1)[None], kernels.flatten(0, 1)[:, None], groups=x[:, :, 0, 0].numel()
        )
        return y.view_as(x)
