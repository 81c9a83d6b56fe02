"""The general circulation model that must be installed, and how to install it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from xwx.errors import XwxError

__all__ = ["JCM", "require"]

#: The version whose faults `gcm` works round.
JCM = "3.0.0"
_REMEDY = "in an environment of its own, pip install 'xarray-wx[climate]'"


def require() -> None:
    """See that the model is there, in the right version.

    Raises
    ------
    XwxError
        If it is not; says how to install it.
    """
    try:
        found = version("jcm")
    except PackageNotFoundError as error:
        raise XwxError(f"simulating a climate needs the package jcm {JCM}: {_REMEDY}") from error
    if found != JCM:
        raise XwxError(
            f"simulating a climate needs jcm {JCM}, around whose faults it works, and jcm {found} "
            f"is installed: {_REMEDY}"
        )
