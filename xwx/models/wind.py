"""WIND: a generative prior of the weather, a denoiser of windows of states (arXiv 2602.03924)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xwx.models.schedule import Rectified, per_frame
from xwx.models.uvit.backbone import UViT
from xwx.models.uvit.fit import fit
from xwx.models.uvit.stencil import Stencil
from xwx.models.wind_config import PRESETS, WindConfig
from xwx.spec import Grid, Spec

__all__ = ["PRESETS", "Wind", "WindConfig"]

#: The schedule of training and of sampling.
SCHEDULE = Rectified()


class Wind(nn.Module):
    """The denoiser of a window of T consecutive states, each with noise of its own.

    Frame k of what it is given is ``z_k = alpha(t_k) x_k + sigma(t_k) noise``, of normalised
    states x. Trained to the least squared error it gives the mean of x given all frames of z. How
    noisy a frame is it has to see for itself, unless the configuration says `known_t`.

    Parameters
    ----------
    config : WindConfig
    spec : Spec
        Channels, grid and forcings. A global grid is periodic in longitude.

    Attributes
    ----------
    mean, std, increment_std : Tensor, shape (C, 1, 1)
        Normalisation: mean, standard deviation, and that of one step's change.
    mean_state : Tensor, shape (C, H, W)
        Normalised; what departures are from, of a network that works on them.
    spectrum, memory_real, memory_imag : Tensor, shape (C, 2 H, F)
        Of the waves of departures: mean square, and what one step multiplies them by; of a network
        with a background.
    static : Tensor, shape (S, H, W)
        The fields that :meth:`set_static` was given, normalised; zero before.
    checkpointing : bool
        Whether the backward pass computes every block again rather than keep what it needs: less
        memory, and about a third more time. Not for `torch.func`.

    Raises
    ------
    ValueError
        When the grid's columns cannot be cut and merged as configured.
    """

    checkpointing: bool = False
    mean: Tensor
    std: Tensor
    increment_std: Tensor
    mean_state: Tensor
    spectrum: Tensor
    memory_real: Tensor
    memory_imag: Tensor
    static: Tensor
    coordinates: Tensor

    def __init__(self, config: WindConfig, spec: Spec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        channels, periodic = len(spec.channels), spec.grid.periodic
        for name, value in (("mean", 0.0), ("std", 1.0), ("increment_std", 1.0)):
            self.register_buffer(name, torch.full((channels, 1, 1), value))
        shape = (channels, *spec.grid.shape) if config.departures else (0,)
        self.register_buffer("mean_state", torch.zeros(shape), persistent=config.departures)
        rows, columns = spec.grid.shape
        columns = columns if periodic else 2 * columns
        for name in ("spectrum", "memory_real", "memory_imag"):
            waves = (channels, 2 * rows, columns // 2 + 1) if config.background else (0,)
            self.register_buffer(name, torch.zeros(waves), persistent=config.background)
        self.register_buffer("static", torch.zeros(len(config.static), *spec.grid.shape))
        places = torch.tensor(_coordinates(spec.grid, config.coordinates), dtype=torch.float32)
        self.register_buffer("coordinates", places, persistent=False)
        self.fit = fit(config.fit, spec.grid.shape, config.stride, periodic=periodic)
        inputs = channels + len(spec.forcings) + len(config.static) + len(places)
        outputs = channels * (2 if config.predict == "gate" else 1)
        self.backbone = UViT(config, inputs, outputs, periodic=periodic)
        self.stencil = (
            Stencil(channels, config.stencil, periodic=periodic) if config.stencil else None
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], spec: Spec) -> Wind:
        """Build the network that :meth:`to_config` described."""
        return cls(WindConfig.from_mapping(config), spec)

    def to_config(self) -> dict[str, Any]:
        """Return the configuration as a JSON-ready dictionary."""
        return asdict(self.config)

    @property
    def frames(self) -> int:
        """The number of states of a window, T."""
        return self.config.frames

    def set_statistics(self, mean: Tensor, std: Tensor, increment_std: Tensor) -> None:
        """Set the normalisation: mean, standard deviation and that of one step's change, (C,)."""
        for name, value in (("mean", mean), ("std", std), ("increment_std", increment_std)):
            buffer: Tensor = getattr(self, name)
            buffer.copy_(value.reshape(buffer.shape))

    def set_mean_state(self, mean_state: Tensor) -> None:
        """Set what departures are from, of a network that works on them.

        Parameters
        ----------
        mean_state : Tensor, shape (C, H, W)
            Normalised.
        """
        if self.config.departures:
            self.mean_state.copy_(mean_state)

    def set_waves(self, spectrum: Tensor, memory: Tensor) -> None:
        """Set what a background is made of, of a network that has one.

        Parameters
        ----------
        spectrum : Tensor, shape (C, 2 H, F)
        memory : Tensor, shape (C, 2 H, F), complex
        """
        if self.config.background:
            self.spectrum.copy_(spectrum)
            self.memory_real.copy_(memory.real)
            self.memory_imag.copy_(memory.imag)

    def set_neighbours(self, covariance: Tensor) -> None:
        """Let the stencil begin as the best linear filter, of a network that has one.

        Parameters
        ----------
        covariance : Tensor, shape (C, 2 side - 1, 2 side - 1)
            Of normalised states at two cells, by how many rows and columns they are apart.
        """
        if self.stencil is not None:
            self.stencil.set_neighbours(covariance, SCHEDULE)

    def set_static(self, names: Sequence[str], fields: Tensor) -> None:
        """Set the fields that do not change, which are kept with the weights.

        Parameters
        ----------
        names : sequence of str
            Those of the configuration, in any order.
        fields : Tensor, shape (S, H, W)
            One a name, in any unit: each is brought to mean zero and unit variance over the cells
            of the grid. One that is the same everywhere says nothing and becomes zero.

        Raises
        ------
        ValueError
            For other names, another shape, or numbers that are not finite.
        """
        wanted = self.config.static
        if sorted(names) != sorted(wanted):
            raise ValueError(
                f"static fields {', '.join(names) or 'none'}: this network takes "
                f"{', '.join(wanted) or 'none'}; it is built for those named in "
                "WindConfig(static=...)"
            )
        if fields.shape != self.static.shape:
            raise ValueError(
                f"static fields of shape {tuple(fields.shape)}, need (names, rows, columns) = "
                f"{tuple(self.static.shape)}"
            )
        for name, field in zip(names, fields.double(), strict=True):
            if not bool(torch.isfinite(field).all()):
                raise ValueError(f"static field {name!r} holds numbers that are not finite")
            spread, mean = torch.std_mean(field, correction=0)
            constant = bool(field.max() == field.min())
            normal = torch.zeros_like(field) if constant else (field - mean) / spread
            self.static[wanted.index(name)].copy_(normal)

    def forward(self, z: Tensor, forcing: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """Denoise: what :meth:`denoise` does, for what wraps or compiles a module."""
        return self.denoise(z, forcing, t)

    def denoise(self, z: Tensor, forcing: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """Estimate the clean frames of noisy ones.

        Parameters
        ----------
        z : Tensor, shape (B, T, C, H, W)
            Noisy, normalised states, oldest first.
        forcing : Tensor, shape (B or 1, T, F, H, W), optional
            The Spec's forcings at the time of each frame.
        t : Tensor, shape (B, T), optional
            Noise times in [0, 1], which only a network with `known_t` looks at.

        Returns
        -------
        Tensor, shape (B, T, C, H, W)
            Clean, normalised states.

        Raises
        ------
        ValueError
            For shapes that are not those of the Spec, or no times where they are needed.
        """
        self._check(z, forcing, t)
        if not self.config.departures:
            return self.denoise_departures(z, forcing, t)
        assert t is not None  # known_t
        part = per_frame(SCHEDULE.alpha(t), z).to(z.dtype) * self.mean_state.to(z.dtype)
        return self.mean_state.to(z.dtype) + self.denoise_departures(z - part, forcing, t)

    def denoise_departures(
        self, z: Tensor, forcing: Tensor | None = None, t: Tensor | None = None
    ) -> Tensor:
        """Estimate clean departures from the mean state, of noisy ones, as :meth:`denoise` does.

        They are alike at all longitudes, so that training may turn the globe under them.
        """
        if self.config.predict == "scaled":
            return self._scaled(z, forcing, t)
        y = self._raw(z, forcing, t)
        if self.config.predict == "gate":
            y, gate = y.chunk(2, dim=2)
            y = torch.addcmul(y, gate, z)
        return y

    def _scaled(self, z: Tensor, forcing: Tensor | None, t: Tensor | None) -> Tensor:
        """Denoise frames of unit variance, by as much as there is noise."""
        assert t is not None  # known_t
        alpha, sigma = (per_frame(f(t), z).to(z.dtype) for f in (SCHEDULE.alpha, SCHEDULE.sigma))
        scale = (alpha.square() + sigma.square()).rsqrt()
        z = scale * z
        y = self._raw(z, forcing, t)
        if self.stencil is not None:
            y = y + self.stencil(z.flatten(0, 1), t.flatten()).view_as(z)
        return scale * (alpha * z + sigma * y)

    def _raw(self, z: Tensor, forcing: Tensor | None, t: Tensor | None) -> Tensor:
        """Return what the backbone makes of all that the network is told."""
        inputs = self.fit(self._inputs(z, forcing).flatten(0, 1))
        again = self.checkpointing and torch.is_grad_enabled()
        y: Tensor = self.backbone(inputs, t if self.config.known_t else None, again=again)
        y = self.fit.back(y)
        return y.view(*z.shape[:2], *y.shape[1:]).to(z.dtype)

    def _inputs(self, z: Tensor, forcing: Tensor | None) -> Tensor:
        """Return all that the network is told, (B, T, inputs, H, W)."""
        whole = (*z.shape[:2], -1, -1, -1)
        fixed = torch.cat([self.coordinates, self.static]).to(z.dtype)
        parts = [z, fixed.expand(whole)]
        if forcing is not None:
            parts.append(forcing.to(z.dtype).expand(whole))
        return torch.cat(parts, dim=2)

    def _check(self, z: Tensor, forcing: Tensor | None, t: Tensor | None) -> None:
        spec, frames = self.spec, self.frames
        wanted = (frames, len(spec.channels), *spec.grid.shape)
        if z.ndim != 5 or z.shape[1:] != wanted:
            raise ValueError(
                f"WIND: states of shape {tuple(z.shape)}, need (batch, frames, channels, rows, "
                f"columns) = (B, {', '.join(map(str, wanted))})"
            )
        given = None if forcing is None else tuple(forcing.shape)
        fits = (frames, len(spec.forcings), *spec.grid.shape)
        told = given is not None and given[1:] == fits and given[0] in (1, z.shape[0])
        if not told and (spec.forcings or given is not None):
            raise ValueError(
                f"WIND: forcings of shape {given}, need ({z.shape[0]} or 1, "
                f"{', '.join(map(str, fits))}): {', '.join(spec.forcings) or 'none'}"
            )
        if self.config.known_t and (t is None or t.shape != z.shape[:2]):
            raise ValueError(
                f"WIND: noise times t of shape {None if t is None else tuple(t.shape)}, need "
                f"{tuple(z.shape[:2])}: this network is told how noisy each frame is (known_t)"
            )


def _coordinates(grid: Grid, kind: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the place of every cell on the unit sphere, northward first, (n, H, W)."""
    latitude, longitude = np.meshgrid(
        np.deg2rad(grid.rows), np.deg2rad(grid.columns), indexing="ij"
    )
    around = np.cos(latitude)
    places = np.stack([np.sin(latitude), around * np.cos(longitude), around * np.sin(longitude)])
    return places[: {"full": 3, "latitude": 1, "none": 0}[kind]]
