"""EMFormer: a multi-scale transformer forecaster (arXiv 2602.01194)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xwx.models.emformer_config import PRESETS, EMFormerConfig, check_cache
from xwx.models.layers.blocks import Block, hybrid
from xwx.models.layers.convolutions import MultiConvs
from xwx.models.layers.embeddings import Head, PatchEmbed, lay_out
from xwx.models.layers.hierarchy import Prune, Recover
from xwx.models.layers.maps import TokenMap
from xwx.models.layers.memory import Memory
from xwx.spec import Spec

__all__ = ["PRESETS", "EMFormer", "EMFormerConfig"]


class EMFormer(nn.Module):
    """The forecaster: patches, prune levels, a valley of blocks, recover levels, a head.

    It takes and gives canonical units; mean and standard deviation are buffers of the network.

    Parameters
    ----------
    config : EMFormerConfig
    spec : Spec
        Channels, grid, history and forcings. A global grid is periodic in longitude.

    Attributes
    ----------
    checkpointing : bool
        Whether the backward pass computes every block of the valley again rather than keep what
        it needs: less memory, and about a third more time.

    Raises
    ------
    ValueError
        When the grid's columns cannot be cut and merged as configured.
    """

    checkpointing: bool = False
    mean: Tensor
    std: Tensor
    increment_std: Tensor

    def __init__(self, config: EMFormerConfig, spec: Spec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        channels = len(spec.channels)
        for name, value in (("mean", 0.0), ("std", 1.0), ("increment_std", 1.0)):
            self.register_buffer(name, torch.full((channels, 1, 1), value))
        axes = tuple(("lon", "lat")[n % 2] for n in range(config.levels))
        self.where = lay_out(spec.grid.shape, config.patch, axes, periodic=spec.grid.periodic)
        _check_edges(config, self.where, axes)
        inputs = spec.history * channels + len(spec.forcings)
        self.embed = PatchEmbed(inputs, config.dim, config.patch, self.where)
        self.position = _position(config, self.where)
        self.before = nn.ModuleList(self._outer() for _ in axes)
        self.prune = nn.ModuleList(
            Prune(config.dim, config.heads, config.ratio, axis, cross=config.cross) for axis in axes
        )
        self.valley = nn.ModuleList(self._block(n) for n in range(config.depth))
        self.recover = nn.ModuleList(
            Recover(
                config.dim,
                config.heads,
                config.ratio,
                axis,
                cross=config.cross,
                keys=config.recover_keys,
            )
            for axis in axes
        )
        self.after = nn.ModuleList(self._outer() for _ in axes)
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim) for _ in axes)
        self.head = Head(config.dim, channels, config.patch, self.where, spec.grid.shape[0])
        if config.predict == "increment":
            nn.init.zeros_(self.head.linear.weight)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], spec: Spec) -> EMFormer:
        """Build the network that :meth:`to_config` described."""
        return cls(EMFormerConfig.from_mapping(config), spec)

    def to_config(self) -> dict[str, Any]:
        """Return the configuration as a JSON-ready dictionary."""
        return asdict(self.config)

    def _block(self, index: int, *, outer: bool = False) -> Block:
        c = self.config
        reach = hybrid(index, c.windows, roll=c.roll, windows_only=outer)
        convs = None
        if c.kernels:
            convs = MultiConvs(
                3 * c.dim, c.kernels, groups=c.groups, init=c.conv_init, latitude=c.latitude
            )
        remembers = not outer and c.remembers(index)
        lags = c.cache + 1 if remembers and c.lag_bias else 0
        return Block(
            *(c.dim, c.heads, c.ratio, reach, convs, c.dropout), remembers=remembers, lags=lags
        )

    def _outer(self) -> nn.ModuleList:
        return nn.ModuleList(self._block(n, outer=True) for n in range(self.config.outer))

    def remember(
        self, cache: int | None = None, *, alpha: float | None = None, attached: bool = False
    ) -> list[Memory | None] | None:
        """Return an empty memory to pass to :meth:`forward`, and on from step to step.

        Parameters
        ----------
        cache : int, optional
            Forecast steps to remember; by default what the network was fine-tuned with.
        alpha : float, optional
            Weight of the present attention in the scores; by default the configuration's.
        attached : bool
            Whether gradients flow into what is remembered.

        Returns
        -------
        list of Memory or None
            One a block of the valley, None for those that do not remember; None for `cache` 0.

        Raises
        ------
        TypeError
            When `cache` is not a whole number.
        ValueError
            When `cache` is negative or more than the network has lags for, when no block
            remembers, or when `alpha` is not from 0 to 1.
        """
        c = self.config
        cache = c.cache if cache is None else cache
        check_cache(cache)
        if not cache:
            return None
        if c.lag_bias and cache > c.cache:
            raise ValueError(
                f"cache={cache}: this EMFormer learned a bias for {c.cache} remembered steps "
                f"(lag_bias), give at most {c.cache}"
            )
        memory = Memory(cache, c.alpha if alpha is None else alpha, attached)
        memories = [memory if c.remembers(n) else None for n in range(c.depth)]
        if not any(memories):
            raise ValueError(
                f"cache={cache}: no block of this EMFormer remembers (depth={c.depth}, "
                f"memory_blocks={c.memory_blocks!r}), give cache=0"
            )
        return memories

    def set_statistics(self, mean: Tensor, std: Tensor, increment_std: Tensor) -> None:
        """Set the normalisation: mean, standard deviation and that of one step's change, (C,)."""
        for name, value in (("mean", mean), ("std", std), ("increment_std", increment_std)):
            buffer: Tensor = getattr(self, name)
            buffer.copy_(value.reshape(buffer.shape))

    def forward(
        self,
        x: Tensor,
        forcing: Tensor | None = None,
        memory: Sequence[Memory | None] | None = None,
    ) -> tuple[Tensor, list[Memory | None] | None]:
        """Predict the state one step after the last one given.

        Parameters
        ----------
        x : Tensor, shape (B, history, C, H, W)
            States in canonical units, oldest first.
        forcing : Tensor, shape (B, F, H, W), optional
            The Spec's forcings at the time of the last state.
        memory : sequence of Memory or None, optional
            One a block of the valley, as :meth:`remember` or the step before returned it.

        Returns
        -------
        Tensor, shape (B, C, H, W)
            The next state in canonical units.
        list or None
            The memory for the next step, None when none was given.

        Raises
        ------
        ValueError
            For shapes that are not those of the Spec, or a memory of another length.
        """
        self._check(x, forcing, memory)
        state = (x - self.mean) / self.std
        inputs = state.flatten(1, 2)
        if forcing is not None:
            inputs = torch.cat([inputs, forcing.to(inputs.dtype)], dim=1)
        tokens, memory = self._transform(inputs, memory)
        y = self.head(tokens).to(x.dtype)
        if self.config.predict == "increment":
            return x[:, -1] + y * self.increment_std, memory
        return y * self.std + self.mean, memory

    def _check(
        self, x: Tensor, forcing: Tensor | None, memory: Sequence[Memory | None] | None
    ) -> None:
        spec = self.spec
        wanted = (spec.history, len(spec.channels), *spec.grid.shape)
        if x.ndim != 5 or x.shape[1:] != wanted:
            raise ValueError(
                f"EMFormer: states of shape {tuple(x.shape)}, need (batch, history, channels, "
                f"rows, columns) = (B, {', '.join(map(str, wanted))})"
            )
        given = None if forcing is None else tuple(forcing.shape)
        fits = (x.shape[0], len(spec.forcings), *spec.grid.shape)
        if given != fits and (spec.forcings or given is not None):
            raise ValueError(
                f"EMFormer: forcings of shape {given}, need {fits}: {', '.join(spec.forcings)}"
            )
        if memory is not None and len(memory) != len(self.valley):
            raise ValueError(
                f"EMFormer: memory of {len(memory)} entries, need one a block of the valley: "
                f"{len(self.valley)}"
            )

    def _transform(
        self, inputs: Tensor, memory: Sequence[Memory | None] | None
    ) -> tuple[Tensor, list[Memory | None] | None]:
        f = self.embed(inputs)
        if self.position is not None:
            f = f + self.position.expand(-1, -1, self.where.width, -1).flatten(1, 2)
        where, residuals = self.where, []
        for blocks, prune in zip(self.before, self.prune, strict=True):
            f = _run(blocks, f, where)
            residuals.append((f, where))
            f, where = prune(f, where)
        past: list[Memory | None] = [None] * len(self.valley) if memory is None else list(memory)
        again = self.checkpointing and torch.is_grad_enabled()
        for n, block in enumerate(self.valley):
            if again:
                f, past[n] = checkpoint(block, f, where, past[n], use_reentrant=False)
            else:
                f, past[n] = block(f, where, past[n])
        recovering = zip(self.recover, self.after, self.norms, strict=True)
        for recover, blocks, norm in reversed(list(recovering)):
            residual, finer = residuals.pop()
            f = recover(f, where, residual, finer)
            where = finer
            f = norm(_run(blocks, f, where))
        return f, past if memory is not None else None


def _check_edges(config: EMFormerConfig, where: TokenMap, axes: tuple[str, ...]) -> None:
    """Refuse maps on which the multi-convs could not tell what lies beyond an edge."""
    if not config.kernels:
        return
    widths = [where.width // 2**n for n in range(axes.count("lon") + 1)]
    if where.periodic and widths[-1] < 2:
        raise ValueError(
            f"EMFormer: {axes.count('lon')} merges in longitude leave {widths[-1]} column of "
            "tokens, and a globe needs at least 2: choose a smaller patch or fewer levels"
        )
    if config.latitude == "pole" and (not where.periodic or any(w % 2 for w in widths)):
        raise ValueError(
            "EMFormer latitude='pole' needs a global grid and an even number of columns of tokens "
            f"at every level, got {widths}: use latitude='zero'"
        )


def _position(config: EMFormerConfig, where: TokenMap) -> nn.Parameter | None:
    width = {"full": where.width, "latitude": 1, "none": 0}[config.positions]
    if not width:
        return None
    return nn.Parameter(torch.zeros(1, where.height, width, config.dim))


def _run(blocks: nn.Module, x: Tensor, where: TokenMap) -> Tensor:
    for block in blocks.children():
        x, _ = block(x, where)
    return x
