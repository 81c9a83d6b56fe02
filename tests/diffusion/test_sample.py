"""Sampling: DDIM against exact answers, random numbers of members, clean context."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from xwx.diffusion.noise import draw
from xwx.diffusion.sample import ddim, initial_noise, member_generators, sample
from xwx.diffusion.schedule import Rectified

SCHEDULE = Rectified()
SHAPE = (5, 2, 3, 4)  # T, C, H, W: nothing square


def wavy(z, t):
    """Denoise element by element: the same bits for a member whatever stands beside it."""
    return torch.sin(z) * (1.5 - t.reshape(*t.shape, 1, 1, 1))


def noise(members, seed=7, dtype=torch.float32):
    generators = member_generators(seed, members)
    return initial_noise(SHAPE, generators, SCHEDULE, dtype=dtype), generators


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initial_noise_is_the_members_numbers_at_the_schedules_scale(dtype):
    (first, generator), floor = noise([3], dtype=dtype), 0.001
    again = torch.randn(SHAPE, generator=member_generators(7, [3])[0], dtype=dtype)
    torch.testing.assert_close(first[0], again * math.sqrt(1 + floor**2), rtol=1e-6, atol=0)
    assert first.dtype == dtype
    assert not torch.equal(first[0], draw(SHAPE, generator, dtype=dtype)[0])  # moved on


def test_initial_noise_of_another_schedule():
    loud, usual = Rectified(0.5), Rectified()
    a = initial_noise((64,), member_generators(0, [0]), loud, dtype=torch.float64)
    b = initial_noise((64,), member_generators(0, [0]), usual, dtype=torch.float64)
    torch.testing.assert_close(a / b, torch.full_like(a, math.sqrt(1.25 / (1 + 1e-6))))


def test_a_member_draws_the_same_whoever_is_beside_it():
    together = draw((9,), member_generators(11, range(10)))
    for member in range(10):
        assert torch.equal(draw((9,), member_generators(11, [member]))[0], together[member])
    assert len({tuple(row.tolist()) for row in together}) == 10
    assert not torch.equal(draw((9,), member_generators(12, [0]))[0], together[0])
    # Neighbouring members of neighbouring seeds are no shifted copies of each other.
    other = draw((9,), member_generators(12, range(10)))
    assert not set(map(tuple, together.tolist())) & set(map(tuple, other.tolist()))


def test_no_two_of_many_members_share_what_the_generator_reads_of_its_seed():
    seeds = {g.initial_seed() % 2**32 for g in member_generators(5, range(20000))}
    assert len(seeds) == 20000


def test_the_seed_of_a_member_is_the_documented_function():
    start = int(np.random.SeedSequence(42).generate_state(1, np.uint64)[0])
    expected = (start + 3 * 0x9E3779B97F4A7C15) % 2**64
    (generator,) = member_generators(42, [3])
    assert generator.initial_seed() == expected


@pytest.mark.parametrize(("seed", "members"), [(-1, [0]), (0, [1, -2])])
def test_negative_seeds_and_members_are_refused(seed, members):
    with pytest.raises(ValueError, match="negative"):
        member_generators(seed, members)


def test_a_step_with_the_true_state_keeps_its_noise():
    """z = alpha x + sigma e goes to alpha' x + sigma' e, each frame between its own times."""
    g = torch.Generator().manual_seed(0)
    x, e = torch.randn(2, 3, 4, 5, 6, 7, generator=g, dtype=torch.float64)
    t = torch.tensor([[1.0, 0.6, 0.2], [0.3, 0.9, 0.5]], dtype=torch.float64)[..., None, None, None]
    s = torch.tensor([[0.7, 0.1, 0.0], [0.2, 0.3, 0.4]], dtype=torch.float64)[..., None, None, None]
    x, e = x[:2, :3], e[:2, :3]

    def at(u):
        return (1 - u + 1e-3 * u) * x + (u + 1e-3 - 1e-3 * u) * e

    out = ddim(at(t), x, t[..., 0, 0, 0], s[..., 0, 0, 0], SCHEDULE)
    torch.testing.assert_close(out, at(s), rtol=0, atol=1e-13)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_a_step_with_fresh_noise_by_hand(eta):
    z, x, xi, t, s = 0.8, -0.4, 1.7, 0.5, 0.25
    a_t, s_t, a_s, s_s = 0.5005, 0.5005, 0.75025, 0.25075
    tau = eta * (1 - (a_t * s_s / (a_s * s_t)) ** 2)
    e = (z - a_t * x) / s_t
    expected = a_s * x + s_s * (math.sqrt(1 - tau) * e + math.sqrt(tau) * xi)
    z, x, xi = (torch.full((1, 1, 1), v, dtype=torch.float64) for v in (z, x, xi))
    t, s = (torch.full((1, 1), v, dtype=torch.float64) for v in (t, s))
    out = ddim(z, x, t, s, SCHEDULE, eta=eta, noise=xi)
    assert float(out) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("with_context", [False, True])
def test_the_same_bits_in_any_batches(eta, with_context):
    def run(members, batch):
        z, generators = noise(members)
        context = None
        if with_context:
            context = torch.stack([torch.full((2, *SHAPE[1:]), float(m)) for m in members])
        return sample(
            wavy, z, schedule=SCHEDULE, steps=4, eta=eta, context=context, batch=batch,
            generators=generators,
        )  # fmt: skip

    whole = run(range(10), None)
    for batch in (1, 3, 5, 10, 64):
        assert torch.equal(run(range(10), batch), whole), batch
    assert torch.equal(run([6], None)[0], whole[6])
    assert torch.equal(run([9, 2], 1), whole[[9, 2]])
    assert len({float(member.sum()) for member in whole}) == 10


def test_fresh_noise_needs_no_more_than_it_says():
    """At eta 0 the generators are not moved; at eta > 0 by a window for each step but the last."""
    for eta, windows in ((0.0, 0), (0.5, 3)):
        z, generators = noise([4])
        sample(wavy, z, schedule=SCHEDULE, steps=4, eta=eta, generators=generators)
        (expected,) = member_generators(7, [4])
        draw(SHAPE, [expected] * (1 + windows))
        assert torch.equal(draw((8,), generators), draw((8,), [expected])), eta


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_context_is_clean_at_every_call_and_returned_bit_by_bit(dtype):
    calls = []

    def watched(z, t):
        calls.append((z.clone(), t.clone()))
        return wavy(z, t)

    z, _ = noise([0, 1], dtype=dtype)
    context = torch.randn(2, 2, *SHAPE[1:], generator=torch.Generator().manual_seed(1)).to(dtype)
    kept = context.clone()
    out = sample(watched, z, schedule=SCHEDULE, steps=6, context=context)
    assert torch.equal(out[:, :2], kept)
    assert torch.equal(context, kept)
    assert out.dtype == dtype
    assert len(calls) == 6
    for step, (seen, t) in enumerate(calls):
        assert torch.equal(seen[:, :2], kept)
        assert t.shape == (2, 5)
        assert bool((t[:, :2] == 0).all())
        torch.testing.assert_close(t[:, 2:], torch.full((2, 3), 1 - step / 6, dtype=dtype))
    assert not bool((out[:, 2:] == wavy(kept[:, :1], calls[-1][1][:, :1])).any())


def test_the_mean_of_the_last_step_is_returned():
    made = []

    def watched(z, t):
        made.append(wavy(z, t))
        return made[-1]

    z, _ = noise([0])
    assert torch.equal(sample(watched, z, schedule=SCHEDULE, steps=3), made[2])
    assert len(made) == 3


def test_one_step_is_one_call_at_pure_noise():
    z, _ = noise([0, 1])
    one = torch.ones(2, 5)
    assert torch.equal(sample(wavy, z, schedule=SCHEDULE, steps=1), wavy(z, one))


def affine_map(world, denoise, **options):
    """Return what sampling does, an affine map: its value at 0 (dim,) and its matrix."""
    dim = world.dim
    z = torch.cat([torch.zeros(1, dim), torch.eye(dim)]).to(torch.float64)
    out = sample(denoise, z.reshape(dim + 1, world.frames, world.size), **options)
    out = out.reshape(dim + 1, dim)
    return out[0], (out[1:] - out[0]).T


@pytest.mark.parametrize("guided", [False, True])
def test_the_covariance_of_gaussian_samples_converges_at_first_order(gaussian, guided):
    """Propagated exactly, not by drawing: 16 to 17 % too small at 15 steps, then as 1 / steps."""
    world = gaussian()
    target, centre = world.covariance, world.mean
    if guided:  # the prior conditioned on observations is a Gaussian of its own
        g = torch.Generator().manual_seed(3)
        matrix = torch.randn(5, world.dim, generator=g, dtype=torch.float64)
        precision = torch.linalg.inv(target) + matrix.T @ matrix / 0.1
        target = torch.linalg.inv(precision)
    values, vectors = torch.linalg.eigh(target)

    def denoise(z, t):
        alpha, sigma = SCHEDULE.alpha(t[0, 0]), SCHEDULE.sigma(t[0, 0])
        gain = alpha * values / (alpha**2 * values + sigma**2)
        shift = (z.reshape(len(z), -1) - alpha * centre) @ vectors
        return (centre + (shift * gain) @ vectors.T).reshape(z.shape)

    errors = {}
    for steps in (15, 64, 256, 1024, 4096):
        start, matrix = affine_map(world, denoise, schedule=SCHEDULE, steps=steps)
        error = matrix @ matrix.T * (1 + 1e-6) - target
        errors[steps] = float(error.norm() / target.norm())
        assert float((start - centre).abs().max()) <= 1.5e-3
    expected = {15: 0.164, 64: 0.0410, 256: 0.01043, 1024: 0.00262, 4096: 0.000657}
    for steps, error in errors.items():
        assert error == pytest.approx(expected[steps], rel=0.05), steps
    for coarse, fine in ((64, 256), (256, 1024), (1024, 4096)):
        assert errors[coarse] / errors[fine] == pytest.approx(4, rel=0.05)


def test_fresh_noise_forgets_the_mean_of_the_start(gaussian):
    """The mean of the samples at eta 1, from the recursion without its noise."""
    world = gaussian()
    z = torch.zeros(1, world.frames, world.size, dtype=torch.float64)
    times = SCHEDULE.times(64)
    for t, s in itertools.pairwise(times):
        t, s = (u.expand(1, world.frames) for u in (t, s))
        x = world.denoise(z, t)
        z = ddim(z, x, t, s, SCHEDULE, eta=1.0, noise=torch.zeros_like(z))
    assert float((x.reshape(-1) - world.mean).abs().max()) <= 2.2e-6


def test_what_does_not_fit_is_refused():
    z, generators = noise([0, 1])
    context = torch.zeros(2, 1, *SHAPE[1:])

    def refused(message, **options):
        with pytest.raises(ValueError, match=message):
            sample(wavy, z, schedule=SCHEDULE, **options)

    refused("eta is 1.5", eta=1.5)
    refused("eta is 0.5 and there are no generators for 2 members", eta=0.5)
    refused("there are 1 generators for 2", eta=0.5, generators=generators[:1])
    refused("batch is 0", batch=0)
    refused("steps is 0", steps=0)
    refused("fewer than 5 clean frames of 2 members", context=context[:1])
    refused("fewer than 5 clean frames", context=context.expand(2, 5, *SHAPE[1:]))
    refused("of the frames' shape", context=context[..., :1])
    refused("float64", context=context.double())
