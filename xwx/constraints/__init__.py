"""What a user may demand of a sample, in xarray and units; each becomes a diffusion operator."""

from xwx.constraints.area_mean import AreaMean
from xwx.constraints.custom import Custom
from xwx.constraints.dry_air import DryAirMass
from xwx.constraints.noise import Noise
from xwx.constraints.observe import Observe
from xwx.constraints.scene import Bound, Constraint, Scene
from xwx.constraints.time_mean import TimeMean
from xwx.constraints.warming import Warming

__all__ = [
    "AreaMean",
    "Bound",
    "Constraint",
    "Custom",
    "DryAirMass",
    "Noise",
    "Observe",
    "Scene",
    "TimeMean",
    "Warming",
]
