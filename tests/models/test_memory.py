"""The memory against its formulas written out sample by sample, and what a network does with it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import xwx
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.models.layers.attention import remembering_window_attention, window_attention
from xwx.models.layers.blocks import Block, Reach
from xwx.models.layers.maps import TokenMap
from xwx.models.layers.memory import Memory, memory_tensors, restore_memory
from xwx.models.rollout import rollout
from xwx.spec import Channel, Grid, Spec

TINY = EMFormerConfig(
    dim=16,
    heads=2,
    depth=4,
    ratio=2.0,
    levels=1,
    outer=0,
    cross=False,
    windows=((2, 4), (4, 3)),
    positions="latitude",
    cache=3,
)


def spec_of(rows: int = 10, columns: int = 20, grid: Grid | None = None) -> Spec:
    channels = Channel("t", 50000.0), Channel("msl")
    return Spec(channels, grid or Grid.regular(rows, columns, poles=False))


def build(config: EMFormerConfig = TINY, spec: Spec | None = None) -> EMFormer:
    """Return a double-precision network in which no parameter is left at its initial value."""
    torch.manual_seed(0)
    network = EMFormer(config, spec or spec_of()).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for block in network.valley:  # pointed attention, so that frames differ in their mass
            block.qkv.weight.mul_(2)
    return network


def states(network: EMFormer, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 1, len(network.spec.channels), *network.spec.grid.shape)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def close(a: Tensor, b: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


class Dense:
    """The same memory from its formulas: one softmax over all tokens of all frames."""

    def __init__(self, length: int, alpha: float, batch: int) -> None:
        self.length, self.alpha, self.step = length, alpha, 0
        self.frames: list[list[dict]] = [[] for _ in range(batch)]
        self.mass: list[list[float]] = []

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        outs, self.mass = [], []
        for b, frames in enumerate(self.frames):
            frames.append({"k": k[b], "v": v[b], "score": None, "age": self.step})
            outs.append(self.sample(frames, q[b], bias))
        self.step += 1
        return torch.stack(outs)

    def sample(self, frames: list[dict], q: Tensor, bias: Tensor | None) -> Tensor:
        heads, tokens, d = q.shape
        out = torch.zeros_like(q)
        mass = torch.zeros(len(frames), dtype=q.dtype)
        for h in range(heads):
            keys = torch.cat([frame["k"][h] for frame in frames])
            values = torch.cat([frame["v"][h] for frame in frames])
            logits = q[h] @ keys.T / math.sqrt(d)
            if bias is not None:
                lags = [bias[h, bias.shape[1] - len(frames) + n] for n in range(len(frames))]
                logits = logits + torch.stack(lags).repeat_interleave(tokens)
            p = torch.softmax(logits, dim=1)
            out[h] = p @ values
            for n in range(len(frames)):
                mass[n] += p[:, n * tokens : (n + 1) * tokens].sum() / (heads * tokens)
        self.mass.append(mass.tolist())
        for frame, part in zip(frames, mass.tolist(), strict=True):
            old = frame["score"]
            frame["score"] = part if old is None else self.alpha * part + (1 - self.alpha) * old
        if len(frames) > self.length:
            past = range(len(frames) - 1)
            del frames[min(past, key=lambda n: (frames[n]["score"], frames[n]["age"]))]
        return out

    def same(self, memory: Memory) -> None:
        for b, frames in enumerate(self.frames):
            assert memory.age[b].tolist() == [frame["age"] for frame in frames]
            close(memory.score[b], torch.tensor([f["score"] for f in frames], dtype=torch.double))
            for name in ("k", "v"):
                kept = torch.stack([frame[name] for frame in frames], dim=1)
                assert torch.equal(getattr(memory, name)[b], kept)


def draw(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    return 2 * q, k, v


# ---- one memory


@pytest.mark.parametrize("lags", [False, True])
@pytest.mark.parametrize(
    ("length", "alpha", "shape"),
    [
        (1, 0.9, (2, 1, 3, 2)),
        (2, 0.9, (3, 2, 1, 5)),
        (3, 0.0, (2, 3, 5, 7)),
        (4, 1.0, (1, 2, 7, 3)),
        (5, 0.5, (4, 1, 2, 1)),
        (5, 0.9, (3, 2, 3, 4)),
    ],
)
def test_a_memory_is_its_formulas(length, alpha, shape, lags):
    """Outputs, frames kept, scores and ages of every sample, over thirteen steps."""
    memory, dense = Memory(length, alpha), Dense(length, alpha, shape[0])
    bias = torch.randn(shape[1], length + 1, dtype=torch.float64) if lags else None
    for step in range(13):
        q, k, v = draw(shape, 100 * length + step)
        out, memory = memory.attend(q, k, v, bias)
        close(out, dense.attend(q, k, v, bias))
        dense.same(memory)


def test_samples_forget_different_frames():
    """Otherwise the test before would not tell one sample from another."""
    memory = Memory(3)
    for step in range(9):
        _, memory = memory.attend(*draw((8, 1, 2, 3), step))
    assert len({tuple(row) for row in memory.age.tolist()}) > 3


def test_one_frame_is_forgotten_a_step_and_never_the_newest():
    memory, before = Memory(5), None
    for step in range(40):
        _, memory = memory.attend(*draw((3, 2, 2, 3), step))
        count = min(5, step + 1)
        assert memory.k.shape == memory.v.shape == (3, 2, count, 2, 3)
        assert memory.score.shape == memory.age.shape == (3, count)
        for b, ages in enumerate(memory.age.tolist()):
            assert ages[-1] == step
            assert all(a < b for a, b in pairwise(ages))
            if before is not None:
                assert len(set(before[b]) - set(ages)) == (step >= 5)
                assert set(ages) <= {*before[b], step}
        before = memory.age.tolist()
        assert float(memory.score.min()) > 0
        assert float(memory.score.max()) <= 1
        assert memory.k.untyped_storage().nbytes() == memory.k.numel() * 8  # and nothing beside


@pytest.mark.parametrize("alpha", [0.25, 0.9, 1.0])
def test_equals_lose_the_oldest(alpha):
    """Queries of zero give every frame the same mass: at alpha 1 all scores are equal."""
    memory, dense = Memory(3, alpha), Dense(3, alpha, 1)
    for step in range(7):
        _, k, v = draw((1, 1, 2, 2), step)
        _, memory = memory.attend(torch.zeros_like(k), k, v)
        dense.attend(torch.zeros_like(k), k, v)
        dense.same(memory)
    if alpha == 1:
        assert memory.age.tolist() == [[4, 5, 6]]


def test_alpha_one_forgets_the_history_and_alpha_zero_the_present():
    now, first, dense = Memory(4, 1.0), Memory(4, 0.0), Dense(4, 1.0, 2)
    begun: dict[tuple[int, int], float] = {}
    for step in range(9):
        q, k, v = draw((2, 2, 3, 2), step)
        full = {(b, f["age"]) for b in range(2) for f in dense.frames[b]}
        dense.attend(q, k, v)
        _, now = now.attend(q, k, v)
        for b in range(2):
            ages = sorted([a for s, a in full if s == b] + [step])
            masses = dict(zip(ages, dense.mass[b], strict=True))
            for age, score in zip(now.age[b].tolist(), now.score[b].tolist(), strict=True):
                assert score == pytest.approx(masses[age], abs=1e-12)
        _, first = first.attend(q, k, v)
        for b in range(2):
            for age, score in zip(first.age[b].tolist(), first.score[b].tolist(), strict=True):
                assert begun.setdefault((b, age), score) == score


def test_a_frame_that_nobody_looks_at_goes_first():
    """By hand: one token, one head; the query is across the first key and along the second."""
    far = 50.0
    keys = torch.tensor([[-far, 0.0], [far, 0.0], [0.0, far]], dtype=torch.float64)
    query = torch.tensor([far, 0.0], dtype=torch.float64).view(1, 1, 1, 2)
    memory = Memory(2)
    scores = []
    for key in keys:
        k = key.view(1, 1, 1, 2)
        _, memory = memory.attend(query, k, k)
        scores.append(memory.score[0].tolist())
    assert memory.age.tolist() == [[1, 2]]
    # Alone it has all the attention, then none: nine tenths of its score go.
    assert scores[0] == [1.0]
    assert scores[1] == pytest.approx([0.1, 1.0], abs=1e-12)
    assert scores[2] == pytest.approx([1.0, 0.0], abs=1e-12)


def test_a_score_decays_by_its_share_while_nobody_looks():
    memory = Memory(6, 0.75)
    for step in range(6):
        key = torch.tensor([-60.0 if step == 0 else 0.0, 0.0], dtype=torch.float64)
        query = torch.tensor([60.0, 0.0], dtype=torch.float64)
        q, k = query.view(1, 1, 1, 2), key.view(1, 1, 1, 2)
        _, memory = memory.attend(q, k, k)
        assert float(memory.score[0, 0]) == pytest.approx(0.25**step, rel=1e-12)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_the_order_of_the_frames_does_not_matter(order):
    memory = Memory(3)
    for step in range(3):
        _, memory = memory.attend(*draw((2, 2, 3, 4), step))
    held = {name: getattr(memory, name) for name in ("k", "v", "score", "age")}
    turned = {
        n: x[:, :, list(order)] if x.ndim == 5 else x[:, list(order)] for n, x in held.items()
    }
    q, k, v = draw((2, 2, 3, 4), 9)
    out, _ = memory.attend(q, k, v)
    close(replace(memory, **turned).attend(q, k, v)[0], out)
    wrong, _ = replace(memory, k=turned["k"]).attend(q, k, v)  # keys alone
    assert (wrong - out).abs().max() > 1e-3


def test_an_empty_memory_is_plain_attention():
    q, k, v = draw((2, 3, 5, 4), 0)
    bias = torch.randn(3, 4, dtype=torch.float64)
    expected = F.scaled_dot_product_attention(q, k, v)
    for lags in (None, bias):  # one number on all logits changes nothing
        out, memory = Memory(3).attend(q, k, v, lags)
        close(out, expected)
        assert memory.score.tolist() == [[1.0]] * 2


def test_the_memory_before_is_left_as_it_was():
    memory = Memory(2)
    for step in range(4):
        copies = memory_tensors([memory])
        copies = {name: tensor.clone() for name, tensor in copies.items()}
        _, after = memory.attend(*draw((2, 1, 2, 3), step))
        assert all(torch.equal(copies[n], x) for n, x in memory_tensors([memory]).items())
        memory = after


def test_what_is_kept_owns_its_memory():
    """Keys and values are parts of a joint projection, which must not be kept alive."""
    joint = torch.randn(2, 6, 36)
    q, k, v = (x.view(2, 6, 3, 4).transpose(1, 2) for x in joint.chunk(3, dim=-1))
    _, memory = Memory(4).attend(q, k, v)
    for held in (memory.k, memory.v):
        assert held.untyped_storage().nbytes() == held.numel() * 4
    k.zero_()
    assert memory.k.abs().min() > 0


@pytest.mark.parametrize("attached", [False, True])
def test_gradients_reach_what_is_held_only_when_attached(attached):
    memory = Memory(2, attached=attached)
    inputs = [[x.requires_grad_() for x in draw((1, 1, 2, 2), step)] for step in range(4)]
    for q, k, v in inputs:
        out, memory = memory.attend(q, k, v)
        assert memory.k.requires_grad == memory.v.requires_grad == attached
        assert not memory.score.requires_grad
    flat = [x for step in inputs for x in step[1:]]
    slopes = torch.autograd.grad(out.square().sum(), flat, allow_unused=True)
    reached = [s is not None and bool(s.abs().max() > 0) for s in slopes]
    seen = [age for age in memory.age[0].tolist() if age < 3]  # and the one forgotten at the end
    assert reached[6:] == [True, True]
    assert any(reached[:6]) == attached
    assert all(reached[2 * age] and reached[2 * age + 1] for age in seen) == attached
    cut = memory.detach()
    assert not cut.k.requires_grad
    assert not cut.v.requires_grad
    assert cut.attached == attached


def test_gradients_through_an_attached_memory_are_those_of_the_formulas():
    def run(step_of) -> list[Tensor]:
        inputs = [[x.requires_grad_() for x in draw((2, 2, 3, 2), step)] for step in range(5)]
        total = sum(step_of(q, k, v).square().sum() for q, k, v in inputs)
        return list(torch.autograd.grad(total, [x for step in inputs for x in step]))

    class Held:
        memory = Memory(2, attached=True)

        def __call__(self, q, k, v):
            out, self.memory = self.memory.attend(q, k, v)
            return out

    dense = Dense(2, 0.9, 2)
    for a, b in zip(run(Held()), run(dense.attend), strict=True):
        close(a, b, 1e-11)


def test_nothing_waits_for_the_device():
    """On the meta device there are no numbers to look at."""
    memory = Memory(2)
    for _ in range(5):
        q, k, v = (torch.empty(2, 1, 3, 4, device="meta") for _ in range(3))
        out, memory = memory.attend(q, k, v)
        assert out.is_meta
    assert memory.k.shape == (2, 1, 2, 3, 4)
    assert memory.age.is_meta


def test_frames_are_held_in_the_type_of_the_attention():
    memory, dense = Memory(2), Dense(2, 0.9, 1)
    for step in range(4):
        q, k, v = (x.bfloat16().double() for x in draw((1, 2, 3, 8), step))
        with torch.autocast("cpu", torch.bfloat16):
            out, memory = memory.attend(q.float(), k.float(), v.float())
        assert out.dtype == memory.k.dtype == memory.v.dtype == torch.bfloat16
        assert memory.score.dtype == torch.float32
        assert memory.age.dtype == torch.int64
        close(out.double(), dense.attend(q, k, v), 0.03)
        close(memory.k.double(), torch.stack([f["k"] for f in dense.frames[0]], dim=1)[None], 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"length": 0}, "length=0: at least 1; for none pass None"),
        ({"length": 2, "alpha": 1.5}, "alpha=1.5: give a weight from 0 to 1"),
        ({"length": 2, "k": torch.zeros(1, 1, 3, 2, 2)}, "3 frames with length=2: give at most 2"),
    ],
)
def test_memories_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        Memory(**values)


def test_half_a_memory():
    x = torch.zeros(1, 1, 1, 2, 2)
    with pytest.raises(ValueError, match="without score or age: give all or none"):
        Memory(2, k=x, v=x).attend(*draw((1, 1, 2, 2), 0))
    _, memory = Memory(2).attend(*draw((2, 1, 2, 2), 0))
    with pytest.raises(ValueError, match="cache_k has shape"):
        memory.attend(*draw((3, 1, 2, 2), 0))


# ---- windows that remember


def windows_of(where: TokenMap, window: tuple[int, int], *, roll: bool) -> list[list[int]]:
    """List the tokens of every window, those that lie in it first."""
    rows, columns = min(window[0], where.valid), min(window[1], where.width)
    width = where.width
    shift = columns // 2 if roll and where.periodic and width % columns == 0 else 0
    return [
        [
            i * width + j % width
            for i in range(top, min(top + rows, where.valid))
            for j in range(left, left + columns)
            if where.periodic or j < width
        ]
        for top in range(0, where.valid, rows)
        for left in range(shift, shift + width, columns)
    ]


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("size", "valid", "window"),
    [
        ((4, 8), 4, (2, 4)),  # divides
        ((6, 8), 5, (4, 2)),  # rows do not divide
        ((4, 7), 3, (2, 3)),  # neither
        ((3, 4), 2, (8, 8)),  # the window is larger than the map
    ],
)
@pytest.mark.parametrize("roll", [False, True])
def test_each_window_remembers_for_itself(size, valid, window, periodic, roll):
    where = TokenMap(*size, valid=valid, periodic=periodic)
    inside = windows_of(where, window, roll=roll)
    dense = [Dense(2, 0.9, 2) for _ in inside]
    bias = torch.randn(2, 3, dtype=torch.float64)
    memory = Memory(2)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        qkv = torch.randn(2, size[0] * size[1], 12, generator=generator, dtype=torch.float64)
        out, memory = remembering_window_attention(qkv, where, 2, window, memory, bias, roll=roll)
        expected = torch.zeros_like(out)
        # Backwards: where a last window goes on round the globe, the first one has the say.
        for tokens, past in reversed(list(zip(inside, dense, strict=True))):
            q, k, v = (x[:, tokens].view(2, -1, 2, 2).transpose(1, 2) for x in qkv.chunk(3, -1))
            expected[:, tokens] = past.attend(q, k, v, bias).transpose(1, 2).flatten(2)
        close(out, expected)
        if step == 0:
            close(out, window_attention(qkv, where, 2, window, roll=roll))
    held = sum(part.k.shape[0] for part in memory.parts)
    assert held == 2 * len(inside)
    assert all(part.k.shape[2] == 2 for part in memory.parts)
    tokens = sum(part.k.shape[0] * part.k.shape[3] for part in memory.parts)
    assert tokens == 2 * sum(map(len, inside))  # nothing beyond an edge is remembered


# ---- networks that remember


def network_of(blocks: str, lag_bias: bool = False, rows: int = 10) -> EMFormer:
    return build(replace(TINY, memory_blocks=blocks, lag_bias=lag_bias), spec_of(rows))


@pytest.mark.parametrize("blocks", ["global", "all"])
def test_the_first_step_is_that_without_memory(blocks):
    for rows in (10, 13):
        network = network_of(blocks, True, rows)
        x = states(network, 2)
        expected, none = network(x)
        assert none is None
        y, memory = network(x, None, network.remember())
        close(y, expected, 1e-11)
        remember = [True] * 4 if blocks == "all" else [False, True, False, True]
        assert [m is not None for m in memory] == remember
        other = states(network, 2, seed=5)
        assert (network(other, None, memory)[0] - network(other)[0]).abs().max() > 1e-3


def test_no_memory_is_the_network_that_has_none():
    plain, able = build(replace(TINY, cache=0)), build(TINY)
    assert plain.remember() is None
    assert able.remember(0) is None
    assert list(plain.state_dict()) == list(able.state_dict())
    x = states(plain)
    for a, b in zip(
        rollout(plain, x, 3), rollout(able, x, 3, memory=able.remember(0)), strict=True
    ):
        assert torch.equal(a, b)


def test_a_network_remembers_what_its_blocks_saw():
    """Forecasts of a network whose every memory is that of the formulas."""

    class Written:
        def __init__(self, dense: Dense) -> None:
            self.dense = dense

        def attend(self, q, k, v, bias=None):
            return self.dense.attend(q, k, v, bias), self

    network = network_of("global", lag_bias=True)
    x = states(network, 2)
    written = [m and Written(Dense(3, 0.9, 2)) for m in network.remember()]
    with torch.no_grad():
        found = list(rollout(network, x, 6, memory=network.remember()))
        expected = list(rollout(network, x, 6, memory=written))
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-9)


@pytest.mark.parametrize("blocks", ["global", "all"])
def test_a_memory_does_not_grow(blocks):
    network = network_of(blocks)
    held = []
    with torch.no_grad():
        steps = rollout(network, states(network), 40, memory=network.remember())
        for _ in steps:
            tensors = memory_tensors(steps.memory)
            held.append(sum(t.numel() * t.itemsize for n, t in tensors.items() if n[-1] in "kv"))
            frames = {t.shape[2] for n, t in tensors.items() if n[-1] in "kv"}
            assert frames == {min(3, steps.step)}
    assert held[2:] == held[2:3] * 38
    if blocks == "global":  # 2 x blocks x cache x tokens x dim x bytes
        assert held[-1] == 2 * 2 * 3 * (5 * 5) * 16 * 8


@pytest.mark.parametrize("blocks", ["global", "all"])
def test_samples_do_not_meet_in_the_memory(blocks):
    network = network_of(blocks, True)
    x, other = states(network, 3), states(network, 3, seed=9)
    mixed = torch.stack([other[0], x[1], other[2]])
    with torch.no_grad():
        runs = [
            list(rollout(network, start, 6, memory=network.remember(2)))
            for start in (x, mixed, x[1:2])
        ]
    for whole, among, alone in zip(*runs, strict=True):
        close(among[1], whole[1], 1e-9)
        close(alone[0], whole[1], 1e-9)


@pytest.mark.parametrize("attached", [False, True])
def test_a_third_loss_hears_of_the_first_state_through_an_attached_memory(attached):
    network = build()
    first = states(network).requires_grad_()
    x, memory = first, network.remember(attached=attached)
    for _ in range(3):
        y, memory = network(x, None, memory)
        x = y.detach()[:, None]
    slope = torch.autograd.grad(y.square().sum(), first, allow_unused=True)[0]
    held = [m.k for m in memory if m is not None]
    assert all(k.requires_grad == attached for k in held)
    if attached:
        assert float(slope.abs().max()) > 1e-6
    else:
        assert slope is None


def test_the_slope_through_the_memory_is_the_difference():
    network = build(replace(TINY, memory_blocks="all", lag_bias=True))
    start = states(network)

    def third(first: Tensor) -> Tensor:
        inputs = [first, *(states(network, seed=n) for n in (5, 6))]
        memory = network.remember(attached=True)
        for x in inputs:
            y, memory = network(x, None, memory)
        return y.square().mean()

    direction = states(network, seed=3)
    slope = torch.autograd.grad(third(start.requires_grad_()), start)[0]
    with torch.no_grad():
        h = 1e-5
        difference = (third(start + h * direction) - third(start - h * direction)) / (2 * h)
    assert abs(float(difference)) > 1e-6
    assert float((slope * direction).sum()) == pytest.approx(float(difference), rel=1e-6)


def test_lag_biases_are_learned_by_the_blocks_that_remember():
    for blocks, count in (("global", 2), ("all", 4)):
        network = EMFormer(replace(TINY, memory_blocks=blocks, lag_bias=True), spec_of())
        found = {n: p for n, p in network.named_parameters() if "lag_bias" in n}
        assert len(found) == count
        for parameter in found.values():
            assert torch.equal(parameter, torch.zeros(2, 4))
    network = network_of("global", lag_bias=True)
    x = states(network)
    with torch.no_grad():
        _, memory = network(x, None, network.remember())
        for block in network.valley:
            if block.lag_bias is not None:
                block.lag_bias.zero_()
                block.lag_bias[:, -2] = -torch.inf  # hides the newest frame held: the only one
        hidden, _ = network(x, None, memory)
        for block in network.valley:
            if block.lag_bias is not None:
                block.lag_bias.zero_()
    close(hidden, network(x)[0], 1e-11)
    memory = network.remember()
    for seed in range(3):
        y, memory = network(states(network, seed=seed), None, memory)
    network.zero_grad()
    y.square().sum().backward()
    slope = network.valley[3].lag_bias.grad
    assert slope[:, -3:].abs().min() > 0  # two frames held, and the present
    assert slope[:, 0].abs().max() == 0


@pytest.mark.parametrize("memory", [None, False, True], ids=["none", "detached", "attached"])
def test_checkpointing_changes_the_memory_only(memory):
    network = build(replace(TINY, memory_blocks="all", dropout=0.0, lag_bias=True))
    parameters = [p for n, p in network.named_parameters() if memory is not None or "lag" not in n]
    x = states(network, 2)

    def train() -> tuple[int, tuple[Tensor, ...]]:
        seen: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        held = None if memory is None else network.remember(attached=memory)
        loss, state = torch.zeros(()), x
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            for _ in range(4):
                y, held = network(state, None, held)
                loss = loss + y.square().mean()
                state = y[:, None] if memory else y.detach()[:, None]
        return sum(seen.values()), torch.autograd.grad(loss, parameters)

    whole, expected = train()
    network.checkpointing = True
    part, found = train()
    for a, b in zip(found, expected, strict=True):
        close(a, b)
    assert max(float(g.abs().max()) for g in expected) > 1e-3
    assert part < 0.5 * whole


@pytest.mark.parametrize("blocks", ["global", "all"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_half_precision_stays_close_and_bounded(blocks, precision):
    network = network_of(blocks, True).float()
    x = states(network, 2).float()
    with torch.no_grad():
        exact = list(rollout(network, x, 3, memory=network.remember()))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            steps = rollout(network, x, 3, memory=network.remember())
            found = list(steps)
    tensors = memory_tensors(steps.memory)
    kept = {t.dtype for n, t in tensors.items() if n[-1] in "kv"}
    assert kept == {getattr(torch, precision)}
    error = (found[0] - exact[0]).square().mean().sqrt()
    assert float(error) < 0.3 * float(exact[0].std())


@pytest.mark.parametrize("reach", [Reach(), Reach((2, 3), roll=True)], ids=["global", "windows"])
def test_a_block_that_remembers_compiles_whole(reach):
    """Without a break in the graph, while the memory fills and when it is full."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    block, where = Block(8, 2, 2.0, reach, None, lags=2).double(), TokenMap(4, 6, 3, periodic=True)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    memory = other = Memory(1)
    for _ in range(3):
        x = torch.randn(2, 24, 8, dtype=torch.float64)
        y, memory = block(x, where, memory)
        z, other = compiled(x, where, other)
        assert torch.equal(y, z)
    last = memory.parts or (memory,), other.parts or (other,)
    assert all(torch.equal(a.age, b.age) for a, b in zip(*last, strict=True))
    torch._dynamo.reset()


# ---- kept and resumed


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("blocks", ["global", "all"])
def test_a_rollout_is_stopped_kept_and_resumed(tmp_path, blocks, precision):
    """Five steps, a file, a fresh network and five more are ten, bit for bit."""

    def ahead(network, x, steps, memory):
        made = rollout(network, x, steps, memory=memory)
        half = torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16)
        with torch.no_grad(), half:
            return list(made), made

    network = network_of(blocks, True, rows=13).to(
        torch.float64 if precision == torch.float64 else torch.float32
    )
    x = states(network, 2).to(next(network.parameters()).dtype)
    expected, _ = ahead(network, x, 10, network.remember(2, alpha=0.7))
    first, made = ahead(network, x, 5, network.remember(2, alpha=0.7))
    assert made.step == 5
    path = tmp_path / "memory.safetensors"
    save_file({"window": made.window} | memory_tensors(made.memory), path)

    fresh = EMFormer(network.config, network.spec).to(x.dtype).eval()
    fresh.load_state_dict(network.state_dict())
    tensors = load_file(path)
    window = tensors.pop("window")
    then, made = ahead(fresh, window, 5, restore_memory(tensors))
    for a, b in zip([*first, *then], expected, strict=True):
        assert torch.equal(a, b)
    last = next(m for m in reversed(made.memory) if m is not None)
    assert last.alpha == 0.7
    assert int((last.parts or (last,))[0].age.max()) == 9


GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "memory.md"


@pytest.mark.parametrize("cache", [0, 3])
def test_the_guide_stops_and_resumes(tmp_path, monkeypatch, cache):
    """Its example as it stands: the states of forty steps, and no graph for a gradient."""
    monkeypatch.chdir(tmp_path)
    network = build(replace(TINY, cache=cache)).float()
    x = states(network, 2).float()
    example = GUIDE.read_text().split("## Stop and resume")[1].split("```python\n")[1]
    names = {"network": network, "x": x}
    exec(example.split("```")[0], names)
    with torch.no_grad():
        expected = list(rollout(network, x, 40, memory=network.remember()))
    assert len(names["states"]) == 40
    for a, b in zip(names["states"], expected, strict=True):
        assert not a.requires_grad
        assert torch.equal(a, b)
    assert (names["steps"].memory is None) == (cache == 0)


def test_an_empty_memory_is_kept_too():
    memory = restore_memory(memory_tensors([None, Memory(4, 0.1, attached=True), None]))
    assert memory[0] is None
    assert memory[2] is None
    assert (memory[1].length, memory[1].alpha, memory[1].attached) == (4, 0.1, False)
    assert memory[1].k is None
    assert restore_memory(memory_tensors([])) == []
    assert memory_tensors(None) == {}
    assert restore_memory({}) is None


def test_tensors_that_make_no_memory():
    _, memory = Memory(2).attend(*draw((1, 1, 2, 2), 0))
    tensors = memory_tensors([None, memory])
    for name in tensors:
        with pytest.raises(ValueError, match=r"all that memory_tensors returned|only what"):
            restore_memory({n: t for n, t in tensors.items() if n != name})
    with pytest.raises(ValueError, match="no memory is made of window: give only"):
        restore_memory(tensors | {"window": torch.zeros(1)})


# ---- settings


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cache": -1}, ValueError, "cache=-1: give the steps to remember, or 0"),
        ({"cache": 2.0}, TypeError, "cache=2.0 is a float"),
        ({"cache": True}, TypeError, "cache=True is a bool"),
        ({"alpha": 1.1}, ValueError, "alpha=1.1: give a weight from 0 to 1"),
        ({"alpha": float("nan")}, ValueError, "alpha=nan"),
        ({"memory_blocks": "local"}, ValueError, "memory_blocks='local': choose from global, all"),
        ({"cache": 0, "lag_bias": True}, ValueError, "lag_bias=True with cache=0"),
        ({"depth": 1}, ValueError, "cache=3 with depth=1 .* no block remembers, give depth=2"),
        ({"depth": 0}, ValueError, "give a depth of at least 1"),
    ],
)
def test_settings_that_make_no_sense(changes, error, message):
    with pytest.raises(error, match=message):
        replace(TINY, **changes)
    assert replace(TINY, depth=1, memory_blocks="all").cache == 3


def test_what_a_network_cannot_remember():
    network = build()
    assert [m and (m.length, m.alpha, m.attached) for m in network.remember()] == [
        None, (3, 0.9, False), None, (3, 0.9, False),
    ]  # fmt: skip
    memory = network.remember(7, alpha=0.2, attached=True)[1]
    assert (memory.length, memory.alpha, memory.attached) == (7, 0.2, True)
    with pytest.raises(ValueError, match="cache=-2"):
        network.remember(-2)
    with pytest.raises(TypeError, match="cache='5' is a str"):
        network.remember("5")
    with pytest.raises(ValueError, match="alpha=2"):
        network.remember(alpha=2)
    with pytest.raises(ValueError, match=r"a bias for 3 remembered steps .* give at most 3"):
        network_of("global", True).remember(4)
    shallow = build(replace(TINY, cache=0, depth=1))
    with pytest.raises(ValueError, match=r"cache=2: no block of this EMFormer remembers .*depth=1"):
        shallow.remember(2)


def test_a_checkpoint_from_before_memories_loads():
    model = xwx.load("emformer-era5-mini")
    assert (model.network.config.cache, model.network.config.lag_bias) == (0, False)
    assert model.network.remember() is None
    assert [m is not None for m in model.network.remember(5)] == [False, True, False, True]
