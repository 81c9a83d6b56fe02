"""The background: the covariance of a Gaussian prior, wave by wave, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xwx.diffusion.background import Background
from xwx.diffusion.guidance import Guidance
from xwx.diffusion.operators import Observe
from xwx.diffusion.protocols import Observation
from xwx.diffusion.schedule import Rectified

FRAMES, CHANNELS, ROWS, COLUMNS = 3, 2, 2, 6
WHOLE = 2 * ROWS
SCHEDULE = Rectified()


@pytest.fixture
def background():
    generator = torch.Generator().manual_seed(0)
    size = (CHANNELS, WHOLE, COLUMNS // 2 + 1)
    power = torch.rand(size, generator=generator, dtype=torch.float64) + 0.1
    angle = torch.rand(size, generator=generator, dtype=torch.float64)
    # A real field has waves that mirror each other where no zonal wavenumber tells them apart.
    for k in (0, COLUMNS // 2):
        mirror = torch.arange(WHOLE).neg() % WHOLE
        power[:, :, k] = (power[:, :, k] + power[:, mirror, k]) / 2
        angle[:, :, k] = (angle[:, :, k] - angle[:, mirror, k]) / 2
    return Background(power, 0.7 * torch.exp(1j * angle), (ROWS, COLUMNS), COLUMNS)


def dense(background, t, free):
    """Return V of one channel on the whole torus, by matrices, then cut to the rows there are."""
    out = []
    for c in range(CHANNELS):
        cells = WHOLE * COLUMNS
        blocks = []
        for lag in range(FRAMES):
            waves = background.spectrum[c] * background.memory[c] ** lag
            response = torch.fft.irfft2(waves, s=(WHOLE, COLUMNS)).numpy()  # at each distance
            place = np.stack(np.unravel_index(np.arange(cells), (WHOLE, COLUMNS)), -1)
            apart = place[:, None] - place
            blocks.append(response[apart[..., 0] % WHOLE, apart[..., 1] % COLUMNS])
        prior = np.block(
            [
                [blocks[i - j] if i >= j else blocks[j - i].T for j in range(FRAMES)]
                for i in range(FRAMES)
            ]
        )
        alpha = np.where(free, SCHEDULE.alpha(t), 1.0).repeat(cells)
        noise = np.where(free, SCHEDULE.sigma(t), 1e-3).repeat(cells) ** 2
        gain = (prior * alpha) @ np.linalg.inv(alpha[:, None] * prior * alpha + np.diag(noise))
        left = prior - gain @ (alpha[:, None] * prior)
        known = ~np.asarray(free).repeat(cells)
        left[known], left[:, known] = 0, 0
        inside = np.tile(np.arange(cells) < ROWS * COLUMNS, FRAMES)
        out.append(left[np.ix_(inside, inside)])
    return out


@pytest.mark.parametrize(
    ("times", "free"),
    [
        ((0.5, 0.5, 0.5), (True, True, True)),
        ((0.9, 0.2, 0.6), (True, True, True)),
        ((0.0, 0.8, 0.8), (False, True, True)),
        ((1.0, 1.0, 1.0), (True, True, True)),
    ],
)
def test_it_is_the_posterior_covariance(background, times, free):
    t = torch.tensor(times, dtype=torch.float64)
    free = torch.tensor(free)
    expected = dense(background, t, free.numpy())
    multiply = background.spread(t.expand(2, -1), free.expand(2, -1), SCHEDULE)
    v = torch.randn(2, FRAMES, CHANNELS, ROWS, COLUMNS, dtype=torch.float64)
    found = multiply(v)
    for c in range(CHANNELS):
        flat = v[:, :, c].reshape(2, -1).numpy()
        np.testing.assert_allclose(
            found[:, :, c].reshape(2, -1).numpy(), flat @ expected[c].T, rtol=0, atol=1e-9
        )


def test_guidance_by_it_is_optimal_interpolation(background, monkeypatch):
    """With its own posterior mean as denoiser, the guided mean is that of all that is known.

    To rounding where the system is solved to the end, and else to a hundredth of the errors of
    observation.
    """
    t = torch.full((1, FRAMES), 0.6, dtype=torch.float64)
    free = torch.ones(1, FRAMES, dtype=torch.bool)
    multiply = background.spread(t, free, SCHEDULE)
    alpha, sigma = (float(f(t)[0, 0]) for f in (SCHEDULE.alpha, SCHEDULE.sigma))
    shape = (FRAMES, CHANNELS, ROWS, COLUMNS)
    count = int(np.prod(shape))
    unknown = torch.stack(
        [multiply(e.view(1, *shape)).flatten() for e in torch.eye(count).double()]
    )
    torch.manual_seed(3)
    z = torch.randn(1, *shape, dtype=torch.float64)

    def denoise(z, t):
        return (unknown @ z.flatten() * alpha / sigma**2).view(1, *shape)

    index = torch.tensor([3, 17, 40])
    observation = Observation(Observe(index, shape), torch.tensor([1.0, -2.0, 0.5]).double(), 0.01)
    guidance = Guidance(observation, mode="background", background=background, safeguard=False)
    found = guidance(denoise, z, t, SCHEDULE, free)
    monkeypatch.setattr("xwx.diffusion.guidance._ENOUGH", {})
    exact = guidance(denoise, z, t, SCHEDULE, free)
    mean = denoise(z, t).flatten()
    seen = unknown[index][:, index] + 0.01 * torch.eye(3)
    gain = unknown[:, index] @ torch.linalg.inv(seen)
    expected = mean + gain @ (observation.value - mean[index])
    # of the order of 1e-9: three iterations of a system whose condition is about 1e3
    torch.testing.assert_close(exact.flatten(), expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


def test_one_very_precise_value_does_not_switch_off_the_others(background):
    """Its misfit is a million of its errors; the solution is compared with a dense one."""
    t = torch.full((1, FRAMES), 0.6, dtype=torch.float64)
    free = torch.ones(1, FRAMES, dtype=torch.bool)
    multiply = background.spread(t, free, SCHEDULE)
    shape = (FRAMES, CHANNELS, ROWS, COLUMNS)
    count = int(np.prod(shape))
    unknown = torch.stack(
        [multiply(e.view(1, *shape)).flatten() for e in torch.eye(count).double()]
    )
    index = torch.arange(0, count, 3)
    torch.manual_seed(4)
    value = torch.randn(len(index), dtype=torch.float64)
    variances = torch.full((len(index),), 0.25, dtype=torch.float64)
    variances[5] = 1e-12
    guidance = Guidance(
        Observation(Observe(index, shape), value, variances),
        mode="background", background=background, safeguard=False,
    )  # fmt: skip
    found = guidance(lambda z, t: 0 * z, torch.zeros(1, *shape).double(), t, SCHEDULE, free)
    gain = unknown[:, index] @ torch.linalg.inv(unknown[index][:, index] + torch.diag(variances))
    torch.testing.assert_close(found.flatten(), gain @ value, rtol=0, atol=0.02)


def everything(background, t, free):
    """Return V of all channels together, by the dense matrices of each."""
    count = FRAMES * CHANNELS * ROWS * COLUMNS
    whole = np.zeros((FRAMES, CHANNELS, ROWS * COLUMNS) * 2)
    for c, own in enumerate(dense(background, t, free)):
        whole[:, c, :, :, c] = own.reshape(FRAMES, ROWS * COLUMNS, FRAMES, ROWS * COLUMNS)
    return torch.from_numpy(whole.reshape(count, count))


def after_a_clean_frame():
    """Return noise times, and which frames are free: the first is known."""
    t = torch.tensor([[0.0, 0.7, 0.7]], dtype=torch.float64)
    return t, t > 0


def test_clean_frames_stay_to_the_last_bit_and_the_rest_is_optimal_interpolation(background):
    """Values of the clean frame, far from it and precise, move nothing."""
    t, free = after_a_clean_frame()
    torch.manual_seed(5)
    z = torch.randn(1, FRAMES, CHANNELS, ROWS, COLUMNS, dtype=torch.float64)
    index = torch.tensor([1, 8, 30, 44, 60])
    value = torch.tensor([3.0, -3.0, 1.0, 0.5, -2.0], dtype=torch.float64)
    observation = Observation(Observe(index, z.shape[1:]), value, 0.01)
    guidance = Guidance(observation, mode="background", background=background, safeguard=False)
    found = guidance(lambda z, t: 0.3 * z, z, t, SCHEDULE, free)
    assert torch.equal(found[:, 0], z[:, 0])
    unknown = everything(background, t[0], free[0].numpy())
    mean = torch.where(free[..., None, None, None], 0.3 * z, z).flatten()
    seen = unknown[index][:, index] + 0.01 * torch.eye(5)
    expected = mean + unknown[:, index] @ torch.linalg.solve(seen, value - mean[index])
    torch.testing.assert_close(found.flatten(), expected, rtol=0, atol=2e-3)
    assert float((expected - mean).abs().max()) > 0.5


def test_strict_values_are_met_along_it_however_hard_the_system(background):
    """Of the last step: the others are precise, and contradict the strict one."""
    t, free = after_a_clean_frame()
    torch.manual_seed(6)
    z = torch.randn(1, FRAMES, CHANNELS, ROWS, COLUMNS, dtype=torch.float64)
    index = torch.cat([torch.arange(24, 72, 2), torch.tensor([24])])
    value = torch.randn(len(index), dtype=torch.float64)
    value[-1] = value[0] + 2.0
    variance = torch.full((len(index),), 1e-6, dtype=torch.float64)
    strict = torch.arange(len(index)) == len(index) - 1
    observation = Observation(Observe(index, z.shape[1:]), value, variance, strict)
    guidance = Guidance(observation, mode="background", background=background)
    given = (lambda z, t: 0.3 * z, z, t, SCHEDULE, free)
    soft, hard = guidance(*given), guidance(*given, last=True)
    assert float((soft.flatten()[24] - value[-1]).abs()) > 0.5
    assert float((hard.flatten()[24] - value[-1]).abs()) < 1e-12
    assert torch.equal(hard[:, 0], z[:, 0])
    along = everything(background, t[0], free[0].numpy())[24]
    moved = along * (value[-1] - soft.flatten()[24]) / along[24]
    torch.testing.assert_close(hard - soft, moved.view_as(z), rtol=0, atol=1e-9)


def hard_case(background, variance):
    """Return frames, times and values of all cells, of waves whose variances differ widely."""
    size = background.spectrum.shape
    k, m = torch.arange(size[2]), torch.arange(WHOLE)
    m = torch.minimum(m, WHOLE - m)
    power = (10.0 ** -(k + m[:, None]).double()).expand(size)
    smooth = Background(power, background.memory, (ROWS, COLUMNS), COLUMNS)
    torch.manual_seed(7)
    value = torch.randn(FRAMES * CHANNELS * ROWS * COLUMNS, dtype=torch.float64)
    shape = (FRAMES, CHANNELS, ROWS, COLUMNS)
    observation = Observation(Observe(torch.arange(len(value)), shape), value, variance)
    t = torch.full((1, FRAMES), 0.9, dtype=torch.float64)
    return smooth, observation, (torch.zeros(1, *shape).double(), t, SCHEDULE, t > 0)


def test_systems_that_need_many_iterations_are_solved(background):
    smooth, observation, given = hard_case(background, 1e-3)
    told = []
    guidance = Guidance(
        observation, mode="background", background=smooth, safeguard=False, report=told.append
    )
    found = guidance(lambda z, t: 0 * z, *given, last=True).flatten()
    unknown = everything(smooth, given[1][0], given[3][0].numpy())
    system = unknown + 1e-3 * torch.eye(len(unknown))
    exact = unknown @ torch.linalg.solve(system, observation.value)
    # what is left of the system is in the misfit, in standard deviations of the errors
    left = (observation.value - found) - 1e-3 * torch.linalg.solve(unknown, found)
    assert float(left.square().mean().sqrt() / 1e-3**0.5) <= 0.01
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)
    assert [left.shape for left in told] == [(1,)]
    assert 0 < float(told[0]) <= 0.01


def test_what_is_left_unsolved_is_told(background, monkeypatch):
    smooth, observation, given = hard_case(background, 1e-12)
    told = []
    options = {"background": smooth, "report": told.append}
    guidance = Guidance(observation, mode="background", **options)
    guidance(lambda z, t: 0 * z, *given)
    assert not told  # nine tenths are noise, and other steps follow
    guidance(lambda z, t: 0 * z, *given, last=True)
    assert float(told[-1]) > 1
    # nothing is solved at all: the whole misfit is left
    monkeypatch.setattr("xwx.diffusion.guidance._BACKGROUND_ITERATIONS", 0)
    z, t, *others = given
    guidance(lambda z, t: 0 * z, z, t / 2, *others)
    expected = observation.value.square().mean().sqrt() / 1e-6
    torch.testing.assert_close(told[-1], expected[None])
    Guidance(observation, mode="pigdm", **options)(lambda z, t: 0.5 * z, *given, last=True)
    assert len(told) == 2


@pytest.mark.parametrize("memory", [0.0, 1.0])
@pytest.mark.parametrize("t", [0.0, 0.1])
def test_what_is_known_of_very_smooth_fields_to_ten_digits(memory, t):
    """Of a wave with 1e10 times the variance of the noise, in the numbers that networks keep.

    Forgotten at once, each frame is known by itself, ``P s^2 / (a^2 P + s^2)``; never forgotten,
    all frames are one, known by all of them.
    """
    power = torch.zeros(1, WHOLE, COLUMNS // 2 + 1)
    power[:, :, 1] = 1e4
    background = Background(power, torch.full_like(power, memory) + 0j, (ROWS, COLUMNS), COLUMNS)
    times = torch.full((1, FRAMES), t)
    alpha, noise = float(SCHEDULE.alpha(times[0, 0])), float(SCHEDULE.sigma(times[0, 0])) ** 2
    wave = torch.cos(2 * torch.pi * torch.arange(COLUMNS) / COLUMNS)
    v = wave.expand(1, FRAMES, 1, ROWS, COLUMNS).contiguous()
    v = v * torch.tensor([1.0, 2.0, 4.0])[:, None, None, None]
    found = background.spread(times, torch.ones(1, FRAMES, dtype=torch.bool), SCHEDULE)(v)
    if memory:
        expected = v.mean(1, keepdim=True) * FRAMES * 1e4 * noise
        expected = (expected / (FRAMES * alpha**2 * 1e4 + noise)).expand_as(v)
    else:
        expected = v * 1e4 * noise / (alpha**2 * 1e4 + noise)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_members_that_differ_are_refused_and_one_row_is_for_all(background):
    t = torch.tensor([[0.5, 0.4, 0.3]], dtype=torch.float64)
    free = torch.ones(1, FRAMES, dtype=torch.bool)
    v = torch.randn(2, FRAMES, CHANNELS, ROWS, COLUMNS, dtype=torch.float64)
    alike = background.spread(t.expand(2, -1), free.expand(2, -1), SCHEDULE)(v)
    assert torch.equal(background.spread(t, free, SCHEDULE)(v), alike)
    later, fewer = t + torch.tensor([[0.0], [0.1]]), torch.cat([free, ~free])
    for times, which in ((later, free), (t, fewer), (later, fewer)):
        with pytest.raises(ValueError, match=r"differs between members.*others apart"):
            background.spread(times, which, SCHEDULE)


def test_it_has_to_be_given():
    observation = Observation(Observe(torch.tensor([0]), (1, 1, 1, 1)), torch.zeros(1), 1.0)
    with pytest.raises(ValueError, match="give the background"):
        Guidance(observation, mode="background")
