"""Settings that make no sense, alone or together, are refused with a remedy."""

from __future__ import annotations

import math

import pytest

from xwx.training.settings import StageConfig

FIVE = ((0.0, 5),)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollout": ()}, "rollout"),
        ({"rollout": ((0.4, 2),)}, "must rise from 0.0"),
        ({"rollout": ((0.0, 1), (0.8, 2), (0.5, 3))}, "must rise from 0.0"),
        (
            {"rollout": ((0.0, 1), (1.0, 2))},
            r"\(1.0, 2\)\): shares .* must rise from 0.0 and lie below 1",
        ),
        ({"rollout": ((0.0, 0),)}, "at least one step"),
        ({"precision": "bf16"}, "precision='bf16': choose from float32, bfloat16"),
        ({"leads": ()}, "leads"),
        ({"leads": (0, 1)}, "leads"),
        ({"leads": (1, 4, 2)}, r"leads=\(1, 4, 2\): .* each once and rising"),
        ({"leads": (1, 2, 2)}, r"leads=\(1, 2, 2\): .* each once and rising"),
        ({"updates": 0}, "updates=0: must be at least 1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"validate_every": 0}, "validate_every=0"),
        ({"validation_starts": -1}, "validation_starts=-1: must be at least 0"),
        ({"prefetch": -1}, "prefetch=-1: must be at least 0"),
        ({"cache": -5}, "cache=-5: must be at least 0"),
        ({"alpha": 1.5}, "alpha=1.5: must lie between 0 and 1"),
        ({"alpha": -0.1}, "alpha=-0.1: must lie between 0 and 1"),
        ({"clip": 0.0}, "clip=0.0: must be above 0; a large number, as 1e9, means none"),
        ({"clip": -1.0}, "clip=-1.0: must be above 0"),
        ({"clip": math.nan}, "clip=nan: must be above 0"),
        ({"ema": 1.0}, "ema=1.0: must be at least 0 and below 1; 0 averages nothing"),
        ({"ema": -0.1}, "ema=-0.1: must be at least 0 and below 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be above 0"),
        ({"learning_rate": -1e-3}, "learning_rate=-0.001: must be above 0"),
        ({"learning_rate_min": -1e-9}, "learning_rate_min=-1e-09: must be at least 0"),
        (
            {"learning_rate": 1e-7},  # below the default of the other
            "learning_rate_min=3e-07 with learning_rate=1e-07: .* set learning_rate_min = 1e-07 or",
        ),
        ({"warmup": -1}, "warmup=-1: must be at least 0"),
        (
            {"warmup": 10, "updates": 10},
            "warmup=10 with updates=10: .* set a lower warmup, or more updates",
        ),
        (
            {"muon_learning_rate": 0.0, "optimizer": "muon"},
            "muon_learning_rate=0.0: must be above 0; leave it out for learning_rate",
        ),
        ({"muon_learning_rate": -0.1, "optimizer": "muon"}, "muon_learning_rate=-0.1: must be"),
        ({"update": "step"}, "update='step': choose from sequence, per_step"),
        ({"optimizer": "sgd"}, "optimizer='sgd': choose from adamw, muon"),
        ({"gradient": "bptt"}, "gradient='bptt': choose from through, detach, or bptt:k"),
        ({"gradient": "bptt:0"}, "gradient='bptt:0'"),
        ({"gradient": "bptt:-1"}, "gradient='bptt:-1'"),
        ({"gradient": "detached"}, "gradient='detached'"),
        ({"cache": 5}, "cache=5: a memory is first read in the second step"),
        (
            {"kv_grad": True, "rollout": FIVE},
            "kv_grad=True: there is no memory to train; set cache",
        ),
        (
            {"kv_grad": True, "cache": 5, "gradient": "detach", "rollout": FIVE},
            "kv_grad=True with gradient='detach': .* set gradient = 'through' or 'bptt:2'",
        ),
        (
            {"kv_grad": True, "cache": 5, "gradient": "bptt:1", "rollout": FIVE},
            "kv_grad=True with gradient='bptt:1'",
        ),
        (
            {"update": "per_step", "rollout": FIVE},
            "update='per_step' with gradient='through': .* set gradient = 'detach'",
        ),
        ({"update": "per_step", "rollout": FIVE, "gradient": "bptt:2"}, "set gradient = 'detach'"),
        ({"muon_learning_rate": 0.02}, "muon_learning_rate=0.02 with optimizer='adamw': set"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StageConfig(**settings)


def test_settings_that_do() -> None:
    StageConfig()
    StageConfig(clip=1e-9, ema=0.0, learning_rate=1e-7, learning_rate_min=0.0)
    StageConfig(clip=math.inf, learning_rate=1e-7, learning_rate_min=1e-7, alpha=0.0)
    StageConfig(warmup=9, updates=10, leads=(3,), rollout=((0.0, 1), (0.99, 2)), alpha=1.0)
    StageConfig(optimizer="muon", muon_learning_rate=1e-9)
    StageConfig(gradient="detach")  # one step: nothing to detach
    StageConfig(update="per_step")
    StageConfig(update="per_step", gradient="bptt:1", rollout=FIVE)
    StageConfig(cache=5, rollout=((0.0, 1), (0.5, 2)))
    config = StageConfig(gradient="bptt:3", cache=2, kv_grad=True, rollout=((0.0, 2), (0.5, 10)))
    assert config.longest == 10
    assert [config.segment(steps) for steps in (2, 3, 10)] == [2, 3, 3]
    assert [StageConfig().segment(steps) for steps in (1, 7)] == [1, 7]
    assert StageConfig(gradient="detach").segment(7) == 1
