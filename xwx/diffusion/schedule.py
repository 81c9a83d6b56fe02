"""How much noise there is at which time, as networks and samplers agree on it."""

from xwx.models.schedule import Rectified, per_frame

__all__ = ["Rectified", "per_frame"]
