"""Scores by name, and as text."""

import re

import numpy as np
import pytest

from xwx.metrics.ensembles import CRPS, SSR, EnergyScore, RankHistogram
from xwx.metrics.events import SEEPS, Brier, ThresholdCRPS
from xwx.metrics.names import from_text, names, parse_metrics, to_text
from xwx.metrics.single import ACC, NRMSE


@pytest.mark.parametrize("name", names())
def test_every_name_is_a_score_and_survives_as_text(name):
    (metric,) = parse_metrics(name)
    assert (metric if isinstance(metric, str) else metric.label) == name
    assert from_text(to_text([metric])) == (metric,)


@pytest.mark.parametrize(
    "metric",
    [
        ACC(centred=True),
        CRPS(fair=False),
        SSR("unbiased"),
        NRMSE({"t2m": 3.0, "t": [1.0, 2.0]}),
        Brier("300 K"),
        Brier({"t2m": "300 K", "msl": "1000 hPa"}),
        ThresholdCRPS("10 degC", tail="lower"),
        EnergyScore(fair=False),
        RankHistogram(),
        SEEPS("0.2 mm"),
    ],
)
def test_scores_with_parameters_survive_as_text(metric):
    assert from_text(to_text([metric, "mnrmse"])) == (metric, "mnrmse")


def test_order_and_once():
    assert [m.label for m in parse_metrics(["bias", "rmse", "bias"])] == ["bias", "rmse"]
    assert parse_metrics(CRPS()) == parse_metrics("crps")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("rmsee", "unknown metric 'rmsee': did you mean 'rmse'? The names are rmse, mae"),
        ("RMSE", "unknown metric 'RMSE': did you mean 'rmse'?"),
        ("foo", "unknown metric 'foo'. The names are"),
        ("brier", "metric 'brier': use xwx.metrics.Brier(\"300 K\")"),
        ("spectrum", "use ds.wx.spectrum()"),
    ],
)
def test_unknown_names(name, answer):
    with pytest.raises(ValueError, match=re.escape(answer)):
        parse_metrics(["bias", name])


@pytest.mark.parametrize(
    ("metrics", "kind", "answer"),
    [
        ([], ValueError, "metrics is empty: give at least one of rmse"),
        (3, TypeError, "metrics=3: give names"),
        ([3], TypeError, "3 is neither a name nor a score"),
        (np.float64, TypeError, "give names"),
        ([CRPS], TypeError, "CRPS is a class: give CRPS(...)"),
        (["nrmse", NRMSE({"t2m": 1.0})], ValueError, "nrmse is asked for twice, in two ways"),
        (["rmse", "rank_histogram"], ValueError, "a dimension of its own (rank)"),
    ],
)
def test_wrong_requests(metrics, kind, answer):
    with pytest.raises(kind, match=re.escape(answer)):
        parse_metrics(metrics)
