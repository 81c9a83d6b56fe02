"""EMFormer for images: edges, heads, gradients and counts, each against an exact answer."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from math import ceil, prod

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from torch import Tensor

from xwx.models.layers.maps import TokenMap
from xwx.models.vision import PRESETS, Classifier, Segmenter, VisionBackbone, VisionConfig
from xwx.models.vision.__main__ import cost, table
from xwx.models.vision.backbone import DropPath, Growth
from xwx.models.vision.heads import Pyramid

TINY = VisionConfig(
    channels=2,
    dims=(8, 12, 16),
    heads=(2, 3, 2),
    windowed=(1, 2, 1),
    everywhere=(0, 1, 1),
    ratio=2.0,
    windows=((2, 4), (4, 2)),
    drop_path=0.0,
)
#: One stage that looks no further than its windows.
NEAR = replace(TINY, dims=(8,), heads=(2,), windowed=(1,), everywhere=(0,))


def stir(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Return the network in double precision, with no parameter at its initial value."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.double().parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def images(rows: int, columns: int, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((batch, 2, rows, columns), generator=generator, dtype=torch.float64)


def classifier(config: VisionConfig = TINY) -> torch.nn.Module:
    return stir(Classifier(config, 5))


def segmenter(config: VisionConfig = TINY, **changes) -> torch.nn.Module:
    return stir(Segmenter(config, 3, **{"width": 6, "pools": (1, 2), **changes}))


HEADS = pytest.mark.parametrize("build", [classifier, segmenter])


# ---- sizes


@pytest.mark.parametrize("size", [(64, 64), (65, 33), (20, 70), (31, 7), (1, 1), (5, 96)])
@pytest.mark.parametrize("changes", [{}, {"cross": False, "kernels": ()}])
def test_images_of_any_size_make_maps_and_logits(size, changes):
    config = replace(TINY, **changes)
    x = images(*size, batch=2)
    maps = stir(VisionBackbone(config))(x)
    expected = [
        (2, dim, ceil(size[0] / 2 ** (n + 2)), ceil(size[1] / 2 ** (n + 2)))
        for n, dim in enumerate(config.dims)
    ]
    assert [tuple(m.shape) for m in maps] == expected
    assert classifier(config)(x).shape == (2, 5)
    assert segmenter(config)(x).shape == (2, 3, *size)


def test_the_published_sizes_have_stages_at_56_28_14_and_7():
    assert {config.dims for config in PRESETS.values()} == {(64, 128, 256, 512)}
    with torch.device("meta"):
        maps = VisionBackbone(PRESETS["emformer_vision_t"])(torch.empty(2, 3, 224, 224))
    shapes = [(2, 64, 56, 56), (2, 128, 28, 28), (2, 256, 14, 14), (2, 512, 7, 7)]
    assert [tuple(m.shape) for m in maps] == shapes


@pytest.mark.parametrize("size", [(6, 5), (5, 6), (5, 5), (1, 1)])
def test_an_odd_edge_is_merged_with_zeros(size):
    """Without attention prune is linear: what lacks a neighbour keeps half of its matrices."""
    config = replace(TINY, cross=False)
    growth = stir(Growth(8, 12, 3, config))
    x = torch.randn(2, prod(size), 8, dtype=torch.float64)
    y, where = growth(x, TokenMap(*size, valid=size[0], periodic=False))
    rows, columns = -(-size[0] // 2), -(-size[1] // 2)
    assert (where.height, where.width, where.valid) == (rows, columns, rows)

    w = {name: p.detach().numpy() for name, p in growth.named_parameters()}
    f = x.numpy().reshape(2, *size, 8)
    f = (f - f.mean(-1, keepdims=True)) / np.sqrt(f.var(-1, keepdims=True) + 1e-5)
    f = (f * w["norm.weight"] + w["norm.bias"]) @ w["widen.weight"].T + w["widen.bias"]
    lon, lat = w["prune.0.merge.weight"], w["prune.1.merge.weight"]
    for i in range(rows):
        for j in range(columns):
            expected = w["prune.1.merge.bias"]
            for down in range(min(2, size[0] - 2 * i)):
                row = w["prune.0.merge.bias"]
                for across in range(min(2, size[1] - 2 * j)):
                    half = lon[:, 12 * across : 12 * (across + 1)]
                    row = row + f[:, 2 * i + down, 2 * j + across] @ half.T
                expected = expected + row @ lat[:, 12 * down : 12 * (down + 1)].T
            np.testing.assert_allclose(
                y.detach().numpy()[:, i * columns + j], expected, rtol=0, atol=1e-12
            )


def test_prune_looks_no_further_than_four_tokens():
    growth = stir(Growth(8, 12, 3, TINY))
    x = torch.randn(1, 7, 5, 8, dtype=torch.float64)

    def grown(part: Tensor) -> Tensor:
        rows, columns = part.shape[1:3]
        y, where = growth(part.flatten(1, 2), TokenMap(rows, columns, valid=rows, periodic=False))
        return y.view(1, *where.size, 12)

    whole = grown(x)
    torch.testing.assert_close(grown(x[:, :6, :4]), whole[:, :3, :2], rtol=0, atol=1e-13)
    torch.testing.assert_close(grown(x[:, 6:, 4:]), whole[:, 3:, 2:], rtol=0, atol=1e-13)


# ---- where things are


def test_the_stem_moves_with_the_image():
    stem = stir(VisionBackbone(TINY)).stem
    x = images(40, 48)
    before, after = stem(x), stem(x.roll((8, 4), dims=(2, 3)))
    inside = after[..., 3:, 2:]
    torch.testing.assert_close(inside, before[..., 1:-2, 1:-1], rtol=0, atol=1e-13)
    assert (inside - before[..., 3:, 2:]).abs().max() > 0.1


def test_an_image_does_not_close():
    """The left edge is no neighbour of the right one, nor the upper of the lower."""
    network = stir(VisionBackbone(NEAR))
    x = images(48, 64).requires_grad_()
    (features,) = network(x)
    for corner, far in (((0, 0), (-8, -8)), ((-1, -1), (8, 8))):
        (slope,) = torch.autograd.grad(features[0, :, *corner].sum(), x, retain_graph=True)
        assert slope[0].abs().sum() > 0
        rows = slice(far[0], None) if far[0] < 0 else slice(far[0])
        columns = slice(far[1], None) if far[1] < 0 else slice(far[1])
        assert not slope[0, :, rows].any()
        assert not slope[0, :, :, columns].any()


def test_blocks_attend_in_windows_first_and_then_everywhere():
    network = VisionBackbone(TINY)
    windows = [[block.reach.window for block in stage] for stage in network.stages]
    assert windows == [[(2, 4)], [(2, 4), (4, 2), None], [(2, 4), None]]
    assert not any(block.reach.roll for stage in network.stages for block in stage)

    # A map of 12 x 12 tokens: one windowed block leaves a corner alone, one more block does not.
    x = images(48, 48).requires_grad_()
    for everywhere, reached in ((0, False), (1, True)):
        network = stir(VisionBackbone(replace(NEAR, everywhere=(everywhere,))))
        (slope,) = torch.autograd.grad(network(x)[0][0, :, 0, 0].sum(), x)
        assert bool(slope[0, :, -4:, -4:].any()) == reached


def test_every_kernel_of_the_multi_convs_sees_its_neighbours():
    """With windows of one token, attention passes values on, and only convolutions look around."""
    config = replace(NEAR, windows=((1, 1),))
    reach = {}
    for kernels in ((), (1,), (3,), (1, 3, 5)):
        network = stir(VisionBackbone(replace(config, kernels=kernels)))
        tokens = torch.zeros(1, 8, 9, 9, dtype=torch.float64).normal_().requires_grad_()
        network.stem = torch.nn.Identity()
        network.config = replace(config, channels=8)
        (slope,) = torch.autograd.grad(network(tokens)[0][0, :, 4, 4].sum(), tokens)
        reach[kernels] = int((slope[0].abs().sum(0) > 0).sum())
    assert reach == {(): 1, (1,): 1, (3,): 9, (1, 3, 5): 25}


# ---- heads


def test_the_classifier_is_linear_in_the_mean_of_normalised_tokens():
    network = classifier()
    x = images(45, 70, batch=3)
    last = network.backbone(x)[-1].detach().numpy()
    tokens = last.reshape(3, 16, -1).swapaxes(1, 2)
    assert tokens.shape[1] == 3 * 5
    centred = tokens - tokens.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    normal = normal * network.norm.weight.detach().numpy() + network.norm.bias.detach().numpy()
    weight, bias = (p.detach().numpy() for p in network.linear.parameters())
    expected = np.einsum("bnd,kd->bk", normal, weight) / 15 + bias
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_far_from_edges_constant_maps_are_fused_as_vectors():
    """On maps without structure a convolution is the sum of its taps, and a mean the value."""
    pyramid = stir(Pyramid((3, 4, 5), 6, (1, 2)), seed=3)
    values = [torch.randn(dim, dtype=torch.float64) for dim in (3, 4, 5)]
    sides = (32, 16, 8)
    maps = [v.view(1, -1, 1, 1).expand(1, -1, n, n) for v, n in zip(values, sides, strict=True)]
    w = {name: p.detach().numpy() for name, p in pyramid.named_parameters()}

    def norm(v, name):
        v = (v - v.mean()) / np.sqrt(v.var() + 1e-5)
        return v * w[f"{name}.weight"] + w[f"{name}.bias"]

    def conv(v, name):
        v = norm(w[f"{name}.0.weight"].sum((2, 3)) @ v, f"{name}.1")
        return v * ndtr(v)

    fine, middle, top = (norm(v.numpy(), f"norms.{n}") for n, v in enumerate(values))
    down = conv(np.concatenate([top, conv(top, "pooled.0"), conv(top, "pooled.1")]), "bottleneck")
    next_ = conv(middle, "laterals.1") + down
    last = conv(fine, "laterals.0") + next_
    parts = [conv(last, "smooth.0"), conv(next_, "smooth.1"), down]
    expected = conv(np.concatenate(parts), "fuse")
    found = pyramid(maps).detach().numpy()
    assert found.shape == (1, 6, 32, 32)
    np.testing.assert_allclose(found[0, :, 16, 16], expected, rtol=0, atol=1e-12)
    assert np.abs(found[0, :, 0, 0] - expected).max() > 1e-3


@pytest.mark.parametrize(("pools", "reached"), [((), False), ((1, 2), True)])
def test_logits_lie_where_their_pixels_are_and_pooling_sees_the_whole(pools, reached):
    network = segmenter(NEAR, pools=pools)
    x = images(40, 120)
    changed = x.clone()
    changed[:, :, 8:16, 4:12] += 1.0
    difference = (network(changed) - network(x)).abs().amax((0, 1))
    assert difference[8:16, 4:12].min() > 1e-6
    assert bool(difference[:, 80:].max() > 0) == reached
    x.requires_grad_()
    (slope,) = torch.autograd.grad(network(x)[..., -1, -1].sum(), x)
    far = slope[..., :40].abs()
    assert bool(far.min() > 0) == bool(far.max() > 0) == reached  # a mean takes all, not some


def test_logits_between_are_bilinear():
    """The centre of pixel 6 lies at (6 + 1/2) / 4 - 1/2 = 1.125 of the coarse rows."""
    network = segmenter(NEAR)
    x = images(16, 24)
    coarse = network.classify(network.pyramid(network.backbone(x)))
    assert coarse.shape == (1, 3, 4, 6)
    logits = network(x)
    torch.testing.assert_close(logits[..., 0, 0], coarse[..., 0, 0], rtol=0, atol=1e-13)
    row = 0.875 * coarse[..., 1, :] + 0.125 * coarse[..., 2, :]
    expected = 0.125 * row[..., 1] + 0.875 * row[..., 2]  # and that of column 9 at 1.875
    torch.testing.assert_close(logits[..., 6, 9], expected, rtol=0, atol=1e-13)


@HEADS
def test_samples_of_a_batch_do_not_meet(build):
    network = build()
    x = images(30, 41, batch=3)
    together = network(x)
    alone = torch.cat([network(one[None]) for one in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    assert (together[0] - together[1]).abs().max() > 1e-3


# ---- gradients


@HEADS
def test_every_parameter_has_a_gradient(build):
    network = build()
    out = network(images(48, 34, batch=2))
    (out * torch.randn_like(out)).sum().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@HEADS
def test_gradients_are_those_of_finite_differences(build):
    network = build()
    x = images(21, 34, batch=2).requires_grad_()
    out = network(x)
    weights = torch.randn_like(out)
    inputs = [x, *network.parameters()]
    grads = torch.autograd.grad((out * weights).sum(), inputs)
    for seed in range(3):
        torch.manual_seed(seed)
        steps = [torch.randn_like(p) for p in inputs]
        sides = []
        for sign in (1e-6, -2e-6):
            with torch.no_grad():
                for p, step in zip(inputs, steps, strict=True):
                    p.add_(step, alpha=sign)
                sides.append((network(x) * weights).sum())
        with torch.no_grad():
            for p, step in zip(inputs, steps, strict=True):
                p.add_(step, alpha=1e-6)
        slope = sum((g * step).sum() for g, step in zip(grads, steps, strict=True))
        torch.testing.assert_close(slope, (sides[0] - sides[1]) / 2e-6, rtol=2e-6, atol=0)


# ---- stochastic depth


def test_drop_path_takes_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.3)
    x = torch.ones(20_000, 3, 2, dtype=torch.float64)
    y = drop.train()(x)
    assert torch.equal(y.amin((1, 2)), y.amax((1, 2)))
    kept = y[:, 0, 0] != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.7, rtol=1e-15, atol=0)
    spread = (0.3 * 0.7 / 20_000) ** 0.5
    assert abs(kept.double().mean().item() - 0.7) < 4 * spread
    assert drop.eval()(x) is x


def test_training_leaves_branches_out_by_sample():
    """A block has two branches: in training every sample is one of four sums of them."""
    network = stir(VisionBackbone(replace(NEAR, windowed=(2,), drop_path=0.4)))
    first, last = network.stages[0]
    assert (first.dropout.p, last.dropout.p) == (0.0, 0.4)
    x = images(8, 12).expand(40, -1, -1, -1)
    torch.manual_seed(1)
    found = network.train()(x)[0]

    network.eval()
    whole, without = stir(VisionBackbone(NEAR)), {}
    whole.load_state_dict({k: v for k, v in network.state_dict().items() if "0.1." not in k})
    before = whole(x[:1])[0]
    for attention in (0.0, 1 / 0.6):
        for mlp in (0.0, 1 / 0.6):
            scaled = stir(VisionBackbone(replace(NEAR, windowed=(2,))))
            scaled.load_state_dict(network.state_dict())
            block = scaled.stages[0][1]
            with torch.no_grad():
                for layer, factor in ((block.proj, attention), (block.mlp[2], mlp)):
                    layer.weight.mul_(factor)
                    layer.bias.mul_(factor)
            without[attention > 0, mlp > 0] = scaled(x[:1])[0]
    torch.testing.assert_close(without[False, False], before, rtol=0, atol=1e-13)
    seen = set()
    for sample in found:
        near = [k for k, v in without.items() if torch.allclose(sample, v[0], rtol=0, atol=1e-12)]
        assert len(near) == 1
        seen.update(near)
    assert seen == set(without)


def test_stochastic_depth_grows_with_depth_over_all_stages():
    network = VisionBackbone(replace(TINY, drop_path=0.5))
    rates = [block.dropout.p for stage in network.stages for block in stage]
    np.testing.assert_allclose(rates, np.arange(6) * 0.1, rtol=1e-15)
    assert [block.dropout.p for block in VisionBackbone(NEAR).stages[0]] == [0.0]


def test_evaluation_and_training_without_drop_path_agree():
    network = classifier(replace(TINY, drop_path=0.5))
    x = images(40, 40, batch=2)
    expected = network(x)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
    torch.manual_seed(0)
    assert (network.train()(x) - expected).abs().max() > 1e-3
    calm = classifier()
    calm.load_state_dict(network.state_dict())
    torch.testing.assert_close(calm.train()(x), expected, rtol=0, atol=0)


# ---- counts


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def of_block(dim: int, ratio: int) -> int:
    attention = linear(dim, 3 * dim) + linear(dim, dim) + 3 * dim * (1 + 9 + 25)
    return attention + linear(dim, ratio * dim) + linear(ratio * dim, dim) + 2 * 2 * dim


def of_prune(dim: int, ratio: int) -> int:
    attend = 2 * 2 * dim + 2 * linear(dim, dim) + linear(dim, 2 * dim)
    mlp = linear(dim, ratio * dim) + linear(ratio * dim, dim)
    return linear(2 * dim, dim) + attend + 2 * dim + mlp


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_counted_by_stage(name):
    blocks = {"t": (2, 2, 4, 1), "s": (2, 4, 10, 4), "b": (6, 6, 12, 12)}[name[-1]]
    dims = (64, 128, 256, 512)
    with torch.device("meta"):
        network = Classifier(PRESETS[name])

    def count(part: torch.nn.Module) -> int:
        return sum(p.numel() for p in part.parameters())

    backbone = network.backbone
    stem = (27 + 1) * 32 + 2 * 32 + (32 * 9 + 1) * 64 + 2 * 64
    assert count(backbone.stem) == stem
    stages = [n * of_block(dim, 4) for n, dim in zip(blocks, dims, strict=True)]
    assert [count(stage) for stage in backbone.stages] == stages
    growths = [2 * dim + linear(dim, 2 * dim) + 2 * of_prune(2 * dim, 4) for dim in dims[:-1]]
    assert [count(growth) for growth in backbone.growths] == growths
    total = stem + sum(stages) + sum(growths) + 2 * 512 + linear(512, 1000)
    assert count(network) == total


def test_multiply_adds_are_those_of_the_formulas():
    """The small preset on 150 x 150 pixels: maps of 38, 19, 10 and 5 tokens a side."""
    config, total = PRESETS["emformer_vision_s"], 75**2 * 27 * 32 + 38**2 * 32 * 9 * 64
    sides = (38, 19, 10, 5)
    for n, (dim, side) in enumerate(zip(config.dims, sides, strict=True)):
        blocks = config.windowed[n] + config.everywhere[n]
        total += blocks * side**2 * (12 * dim**2 + 25 * 3 * dim)
        total += config.everywhere[n] * 2 * side**4 * dim
        for i in range(config.windowed[n]):
            rows, columns = (min(extent, side) for extent in config.windows[i % 3])
            tiles = ceil(side / rows) * ceil(side / columns)
            total += tiles * 2 * (rows * columns) ** 2 * dim
        if n:
            before = sides[n - 1]
            total += before**2 * dim // 2 * dim
            for merged in ((before + before % 2) ** 2 // 2, (before + before % 2) ** 2 // 4):
                # two tokens in; query, out, keys and values of both; two keys; the MLP
                total += merged * (2 * dim**2 + 2 * dim**2 + 4 * dim**2 + 4 * dim + 8 * dim**2)
    total += 512 * 10
    parameters, products = cost(config, side=150, classes=10)
    assert products == total
    assert parameters == cost(config, side=32, classes=10)[0]


def test_the_table_sets_counts_beside_reports():
    rows = [line.split() for line in table().splitlines()[2:]]
    assert [(row[0], float(row[2]), float(row[4])) for row in rows] == [
        ("emformer_vision_t", 28.7, 5.1),
        ("emformer_vision_s", 45.5, 7.4),
        ("emformer_vision_b", 80.6, 12.3),
    ]
    parameters, products = cost(PRESETS["emformer_vision_t"])
    assert rows[0][1::2] == [f"{parameters / 1e6:.2f}", f"{products / 1e9:.2f}"]
    assert rows[0][1::2] != rows[1][1::2] != rows[2][1::2]


# ---- settings


def test_a_configuration_survives_json():
    for config in (*PRESETS.values(), TINY):
        assert VisionConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert VisionConfig.preset("emformer_vision_b", ratio=3.0).windowed == (6, 6, 6, 6)
    assert PRESETS["emformer_vision_b"].depth == 36


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": (2, 3, 3)}, ["dims[2]=16", "heads[2]=3", "choose a multiple"]),
        ({"heads": (2, 3)}, ["heads=(2, 3)", "one value a stage"]),
        ({"dims": (), "heads": (), "windowed": (), "everywhere": ()}, ["dims=()", "at least one"]),
        ({"dims": (8, 0, 16)}, ["dims=(8, 0, 16)", "at least 1"]),
        ({"windowed": (1, -1, 1)}, ["windowed=(1, -1, 1)", "at least 0"]),
        ({"kernels": (1, 4)}, ["kernels=(1, 4)", "odd"]),
        ({"windows": ()}, ["windows=()", "rows and columns"]),
        ({"windows": ((0, 4),)}, ["windows=((0, 4),)", "rows and columns"]),
        ({"drop_path": 1.0}, ["drop_path=1.0", "[0, 1)"]),
        ({"ratio": 0.0}, ["ratio=0.0", "positive"]),
        ({"channels": 0}, ["channels=0", "at least 1"]),
    ],
)
def test_bad_settings_are_named_with_a_remedy(changes, words):
    with pytest.raises(ValueError) as error:
        replace(TINY, **changes)
    for word in words:
        assert word in str(error.value)


def test_bad_heads_and_presets_are_named_with_a_remedy():
    with pytest.raises(ValueError, match=r"emformer_vision_x.*emformer_vision_t"):
        VisionConfig.preset("emformer_vision_x")
    with pytest.raises(ValueError, match="classes=0: give the number"):
        Classifier(TINY, 0)
    with pytest.raises(ValueError, match="classes=-1: give the number"):
        Segmenter(TINY, -1)
    with pytest.raises(ValueError, match="width=1: at least 2"):
        Segmenter(TINY, 2, width=1)
    with pytest.raises(ValueError, match=r"pools=\(1, 0\): give cells"):
        Segmenter(TINY, 2, pools=(1, 0))


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 3, 8, 8), (1, 8, 8, 2), (1, 2, 0, 8)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError) as error:
        classifier()(torch.zeros(shape, dtype=torch.float64))
    assert str(tuple(shape)) in str(error.value)
    assert "(B, 2, H, W)" in str(error.value)


def test_bytes_are_refused():
    with pytest.raises(TypeError, match=r"torch.uint8.*images.float\(\) / 255"):
        classifier()(torch.zeros(1, 2, 8, 8, dtype=torch.uint8))
