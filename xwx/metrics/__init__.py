"""Scores of forecasts: their names, climatologies, regions, and how parts are combined.

The verb is ``ds.wx.verify``; this is what it is told with, and what is done with its results.
"""

from xwx.metrics.arrays.gaussian import gaussian_crps
from xwx.metrics.arrays.tracks import common_distance_error, mean_distance_error
from xwx.metrics.climatology import climatology
from xwx.metrics.combine import combine
from xwx.metrics.drift import mass_drift
from xwx.metrics.ensembles import CRPS, EECRPS, SSR, EnergyScore, RankHistogram
from xwx.metrics.events import SEEPS, Brier, ThresholdCRPS
from xwx.metrics.metric import Metric
from xwx.metrics.names import names
from xwx.metrics.persistence import persistence
from xwx.metrics.regions import BOXES, Box, region_weights
from xwx.metrics.seeps import seeps_climatology
from xwx.metrics.single import ACC, NRMSE

__all__ = [
    "ACC",
    "BOXES",
    "CRPS",
    "EECRPS",
    "NRMSE",
    "SEEPS",
    "SSR",
    "Box",
    "Brier",
    "EnergyScore",
    "Metric",
    "RankHistogram",
    "ThresholdCRPS",
    "climatology",
    "combine",
    "common_distance_error",
    "gaussian_crps",
    "mass_drift",
    "mean_distance_error",
    "names",
    "persistence",
    "region_weights",
    "seeps_climatology",
]
