"""What frames tell each other between convolutions."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch

from xwx import Channel, Grid, Spec
from xwx.models.uvit.convolutions import FrameMix
from xwx.models.wind import Wind, WindConfig

FRAMES, CHANNELS, CONDITION = 3, 4, 6


def mixing(random=True):
    torch.manual_seed(0)
    block = FrameMix(CHANNELS, FRAMES, 2, CONDITION).double()
    if random:
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.normal_()
    return block


def maps(batch=2):
    torch.manual_seed(1)
    return torch.randn(batch * FRAMES, CHANNELS, 4, 5, dtype=torch.float64)


def test_nothing_before_training():
    x = maps()
    assert torch.equal(mixing(random=False)(x, torch.randn(1, CONDITION).double()), x)


def test_it_is_a_matrix_of_all_channels_of_all_frames_in_each_cell():
    """Against a loop over windows and cells."""
    block, x = mixing(), maps()
    condition = torch.randn(len(x), CONDITION, dtype=torch.float64)
    found = block(x, condition)
    scale, shift = block.film(condition)
    normal = torch.nn.functional.group_norm(x, 2) * scale[..., None, None] + shift[..., None, None]
    heard = normal / (1 + (-normal).exp())
    matrix, bias = block.conv.weight[:, :, 0, 0], block.conv.bias
    for window in range(2):
        own = slice(window * FRAMES, (window + 1) * FRAMES)
        for row in range(4):
            for column in range(5):
                told = matrix @ heard[own, :, row, column].flatten() + bias
                expected = x[own, :, row, column] + told.view(FRAMES, CHANNELS)
                torch.testing.assert_close(found[own, :, row, column], expected)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_a_network_with_it(checkpointing):
    spec = Spec((Channel("msl"),), Grid.regular(8, 16, poles=False), timedelta(hours=6))
    torch.manual_seed(0)
    network = Wind(WindConfig.preset("wind_tiny", mix=True, frames=3), spec).double()
    network.checkpointing = checkpointing
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=parameter.dtype))
    z = torch.randn(1, 3, 1, 8, 16, dtype=torch.float64, requires_grad=True)
    way = torch.randn_like(z)
    (gradient,) = torch.autograd.grad((network.denoise(z) * way).sum(), z)
    step = 1e-6 * torch.randn_like(z)
    with torch.no_grad():
        slope = ((network.denoise(z + step) - network.denoise(z - step)) * way).sum() / 2
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-6, atol=0)


def test_where_nothing_attends_frames_still_hear_of_each_other():
    spec = Spec((Channel("msl"),), Grid.regular(8, 16, poles=False), timedelta(hours=6))
    heard = {}
    for mix in (False, True):
        torch.manual_seed(0)
        config = WindConfig.preset("wind_tiny", mix=mix, frames=3, attend=())
        network = Wind(config, spec)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        z = torch.randn(1, 3, 1, 8, 16, requires_grad=True)
        (gradient,) = torch.autograd.grad(network.denoise(z)[:, 2].sum(), z)
        heard[mix] = bool(gradient[:, 0].any())
    assert heard == {False: False, True: True}
