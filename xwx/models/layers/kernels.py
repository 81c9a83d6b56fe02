"""Which implementation of a fused operation the layers ask for."""

from __future__ import annotations

from xwx.options import get_options

__all__ = ["backend"]


def backend(*forms: str) -> str:
    """Return what the option ``kernels`` means for an operation that comes in some fast forms.

    Parameters
    ----------
    *forms : str
        The fast forms in which the operation exists: of "triton" and "numba".
    """
    wanted: str = get_options()["kernels"]
    return wanted if wanted in (*forms, "auto", "torch") else "auto"
