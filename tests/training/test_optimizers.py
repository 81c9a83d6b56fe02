"""Which weights which optimiser moves, how fast, and that both go on where they were."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from xwx.errors import ConfigError
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec
from xwx.training.loss import LOSSES, HybridLoss
from xwx.training.optimizers import make_optimizers, set_rate
from xwx.training.settings import StageConfig

SPEC = Spec((Channel("msl"),), Grid.regular(4, 8, poles=False))
SIZE = EMFormerConfig(dim=8, heads=2, depth=2, levels=1, outer=1, ratio=2.0, windows=((2, 2),))
CONFIG = StageConfig(optimizer="muon", learning_rate=1e-3, weight_decay=0.05, warmup=4)


def names(network: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name for name, p in network.named_parameters() if id(p) in own}


def test_muon_moves_the_matrices_of_hidden_layers() -> None:
    network = EMFormer(SIZE, SPEC)
    loss = HybridLoss(torch.ones(4), 1)
    adam, muon = make_optimizers(network, loss, CONFIG)
    moved, rest = names(network, muon), names(network, adam)
    assert moved | rest == {name for name, _ in network.named_parameters()}
    assert not moved & rest
    assert {"valley.0.qkv.weight", "valley.1.mlp.2.weight", "before.0.0.proj.weight"} <= moved
    assert {
        "embed.conv.weight",
        "head.linear.weight",
        "position",
        "valley.0.convs.kernels.0",
        "valley.0.qkv.bias",
        "norms.0.weight",
    } <= rest
    assert all(network.get_parameter(name).ndim == 2 for name in moved)
    learned = {id(p) for group in adam.param_groups for p in group["params"]}
    assert {id(loss.theta), id(loss.s)} <= learned
    assert [group["weight_decay"] for group in (*adam.param_groups, *muon.param_groups)] == [
        0.05,
        0.0,
        0.05,
    ]


@pytest.mark.parametrize(("muon_rate", "factor"), [(None, 1.0), (0.02, 20.0)])
def test_both_follow_one_schedule(muon_rate: float | None, factor: float) -> None:
    config = replace(CONFIG, muon_learning_rate=muon_rate)
    optimizers = make_optimizers(EMFormer(SIZE, SPEC), nn.Module(), config)
    for update in (0, 3, 500, 999):
        set_rate(optimizers, config, update)
        rates = [group["lr"] for o in optimizers for group in o.param_groups]
        rate = config.rate(update)
        assert rates == pytest.approx([rate, rate, factor * rate], rel=1e-15)


def test_what_a_loss_does_not_learn_is_not_optimised() -> None:
    for name, learned in (("l2", 0), ("sum", 1), ("latitude", 1), ("learnable", 2)):
        loss = HybridLoss(torch.ones(4), 1, LOSSES[name])
        (adam,) = make_optimizers(nn.Module(), loss, StageConfig())
        assert sum(len(group["params"]) for group in adam.param_groups) == learned


def test_muon_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no matrices of hidden layers; set optimizer = 'adamw'"):
        make_optimizers(nn.Conv2d(1, 1, 1), nn.Module(), CONFIG)
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"optimizer='muon': torch .* install torch>=2.9"):
        make_optimizers(EMFormer(SIZE, SPEC), nn.Module(), CONFIG)
