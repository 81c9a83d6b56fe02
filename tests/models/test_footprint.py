"""What a network takes of a device: exact where a network is simple enough to count by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.models.footprint import footprint, weights_of
from xwx.spec import Channel, Grid, Spec

CPU = torch.device("cpu")
STATE = 3 * 8 * 16 * 4


def spec(history=1, forcings=()):
    channels = (Channel("msl"), Channel("t2m"), Channel("u10"))
    return Spec(channels, Grid.regular(8, 16, poles=False), timedelta(hours=6), history, forcings)


class Chain(torch.nn.Module):
    """Three pointwise operations; at most two results are alive beside the input."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1000))
        self.register_buffer("table", torch.ones(500, dtype=torch.float64), persistent=False)

    def forward(self, x, forcing, memory):
        y = x[:, -1] * 2
        y = y + 1
        return y.exp(), memory


class Keeper(Chain):
    """Remembers something new of each step, up to three steps."""

    def remember(self, cache):
        return ()

    def forward(self, x, forcing, memory):
        y, _ = super().forward(x, forcing, None)
        return y, None if memory is None else (*memory, torch.zeros(1000))[-3:]


class Product(torch.nn.Module):
    """A matrix product of known size."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(16, 16, bias=False)

    def forward(self, x, forcing, memory):
        return self.linear(x[:, -1]), memory


def test_each_part_is_counted_by_hand():
    found = footprint(Chain(), spec(), device=CPU)
    assert found.weights == 4 * 1000 + 8 * 500
    # The state given, the window of the next step, and the newest state.
    assert found.states == 3 * STATE
    assert found.memory == 0
    # In the second step two results of the chain live together while the state given, the window
    # and the newest state do.
    assert found.activations == 2 * STATE
    assert found.peak == found.weights + 5 * STATE


def test_histories_keep_more_states():
    found = footprint(Chain(), spec(history=3), device=CPU)
    assert found.states == 7 * STATE


@pytest.mark.parametrize(("steps", "frames"), [(1, 1), (2, 2), (3, 3), (6, 3)])
def test_what_is_remembered_grows_until_it_is_full(steps, frames):
    found = footprint(
        Keeper(), spec(), device=CPU, steps=steps, remember=lambda network: network.remember(3)
    )
    assert found.memory == frames * 4000


def test_operations_and_traffic_are_those_of_one_step():
    found = footprint(Product(), spec(), device=CPU, steps=3)
    assert found.operations == 2 * 3 * 8 * 16 * 16
    assert found.weights == 4 * 16 * 16
    # The product reads a state and the weights, the next window a state, and each writes a state.
    assert found.traffic == 4 * STATE + found.weights
    assert found.calls == 2


class Calls(torch.nn.Module):
    """Whatever a function does of its own, beside a state that stays as it is."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, forcing, memory):
        self.function()
        return x[:, -1].clone(), memory


def operations_of(function):
    return footprint(Calls(function), spec(), device=CPU).operations


QUERIES, KEYS, HEADS, WIDE = 5, 7, 3, 4  # tokens and channels of a head; of two windows


def attend(*, backward=0):
    with torch.inference_mode(False), torch.enable_grad():
        q = torch.ones(2, HEADS, QUERIES, WIDE, requires_grad=True)
        k, v = (torch.ones(2, HEADS, KEYS, WIDE, requires_grad=True) for _ in range(2))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        for _ in range(backward):
            torch.autograd.grad(out.sum(), (q, k, v), retain_graph=True)


def test_operations_of_attention_are_those_of_its_products():
    """Scores, and sums of values; on the way back the scores again, and four products more.

    The two forward are what torch counts where it does them one by one.
    """
    product = 2 * 2 * HEADS * QUERIES * KEYS * WIDE
    assert operations_of(attend) == 2 * product
    assert operations_of(lambda: attend(backward=1)) == (2 + 5) * product
    assert operations_of(lambda: attend(backward=3)) == (2 + 3 * 5) * product
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        attend()
    assert counter.get_total_flops() == 2 * product


def test_operations_of_the_kernels_are_those_of_their_definitions():
    ops = torch.ops.xwx_kernels
    # a map of 4 x 8 tokens of 6 channels, in windows of 2 x 4: each with 8 keys, twice
    qkv = (2, 4 * 8, 3 * 6)
    found = operations_of(
        lambda: ops.window_attention(torch.ones(qkv), 4, 8, 2, 4, 2, 0, "periodic", "numba")
    )
    assert found == 2 * (4 * 8) * 8 * 6 * 2 * 2
    # two heads of 3 channels, 5 tokens and 4 frames that are remembered, so 25 keys
    token, cached = (1, 2, 5, 3), (1, 2, 4, 5, 3)
    found = operations_of(
        lambda: ops.memory_attention(
            *(torch.ones(token) for _ in range(3)), *(torch.ones(cached) for _ in range(2)), None
        )
    )
    assert found == 2 * 5 * 25 * 3 * 2 * 2
    # 25 taps of every channel of every token
    found = operations_of(
        lambda: ops.multi_convs(
            torch.ones(2, 4 * 8, 6),
            [torch.ones(6, 1, side, side) for side in (1, 3, 5)],
            4, 8, "periodic", "zero", "numba",
        )
    )  # fmt: skip
    assert found == 2 * (4 * 8) * 6 * 25 * 2


def test_the_network_stays_as_it_is():
    class Absent(Chain):
        seen = None

        def forward(self, x, forcing, memory):
            self.seen = x
            return super().forward(x, forcing, memory)

    network = Absent().eval()
    before = {name: (id(t), t.clone()) for name, t in network.named_parameters()}
    footprint(network, spec(), device=CPU)
    assert network.seen is None
    for name, tensor in network.named_parameters():
        assert id(tensor) == before[name][0]
        assert torch.equal(tensor, before[name][1])
        assert type(tensor) is torch.nn.Parameter


def test_a_network_that_needs_numbers_says_so():
    class Asks(Chain):
        def forward(self, x, forcing, memory):
            return x[:, -1] * float(x.max()), memory

    with pytest.raises(Exception, match=r"item|local_scalar|Data"):
        footprint(Asks(), spec(), device=CPU)


def test_shared_weights_count_once():
    network = Product()
    network.again = network.linear
    network.view = torch.nn.Parameter(network.linear.weight.detach()[:8])
    assert weights_of(network) == 4 * 16 * 16


def test_the_memory_of_an_emformer_is_that_of_its_keys_and_values():
    """Blocks x (keys and values) x frames x tokens x channels x bytes, and the scores."""
    config = EMFormerConfig.preset("emformer_tiny", dim=32, heads=2, depth=4, levels=1, outer=0)
    network = EMFormer(config, spec()).eval()

    def taken(cache, steps, autocast=None):
        return footprint(
            network,
            spec(),
            device=CPU,
            autocast=autocast,
            steps=steps,
            remember=lambda light: light.remember(cache),
        )

    tokens = 4 * 8 // 2
    keys = 2 * (2 * tokens * 32)
    small = 2 * (4 + 8)  # a score and an age for each frame and block
    assert taken(5, 7).memory == 5 * (4 * keys + small)
    assert taken(5, 3).memory == 3 * (4 * keys + small)
    assert taken(0, 7).memory == 0
    assert taken(5, 7, torch.bfloat16).memory == 5 * (2 * keys + small)
    # While a frame is added to a full memory the old one is still there.
    assert taken(5, 7).peak - taken(0, 2).peak >= 5 * 4 * keys


def test_forcings_reach_the_network():
    config = EMFormerConfig.preset("emformer_tiny", dim=32, heads=2, depth=2, levels=1)
    plain, forced = spec(), spec(forcings=("sin_latitude", "cos_latitude"))
    without = footprint(EMFormer(config, plain).eval(), plain, device=CPU)
    with_them = footprint(EMFormer(config, forced).eval(), forced, device=CPU)
    assert with_them.weights - without.weights == 4 * 2 * config.patch**2 * config.dim
