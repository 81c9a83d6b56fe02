"""Guidance against exact posteriors of a Gaussian world, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from xwx.diffusion.guidance import Guidance
from xwx.diffusion.linearise import Sight, Tweedie, isotropic
from xwx.diffusion.noise import initial_noise, member_generators
from xwx.diffusion.protocols import Observation, Operator
from xwx.diffusion.sample import sample
from xwx.diffusion.schedule import Rectified

SCHEDULE = Rectified()
#: Each frame has a time of its own, each member others.
TIMES = torch.tensor([[0.9, 0.5, 0.2, 0.05], [0.1, 0.8, 0.4, 1.0]], dtype=torch.float64)


@dataclass(frozen=True)
class Matrix:
    """Linear: the states, flattened, times a matrix (M, T n), plus a constant."""

    matrix: Tensor
    shift: float = 0.0
    linear = True

    @property
    def size(self):
        return len(self.matrix)

    def __call__(self, x):
        return x.flatten(1) @ self.matrix.T.to(x.dtype) + self.shift


@dataclass(frozen=True)
class Curved:
    """Not linear: a sum of squares and a mean of products, as of moisture and mass."""

    size = 2
    linear = False

    def __call__(self, x):
        flat = x.flatten(1)
        squares = (flat**2).mean(1)
        columns = ((1 - 0.01 * flat[:, ::2]) * (1000 + 3 * flat[:, 1::2])).mean(1)
        return torch.stack([squares, columns], dim=1)


def numbers(*shape, seed=1, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def everything_free(z):
    return torch.ones(z.shape[:2], dtype=torch.bool)


def case(world, rows=5, members=2):
    """Return noised frames, an observation of errors of different size, and its parts."""
    z = numbers(members, world.frames, world.size)
    matrix = numbers(rows, world.dim, seed=2)
    value, variance = numbers(members, rows, seed=3), torch.linspace(0.05, 0.8, rows).double()
    return z, Observation(Matrix(matrix), value, variance), (matrix, value, variance)


def exact(world, z, t, matrix, value, variance):
    """Return E[x | z, y] of every member."""
    means = [
        world.posterior(z[b].flatten(), t[b], matrix, value[b], variance)[0] for b in range(len(z))
    ]
    return torch.stack(means).reshape(z.shape)


# --- Tweedie's covariance -----------------------------------------------------------------


def test_operators_follow_the_protocol():
    assert isinstance(Curved(), Operator)


def test_the_covariance_is_the_posteriors_with_a_time_for_each_frame(gaussian):
    world = gaussian()
    z = numbers(2, world.frames, world.size)
    tweedie = Tweedie(world.denoise, z, TIMES, SCHEDULE, everything_free(z))
    columns = torch.stack(
        [tweedie.spread(e.reshape(1, 4, 3).expand_as(z)).flatten(1) for e in torch.eye(12).double()]
    )
    for member in range(2):
        mean, covariance = world.posterior(z[member].flatten(), TIMES[member])
        torch.testing.assert_close(tweedie.mean[member].flatten(), mean, rtol=0, atol=1e-11)
        torch.testing.assert_close(columns[:, member].T, covariance, rtol=0, atol=1e-12)


def test_gamma_before_the_jacobian_is_another_matrix_as_soon_as_frames_differ(gaussian):
    """J' Gamma agrees where all times are one, and is wrong by O(1) where they are not."""
    world = gaussian()
    z = numbers(1, world.frames, world.size)
    for t, wrong in ((torch.full((1, 4), 0.4).double(), False), (TIMES[:1], True)):
        _, covariance = world.posterior(z[0].flatten(), t[0])
        jacobian = torch.autograd.functional.jacobian(
            lambda flat, t=t: world.denoise(flat.reshape(1, 4, 3), t).flatten(), z.flatten()
        )
        alpha, sigma = world.levels(t[0])
        before = jacobian.T * (sigma**2 / alpha)
        error = (before - covariance).norm() / covariance.norm()
        assert (error > 0.5) == wrong
        assert wrong or error < 1e-12


def test_clean_frames_have_neither_rows_nor_columns(gaussian):
    world = gaussian()
    z, t = numbers(2, 4, 3), TIMES.clone()
    free = torch.tensor([[False, True, True, True], [False, False, True, True]])
    t[~free] = 0
    tweedie = Tweedie(world.denoise, z, t, SCHEDULE, free)
    assert torch.equal(tweedie.mean[~free], z[~free])
    v = numbers(2, 4, 3, seed=5)
    image = tweedie.spread(v)
    assert bool((image[~free] == 0).all())
    assert bool((image[free] != 0).all())
    changed = v.clone()
    changed[~free] = 100.0
    assert torch.equal(tweedie.spread(changed), image)
    assert bool((isotropic(z, t, SCHEDULE, free)[~free] == 0).all())


# --- The guided mean ----------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["gmres", "cg"])
@pytest.mark.parametrize("safeguard", [True, False])
def test_the_guided_mean_is_the_posterior_mean(gaussian, solver, safeguard):
    world = gaussian()
    z, observation, parts = case(world)
    guidance = Guidance(observation, solver=solver, iterations=5, safeguard=safeguard)
    got = guidance.guide(world.denoise, z, TIMES, SCHEDULE, everything_free(z))
    torch.testing.assert_close(got.mean, exact(world, z, TIMES, *parts), rtol=0, atol=1e-10)
    assert not bool(got.fallen_back.any())
    fewer = Guidance(observation, solver=solver, iterations=4)(
        world.denoise, z, TIMES, SCHEDULE, everything_free(z)
    )
    assert float((fewer - got.mean).abs().max()) > 1e-6  # the last iteration is needed


def test_a_shifted_operator_and_one_value_for_all_members(gaussian):
    world = gaussian()
    z, _, (matrix, value, variance) = case(world)
    shifted = Observation(Matrix(matrix, shift=2.5), value[0] + 2.5, variance)
    got = Guidance(shifted, iterations=5)(world.denoise, z, TIMES, SCHEDULE, everything_free(z))
    expected = exact(world, z, TIMES, matrix, value[:1].expand(2, -1), variance)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_guidance_given_clean_frames_is_the_posterior_given_them(gaussian):
    """The rest of the window given its clean frames, by blocks: they are known, not noised."""
    world = gaussian()
    z, observation, (matrix, value, variance) = case(world, members=1)
    known, rest = slice(0, 3), slice(3, 12)
    gain = world.covariance[rest, known] @ torch.linalg.inv(world.covariance[known, known])
    conditional = world.covariance[rest, rest] - gain @ world.covariance[known, rest]
    alpha, sigma = (level[rest] for level in world.levels(TIMES[0]))

    def denoise(noised, t):  # exact where the first frame is clean
        flat = noised.reshape(-1, 12)
        centre = world.mean[rest] + (flat[:, known] - world.mean[known]) @ gain.T
        noisy = alpha[:, None] * conditional * alpha + torch.diag(sigma**2)
        moved = torch.linalg.solve(noisy, (flat[:, rest] - alpha * centre).mT).mT
        x = centre + (alpha * moved) @ conditional
        return torch.cat([flat[:, known] * 7 - 3, x], 1).reshape(noised.shape)

    t = TIMES[:1].clone()
    t[0, 0] = 0
    free = t > 0
    got = Guidance(observation, iterations=5)(denoise, z, t, SCHEDULE, free)
    x0, zr = z.flatten()[known], z.flatten()[rest]
    inverse, h = torch.linalg.inv(conditional), matrix[:, rest]
    precision = inverse + torch.diag((alpha / sigma) ** 2) + h.T @ (h / variance[:, None])
    right = inverse @ (world.mean[rest] + gain @ (x0 - world.mean[known])) + alpha / sigma**2 * zr
    right = right + h.T @ ((value[0] - matrix[:, known] @ x0) / variance)
    torch.testing.assert_close(
        got.flatten()[rest], torch.linalg.solve(precision, right), rtol=0, atol=1e-10
    )
    assert torch.equal(got[:, 0], z[:, 0])


def test_no_trust_in_the_observations_leaves_the_prior_and_full_trust_meets_them(gaussian):
    world = gaussian()
    z, _, _ = case(world)
    matrix, value = numbers(12, 12, seed=6) + 3 * torch.eye(12), numbers(2, 12, seed=7)
    free = everything_free(z)
    vague = Guidance(Observation(Matrix(matrix), value, 1e14), iterations=12)
    torch.testing.assert_close(
        vague(world.denoise, z, TIMES, SCHEDULE, free),
        world.denoise(z, TIMES), rtol=0, atol=1e-8,
    )  # fmt: skip
    sure = Guidance(Observation(Matrix(matrix), value, 1e-14), iterations=12)
    met = sure(world.denoise, z, TIMES, SCHEDULE, free)
    torch.testing.assert_close(met.flatten(1) @ matrix.T, value, rtol=0, atol=1e-8)


def test_every_value_observed_without_error_is_returned(gaussian):
    world, truth = gaussian(), numbers(1, 12, seed=9)
    observation = Observation(Matrix(torch.eye(12).double()), truth[0], 1e-16)
    z = initial_noise((4, 3), member_generators(0, range(2)), SCHEDULE, dtype=torch.float64)
    guidance = Guidance(observation, iterations=12)
    out = sample(world.denoise, z, schedule=SCHEDULE, steps=5, guidance=guidance)
    torch.testing.assert_close(out.flatten(1), truth.expand(2, -1), rtol=0, atol=1e-6)


def test_nothing_observed_is_the_prior_bit_for_bit(gaussian):
    world = gaussian()
    observation = Observation(Matrix(torch.zeros(0, 12).double()), torch.zeros(0).double(), 1.0)
    z = initial_noise((4, 3), member_generators(0, range(2)), SCHEDULE, dtype=torch.float64)
    options = {"schedule": SCHEDULE, "steps": 4, "context": z[:, :1] / 3}
    free = sample(world.denoise, z, **options)
    guidance = Guidance(observation)
    assert torch.equal(sample(world.denoise, z, guidance=guidance, **options), free)
    assert guidance.residual(free).shape == (2, 0)


def test_guided_samples_have_the_posteriors_mean_and_covariance(gaussian):
    """The whole of it, propagated exactly: an affine map of the initial noise."""
    world = gaussian()
    _, _, (matrix, value, variance) = case(world, members=1)
    inverse = torch.linalg.inv(world.covariance)
    covariance = torch.linalg.inv(inverse + matrix.T @ (matrix / variance[:, None]))
    centre = covariance @ (inverse @ world.mean + matrix.T @ (value[0] / variance))
    guidance = Guidance(Observation(Matrix(matrix), value[0], variance), iterations=5)
    z = torch.cat([torch.zeros(1, 12), torch.eye(12)]).double().reshape(13, 4, 3)
    errors = {}
    for steps in (15, 64):
        out = sample(world.denoise, z, schedule=SCHEDULE, steps=steps, guidance=guidance)
        out = out.flatten(1)
        affine = (out[1:] - out[0]).T
        errors[steps] = float((affine @ affine.T - covariance).norm() / covariance.norm())
        assert float((out[0] - centre).abs().max()) <= 1.5e-3
    assert errors[15] == pytest.approx(0.165, rel=0.05)
    assert errors[64] == pytest.approx(0.0412, rel=0.05)


# --- Other modes --------------------------------------------------------------------------


def dense(world, z, t, observation):
    """Return whitened H, V, the residual and the mean of one member, as matrices."""
    mean, covariance = world.posterior(z.flatten(), t)
    scale = observation.variances.rsqrt()
    matrix = scale[:, None] * observation.operator.matrix
    return matrix, covariance, scale * (observation.value[0] - mean @ observation.operator.matrix.T)


@pytest.mark.parametrize("mode", ["pigdm", "tmpd", "dps"])
def test_the_cheap_modes_by_their_formulas(gaussian, mode):
    world = gaussian()
    z, observation, _ = case(world, members=1)
    options = {"zeta": 0.3, "safeguard": False}
    got = Guidance(observation, mode=mode, **options)(
        world.denoise, z, TIMES[:1], SCHEDULE, everything_free(z)
    )
    matrix, covariance, residual = dense(world, z, TIMES[0], observation)
    eye = torch.eye(5).double()
    alpha, sigma = world.levels(TIMES[0])
    like = matrix @ torch.diag(sigma**2 / (alpha**2 + sigma**2)) @ matrix.T
    if mode == "pigdm":
        u = torch.linalg.solve(eye + like, residual)
    elif mode == "tmpd":
        sums = (matrix @ covariance @ matrix.T).sum(1)
        assert bool((sums < 0).any())  # so that the floor is tried
        u = residual / (1 + sums.clamp(min=0))
    else:
        u = 0.3 * residual
    mean, _ = world.posterior(z.flatten(), TIMES[0])
    torch.testing.assert_close(got.flatten(), mean + covariance @ matrix.T @ u, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ["mmps", "tmpd"])
def test_all_is_exact_where_the_prior_is_white(mode):
    """V diagonal and an operator that selects: the row sums are the diagonal."""
    spread = torch.tensor([0.5, 2.0, 1.0]).double()
    alpha, sigma = (f(TIMES)[..., None] for f in (SCHEDULE.alpha, SCHEDULE.sigma))
    gain = alpha * spread / (alpha**2 * spread + sigma**2)
    z = numbers(2, 4, 3)
    observation = Observation(Matrix(torch.eye(12).double()[1::3]), numbers(4, seed=4), 0.3)
    got = Guidance(observation, mode=mode, iterations=4)(
        lambda u, t: gain * u, z, TIMES, SCHEDULE, everything_free(z)
    )
    variance = (gain * sigma**2 / alpha)[..., 1]
    expected = gain * z
    expected[..., 1] += variance / (variance + 0.3) * (observation.value - expected[..., 1])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


# --- The safeguard ------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["gmres", "cg"])
@pytest.mark.parametrize("fault", [-0.2, float("nan")])
def test_a_member_with_a_bad_jacobian_takes_the_isotropic_step(solver, fault):
    """The first member's network is wrong way round; the second's is not."""

    def denoise(z, t):
        return torch.cat([Bend.apply(z[:1], fault), 0.4 * z[1:]])

    z = numbers(2, 4, 3)
    observation = Observation(Matrix(numbers(5, 12, seed=2)), numbers(2, 5, seed=3), 10.0)
    free = torch.tensor([[False, True, True, True]]).expand(2, 4)
    t = torch.tensor([[0.0, 0.5, 0.6, 0.4]]).double().expand(2, 4)
    got = Guidance(observation, solver=solver, iterations=5).guide(denoise, z, t, SCHEDULE, free)
    assert got.fallen_back.tolist() == [True, False]
    alone = Guidance(observation.of(slice(1, 2)), solver=solver, iterations=5)(
        lambda u, t: 0.4 * u, z[1:], t[1:], SCHEDULE, free[1:]
    )
    torch.testing.assert_close(got.mean[1:], alone, rtol=0, atol=1e-12)
    mean = torch.where(free[0, :, None], 0.3 * z[0], z[0]).flatten()
    alpha, sigma = SCHEDULE.alpha(t[0]), SCHEDULE.sigma(t[0])
    v = (free[0] * sigma**2 / (alpha**2 + sigma**2)).repeat_interleave(3)
    h = observation.operator.matrix
    system = 10 * torch.eye(5) + h @ torch.diag(v) @ h.T
    u = torch.linalg.solve(system, observation.value[0] - h @ mean)
    torch.testing.assert_close(got.mean[0].flatten(), mean + v * (h.T @ u), rtol=0, atol=1e-9)
    before, after = (observation.whitened_residual(x)[0].norm() for x in (
        mean.reshape(1, 4, 3).expand(2, 4, 3), got.mean
    ))  # fmt: skip
    assert after < before


class Bend(torch.autograd.Function):
    """0.3 z, with another derivative than it says."""

    @staticmethod
    def forward(ctx, z, slope):
        ctx.slope = slope
        return 0.3 * z

    @staticmethod
    def backward(ctx, grad):
        return ctx.slope * grad, None


def test_without_the_safeguard_the_step_is_kept():
    z = numbers(1, 4, 3)
    observation = Observation(Matrix(numbers(5, 12, seed=2)), numbers(1, 5, seed=3), 100.0)
    free = everything_free(z)

    def bent(u, t):
        return Bend.apply(u, -0.2)

    got = Guidance(observation, safeguard=False).guide(bent, z, TIMES[:1], SCHEDULE, free)
    assert not bool(got.fallen_back.any())
    before, after = (observation.whitened_residual(x).norm() for x in (0.3 * z, got.mean))
    assert after > before


# --- Strict values and nonlinear operators ------------------------------------------------


def test_a_curved_mass_is_met_within_its_error_and_to_rounding_where_strict(gaussian):
    world = gaussian()
    value = torch.tensor([0.7, 1010.0]).double()
    strict = torch.tensor([False, True])
    z = initial_noise((4, 3), member_generators(3, range(3)), SCHEDULE, dtype=torch.float64)
    start = numbers(1, 1, 3, seed=8).expand(3, 1, 3)
    options = {"schedule": SCHEDULE, "context": start}
    unguided = sample(world.denoise, z, **options)
    assert float((Curved()(unguided) - value)[:, 1].abs().min()) > 0.5
    variance = torch.tensor([0.1**2, 0.01**2]).double()
    soft = Guidance(Observation(Curved(), value, variance), iterations=2)
    out = sample(world.denoise, z, guidance=soft, **options)
    error = (Curved()(out) - value).abs()
    assert float(error[:, 1].max()) <= 1e-2
    assert float(error[:, 1].min()) > 1e-8
    torch.testing.assert_close(soft.residual(out), (Curved()(out) - value) / variance.sqrt())
    hard = Guidance(Observation(Curved(), value, variance, strict), iterations=2)
    out = sample(world.denoise, z, guidance=hard, **options)
    error = (Curved()(out) - value).abs()
    assert float(error[:, 1].max()) <= 1e-10
    assert float(error[:, 0].min()) > 1e-8
    assert torch.equal(out[:, :1], start)


def test_strict_moves_along_the_priors_covariance(gaussian):
    """For one linear value: the correction is V h (y - h x) / (h V h), and only at the end."""
    world = gaussian()
    z, t = numbers(1, 4, 3), TIMES[:1]
    row = numbers(1, 12, seed=2)
    observation = Observation(Matrix(row), torch.tensor([4.0]).double(), 0.5, strict=True)
    guidance, free = Guidance(observation), everything_free(z)
    soft = guidance(world.denoise, z, t, SCHEDULE, free).flatten()
    hard = guidance(world.denoise, z, t, SCHEDULE, free, last=True).flatten()
    _, covariance = world.posterior(z.flatten(), t[0])
    w = covariance @ row[0]
    expected = soft + w * (4 - row[0] @ soft) / (row[0] @ w)
    torch.testing.assert_close(hard, expected, rtol=0, atol=1e-11)
    assert float((soft - hard).abs().max()) > 0.01


def test_strict_values_that_say_the_same_twice_and_a_network_that_knows_nothing(gaussian):
    row = numbers(1, 12, seed=2)
    twice = Observation(Matrix(row.expand(2, 12)), torch.full((2,), 4.0).double(), 0.5, True)
    z = numbers(1, 4, 3)

    def stubborn(u, t):
        return 0.0 * u

    for denoise in (gaussian().denoise, stubborn):
        out = Guidance(twice)(denoise, z, TIMES[:1], SCHEDULE, everything_free(z), last=True)
        torch.testing.assert_close(out.flatten() @ row[0], torch.tensor(4.0).double())


# --- Shapes, types, batches ---------------------------------------------------------------


def network(dtype, seed=0):
    """Return a convolutional denoiser of (B, T, 2, 3, 5): its frames see each other."""
    g = torch.Generator().manual_seed(seed)
    weight = (0.1 * torch.randn(8, 8, 3, 3, generator=g, dtype=torch.float64)).to(dtype)

    def denoise(z, t):
        flat = z.flatten(1, 2)
        mixed = torch.nn.functional.conv2d(torch.tanh(flat), weight, padding=1)
        return (0.5 * flat + mixed).reshape(z.shape) * (1 - 0.5 * t[..., None, None, None])

    return denoise


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
@pytest.mark.parametrize("vectors", [torch.float64, None])
def test_fields_of_any_type_against_dense_algebra(dtype, close, vectors):
    """The system of a network, assembled as a matrix from its whole Jacobian."""
    denoise, z = network(torch.float64), numbers(2, 4, 2, 3, 5)
    matrix, value = numbers(6, 120, seed=2), numbers(2, 6, seed=3)
    observation = Observation(Matrix(matrix), value.to(dtype), 0.2)
    t = torch.stack([TIMES[0].flip(0), TIMES[1].clamp(max=0.7)]).clamp(min=0.1)
    guidance = Guidance(observation, iterations=6, safeguard=False, dtype=vectors)
    got = guidance(network(dtype), z.to(dtype), t.to(dtype), SCHEDULE, everything_free(z))
    assert got.dtype == dtype
    for member in range(2):
        u, s = z[member], t[member : member + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda flat, u=u, s=s: denoise(flat.reshape(1, *u.shape), s).flatten(), u.flatten()
        )
        gamma = (SCHEDULE.sigma(s) ** 2 / SCHEDULE.alpha(s))[0].repeat_interleave(30)
        spread = gamma[:, None] * jacobian.T
        mean = denoise(u[None], s).flatten()
        system = 0.2 * torch.eye(6) + matrix @ spread @ matrix.T
        step = spread @ matrix.T @ torch.linalg.solve(system, value[member] - matrix @ mean)
        torch.testing.assert_close(
            got[member].flatten().double(), mean + step, rtol=close, atol=close
        )


@pytest.mark.parametrize("mode", ["mmps", "tmpd"])
def test_members_are_guided_by_their_own_values_in_any_batches(gaussian, mode):
    world = gaussian()
    value = numbers(5, 2, seed=3)
    observation = Observation(Curved(), value + torch.tensor([1.0, 1000.0]), 0.5)
    guidance = Guidance(observation, mode=mode)

    def run(members, batch):
        z = initial_noise((4, 3), member_generators(1, members), SCHEDULE, dtype=torch.float64)
        some = guidance.of(slice(members.start, members.stop))
        return sample(
            world.denoise, z, schedule=SCHEDULE, steps=3, guidance=some, batch=batch,
            context=z[:, :1] * 0.5,
        )  # fmt: skip

    alone = torch.cat([run(range(m, m + 1), None) for m in range(5)])
    assert torch.equal(run(range(5), 1), alone)
    for batch in (2, 5, None):
        torch.testing.assert_close(run(range(5), batch), alone, rtol=0, atol=1e-10)
    assert float((alone[0] - alone[1]).abs().max()) > 0.01


def test_inference_mode_outside_and_no_gradient_left_inside(gaussian):
    world = gaussian()
    z, observation, _ = case(world)
    guidance = Guidance(observation)
    usual = sample(world.denoise, z, schedule=SCHEDULE, steps=2, guidance=guidance)
    with torch.inference_mode():
        noise = z * 1.0
        inner = sample(world.denoise, noise, schedule=SCHEDULE, steps=2, guidance=guidance)
    assert torch.equal(inner, usual)
    assert not usual.requires_grad


def test_a_network_that_recomputes_its_blocks_gives_the_same(gaussian):
    world = gaussian()
    z, observation, _ = case(world)
    calls = []

    def block(u, t):
        calls.append(0)
        return world.denoise(u, t)

    def recomputing(u, t):
        return checkpoint(block, u, t, use_reentrant=False)

    options = (z, TIMES, SCHEDULE, everything_free(z))
    guidance = Guidance(observation, iterations=3)
    got = guidance(recomputing, *options)
    torch.testing.assert_close(got, guidance(world.denoise, *options), rtol=0, atol=1e-12)
    assert len(calls) == 1 + 3


# --- Cost ---------------------------------------------------------------------------------


class Counting(torch.autograd.Function):
    """The identity, counting passes."""

    forwards = backwards = 0

    @staticmethod
    def forward(ctx, z):
        Counting.forwards += 1
        return z.clone()

    @staticmethod
    def backward(ctx, grad):
        Counting.backwards += 1
        return grad


@pytest.mark.parametrize(
    ("options", "backwards"),
    [
        ({"iterations": 1}, 1),
        ({"iterations": 3}, 3),
        ({"iterations": 3, "solver": "cg"}, 3),
        ({"mode": "pigdm"}, 1),
        ({"mode": "tmpd"}, 2),
        ({"mode": "dps", "zeta": 1e-3}, 1),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_passes_of_the_network(gaussian, options, backwards, last):
    """One forward, a backward an iteration; the safeguard none; a strict value one at the end."""
    world = gaussian()
    z, observation, _ = case(world)
    strict = torch.tensor([True, False, False, True, False])
    observation = Observation(observation.operator, observation.value, 0.1, strict)

    def denoise(u, t):
        return world.denoise(Counting.apply(u), t)

    Counting.forwards = Counting.backwards = 0
    free = everything_free(z)
    Guidance(observation, **options)(denoise, z, TIMES, SCHEDULE, free, last=last)
    assert Counting.forwards == 1
    assert Counting.backwards == backwards + 2 * last


def test_the_safeguard_and_a_single_value_cost_no_more(gaussian):
    z, observation, _ = case(gaussian())
    observation = Observation(observation.operator, observation.value, 100.0)

    def bent(u, t):
        return Bend.apply(Counting.apply(u), -0.2)

    Counting.forwards = Counting.backwards = 0
    free = everything_free(z)
    got = Guidance(observation).guide(bent, z, TIMES, SCHEDULE, free)
    assert bool(got.fallen_back.any())
    assert (Counting.forwards, Counting.backwards) == (1, 3)
    single = Observation(Matrix(numbers(1, 12)), torch.ones(1).double(), 0.1)
    Counting.forwards = Counting.backwards = 0
    Guidance(single)(lambda u, t: 0.5 * Counting.apply(u), z, TIMES, SCHEDULE, free)
    assert (Counting.forwards, Counting.backwards) == (1, 1)  # solved after one of three


def test_parameters_get_no_gradient():
    layer = torch.nn.Linear(3, 3).double()
    z = numbers(2, 4, 3)
    observation = Observation(Matrix(numbers(5, 12)), numbers(5), 0.1)
    Guidance(observation)(lambda u, t: layer(u), z, TIMES, SCHEDULE, everything_free(z))
    assert layer.weight.grad is None


# --- What is refused ----------------------------------------------------------------------


def test_what_makes_no_sense_is_refused(gaussian):
    eye = Matrix(torch.eye(12).double())
    ones = torch.ones(12).double()
    observation = Observation(eye, ones, 0.1)
    for message, options in (
        ("mode is 'exact'", {"mode": "exact"}),
        ("solver is 'lu'", {"solver": "lu"}),
        ("iterations is 0", {"iterations": 0}),
        ("zeta is -1", {"zeta": -1.0}),
    ):
        with pytest.raises(ValueError, match=message):
            Guidance(observation, **options)
    many = Matrix(torch.ones(33, 12).double())
    with pytest.raises(ValueError, match="33 values are strict"):
        Guidance(Observation(many, torch.ones(33).double(), 0.1, strict=True))
    for message, parts in (
        (r"value has the shape \(11,\)", (ones[:11], 0.1)),
        ("holds 12 numbers that are not finite", (ones * torch.nan, 0.1)),
        (r"variance has the shape \(3,\)", (ones, torch.ones(3))),
        ("variance reaches from 0.0", (ones, 0.0)),
        ("variance reaches", (ones, float("inf"))),
        (r"strict has the shape \(3,\)", (ones, 0.1, torch.ones(3, dtype=torch.bool))),
    ):
        with pytest.raises(ValueError, match=message):
            Observation(eye, *parts)


def test_a_network_without_gradient_and_an_operator_of_another_size_are_refused():
    z, ones = numbers(2, 4, 3), torch.ones(12).double()
    options = (z, TIMES, SCHEDULE, everything_free(z))
    observation = Observation(Matrix(torch.eye(12).double()), ones, 0.1)
    with pytest.raises(ValueError, match=r"without torch\.no_grad"):
        Guidance(observation)(torch.no_grad()(lambda u, t: 0.5 * u), *options)

    class Liar(Matrix):
        size = 3

    lying = Observation(Liar(torch.eye(12).double()), ones[:3], 0.1)
    with pytest.raises(ValueError, match=r"promises \(2, 3\)"):
        Guidance(lying)(lambda u, t: 0.5 * u, *options)
    assert Sight(observation, z, torch.float64).residual.shape == (2, 12)
