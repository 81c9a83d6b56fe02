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


def test_it_has_to_be_given():
    observation = Observation(Observe(torch.tensor([0]), (1, 1, 1, 1)), torch.zeros(1), 1.0)
    with pytest.raises(ValueError, match="give the background"):
        Guidance(observation, mode="background")
