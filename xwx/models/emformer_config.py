"""Size and shape of an EMFormer, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["PRESETS", "EMFormerConfig", "check_cache"]

WINDOWS = ((8, 8), (16, 4), (4, 16))


@dataclass(frozen=True)
class EMFormerConfig:
    """Size and shape of an EMFormer.

    Parameters
    ----------
    patch : int
        Side of a patch in grid cells (2 at 1.4 degrees, 4 at 0.25 degrees).
    dim, heads, depth : int
        Width, attention heads, and number of blocks in the valley.
    ratio : float
        Width of the MLPs over `dim`.
    levels : int
        Prune levels; each halves the tokens, in longitude and latitude by turns.
    outer : int
        Blocks before and after each level, at its resolution. They attend in windows.
    cross : bool
        Whether prune and recover attend to what they merge and split.
    recover_keys : {"neighbourhood", "self"}
    kernels : tuple of int
        Sizes of the multi-convs on queries, keys and values; empty for none.
    groups : int or None
        Groups of the multi-convs; None is depthwise.
    conv_init : {"identity", "xavier"}
    latitude : {"zero", "pole"}
        What the multi-convs see beyond the first and last row.
    windows : tuple of (int, int)
        Rows and columns of the windows, used by turns.
    roll : bool
        Whether every second windowed block shifts its windows by half their width.
    positions : {"full", "latitude", "none"}
        Learned position embedding: one vector a token, one a row of tokens, none.
    predict : {"state", "increment"}
        Whether the network gives the next state or its difference to the last one.
    dropout : float
    cache : int
        Forecast steps that the network was fine-tuned to remember, and remembers by default.
    alpha : float
        Weight of the present attention in the scores by which the memory forgets.
    memory_blocks : {"global", "all"}
        Which blocks of the valley remember: those that attend everywhere, or the windowed ones
        too.
    lag_bias : bool
        Whether each block that remembers learns a bias on the logits for every lag, by which it
        can tell the steps it remembers apart.

    Raises
    ------
    ValueError
        For settings that make no sense, alone or together.
    """

    patch: int = 2
    dim: int = 768
    heads: int = 8
    depth: int = 24
    ratio: float = 4.0
    levels: int = 4
    outer: int = 2
    cross: bool = True
    recover_keys: str = "neighbourhood"
    kernels: tuple[int, ...] = (1, 3, 5)
    groups: int | None = None
    conv_init: str = "identity"
    latitude: str = "zero"
    windows: tuple[tuple[int, int], ...] = WINDOWS
    roll: bool = True
    positions: str = "full"
    predict: str = "state"
    dropout: float = 0.0
    cache: int = 0
    alpha: float = 0.9
    memory_blocks: str = "global"
    lag_bias: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernels", tuple(self.kernels))
        object.__setattr__(self, "windows", tuple((int(h), int(w)) for h, w in self.windows))
        choices = {
            "recover_keys": ("neighbourhood", "self"),
            "conv_init": ("identity", "xavier"),
            "latitude": ("zero", "pole"),
            "positions": ("full", "latitude", "none"),
            "predict": ("state", "increment"),
            "memory_blocks": ("global", "all"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise ValueError(f"EMFormer {name}={value!r}: choose from {', '.join(allowed)}")
        least = {"patch": 1, "dim": 1, "heads": 1, "depth": 0, "levels": 0, "outer": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"EMFormer {name}={getattr(self, name)!r}: at least {smallest}")
        if not self.windows or min(min(window) for window in self.windows) < 1:
            raise ValueError(f"EMFormer windows={self.windows!r}: give pairs of rows and columns")
        if self.dim % self.heads:
            raise ValueError(f"EMFormer dim={self.dim} does not divide by heads={self.heads}")
        self._check_memory()

    def _check_memory(self) -> None:
        check_cache(self.cache)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"EMFormer alpha={self.alpha!r}: give a weight from 0 to 1")
        if self.lag_bias and not self.cache:
            raise ValueError(
                "EMFormer lag_bias=True with cache=0: there is nothing to tell apart, set cache to "
                "the steps to remember"
            )
        if self.cache and not any(map(self.remembers, range(self.depth))):
            raise ValueError(
                f"EMFormer cache={self.cache} with depth={self.depth} and memory_blocks="
                f"{self.memory_blocks!r}: no block remembers, give "
                + ("depth=2 or memory_blocks='all'" if self.depth else "a depth of at least 1")
            )

    def remembers(self, index: int) -> bool:
        """Whether block `index` of the valley remembers when it is given a memory."""
        return self.memory_blocks == "all" or index % 2 == 1

    @classmethod
    def preset(cls, name: str, **changes: Any) -> EMFormerConfig:
        """Return a named configuration from :data:`PRESETS`, with changes."""
        if name not in PRESETS:
            raise ValueError(f"no EMFormer preset {name!r}: choose from {', '.join(PRESETS)}")
        return replace(PRESETS[name], **changes)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> EMFormerConfig:
        """Build from a mapping as read from JSON or TOML; unknown keys are refused."""
        values = dict(values)
        base = cls.preset(values.pop("preset")) if "preset" in values else cls()
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(
                f"unknown EMFormer settings {', '.join(unknown)}: choose from "
                f"{', '.join(sorted(known))}"
            )
        return replace(base, **values)


def check_cache(cache: Any) -> None:
    """Refuse what is not a number of steps to remember.

    Parameters
    ----------
    cache : int

    Raises
    ------
    TypeError
        For what is not a whole number.
    ValueError
        For a negative one.
    """
    if isinstance(cache, bool) or not isinstance(cache, int):
        raise TypeError(
            f"cache={cache!r} is a {type(cache).__name__}: give a whole number of steps to "
            "remember, such as cache=5, or 0 for none"
        )
    if cache < 0:
        raise ValueError(f"cache={cache}: give the steps to remember, or 0 for none")


#: `emformer_released` follows the authors' code, `emformer_budget` the reported size,
#: `emformer_tiny` is for tests.
PRESETS: dict[str, EMFormerConfig] = {
    "emformer_released": EMFormerConfig(),
    "emformer_budget": EMFormerConfig(ratio=3.0, outer=0, cross=False),
    "emformer_tiny": EMFormerConfig(dim=64, heads=4, depth=4, levels=2, outer=1),
}
