"""A Gaussian world in which denoisers, covariances and posteriors are known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from torch import Tensor

FLOOR = 1e-3


@dataclass
class Gaussian:
    """x ~ N(m, S) for windows of T frames of n numbers, and the rectified schedule."""

    frames: int = 4
    size: int = 3
    seed: int = 0
    dtype: torch.dtype = torch.float64

    @cached_property
    def dim(self) -> int:
        return self.frames * self.size

    @cached_property
    def covariance(self) -> Tensor:
        g = torch.Generator().manual_seed(self.seed)
        root = torch.randn(self.dim, self.dim, generator=g, dtype=torch.float64)
        return (root @ root.T / self.dim + 0.1 * torch.eye(self.dim)).to(self.dtype)

    @cached_property
    def mean(self) -> Tensor:
        return torch.linspace(-1, 1, self.dim, dtype=torch.float64).to(self.dtype)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma of every element (dim,) for the times (T,) of the frames."""
        t = t.repeat_interleave(self.size)
        return 1 - t + t * FLOOR, t + (1 - t) * FLOOR

    def posterior(self, z, t, matrix=None, value=None, variance=None):
        """Return mean (dim,) and covariance of x given z (dim,), and observations if any."""
        alpha, sigma = self.levels(t)
        inverse = torch.linalg.inv(self.covariance)
        precision = inverse + torch.diag((alpha / sigma) ** 2)
        right = inverse @ self.mean + alpha / sigma**2 * z
        if matrix is not None:
            precision = precision + matrix.T @ (matrix / variance[:, None])
            right = right + matrix.T @ (value / variance)
        return torch.linalg.solve(precision, right), torch.linalg.inv(precision)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        """Return E[x | z] of (B, T, n), as a function that can be differentiated."""
        out = []
        for member, times in zip(z, t, strict=True):
            alpha, sigma = self.levels(times)
            noisy = alpha[:, None] * self.covariance * alpha + torch.diag(sigma**2)
            shift = torch.linalg.solve(noisy, member.reshape(-1) - alpha * self.mean)
            out.append((self.mean + self.covariance @ (alpha * shift)).reshape(member.shape))
        return torch.stack(out)


@pytest.fixture(scope="session")
def gaussian():
    """The class of Gaussian worlds."""
    return Gaussian
