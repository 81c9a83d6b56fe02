"""Sizes of EMFormer for images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

__all__ = ["PRESETS", "VisionConfig"]


@dataclass(frozen=True)
class VisionConfig:
    """Size and shape of an EMFormer for images; the defaults are those of the smallest preset.

    Lists become tuples, so that ``VisionConfig(**json.loads(text))`` undoes
    ``json.dumps(dataclasses.asdict(config))``.

    Parameters
    ----------
    channels : int
        Channels of an image.
    dims : tuple of int
        Width of each stage; the first is at a quarter of the resolution, each next one at half of
        the one before.
    heads : tuple of int
        Attention heads of each stage.
    windowed, everywhere : tuple of int
        Blocks of each stage: first those that attend in windows, then those that attend to the
        whole map.
    ratio : float
        Width of the MLPs over that of their stage.
    cross : bool
        Whether prune attends to what it merges.
    kernels : tuple of int
        Sizes of the depthwise multi-convs on queries, keys and values; empty for none.
    windows : tuple of (int, int)
        Rows and columns of the windows, used by turns within a stage.
    drop_path : float
        Probability with which the residual branches of the deepest block are left out in
        training; it grows linearly from zero in the first block.

    Raises
    ------
    ValueError
        For stages of different counts, sizes below one, widths that their heads do not divide,
        even kernels, or a probability outside of [0, 1).
    """

    channels: int = 3
    dims: tuple[int, ...] = (64, 128, 256, 512)
    heads: tuple[int, ...] = (2, 4, 8, 16)
    windowed: tuple[int, ...] = (2, 2, 2, 1)
    everywhere: tuple[int, ...] = (0, 0, 2, 0)
    ratio: float = 4.0
    cross: bool = True
    kernels: tuple[int, ...] = (1, 3, 5)
    windows: tuple[tuple[int, int], ...] = ((8, 8), (16, 4), (4, 16))
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        for name in ("dims", "heads", "windowed", "everywhere", "kernels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "windows", tuple((int(h), int(w)) for h, w in self.windows))
        self._check_stages()
        if self.channels < 1:
            raise ValueError(f"vision channels={self.channels}: an image has at least 1")
        if not self.ratio > 0:
            raise ValueError(f"vision ratio={self.ratio}: give a positive width of the MLPs")
        if any(k < 1 or k % 2 == 0 for k in self.kernels):
            raise ValueError(f"vision kernels={self.kernels}: give odd sizes, or () for none")
        if not self.windows or min(min(window) for window in self.windows) < 1:
            raise ValueError(f"vision windows={self.windows}: give pairs of rows and columns")
        if not 0 <= self.drop_path < 1:
            raise ValueError(
                f"vision drop_path={self.drop_path}: give a probability in [0, 1), 0 for none"
            )

    def _check_stages(self) -> None:
        stages = {name: getattr(self, name) for name in ("dims", "heads", "windowed", "everywhere")}
        if not self.dims or len({len(values) for values in stages.values()}) > 1:
            listed = ", ".join(f"{name}={values}" for name, values in stages.items())
            raise ValueError(f"vision {listed}: give each one value a stage, and at least one")
        for name, values in stages.items():
            least = 1 if name in ("dims", "heads") else 0
            if min(values) < least:
                raise ValueError(f"vision {name}={values}: at least {least} in every stage")
        for n, (dim, heads) in enumerate(zip(self.dims, self.heads, strict=True)):
            if dim % heads:
                raise ValueError(
                    f"vision dims[{n}]={dim} does not divide by heads[{n}]={heads}: choose a "
                    "multiple of the heads"
                )

    @property
    def depth(self) -> int:
        """Blocks in all stages together."""
        return sum(self.windowed) + sum(self.everywhere)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> VisionConfig:
        """Return a named configuration from :data:`PRESETS`, with changes."""
        if name not in PRESETS:
            raise ValueError(f"no vision preset {name!r}: choose from {', '.join(PRESETS)}")
        return replace(PRESETS[name], **changes)


#: After the paper's table of vision networks, as far as its text can be read.
PRESETS: dict[str, VisionConfig] = {
    "emformer_vision_t": VisionConfig(),
    "emformer_vision_s": VisionConfig(windowed=(2, 4, 5, 2), everywhere=(0, 0, 5, 2)),
    "emformer_vision_b": VisionConfig(windowed=(6, 6, 6, 6), everywhere=(0, 0, 6, 6)),
}
