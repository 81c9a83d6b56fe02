"""A prior learns to denoise: which noise, which weights, which minimum, and that it goes on."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from xwx.errors import ConfigError
from xwx.models.wind import Wind
from xwx.models.wind_config import WindConfig
from xwx.spec import Channel, Grid, Spec
from xwx.training.data import Archive, Augment, statistics
from xwx.training.denoising import Denoising, measure_denoising
from xwx.training.distributed import ALONE, Processes
from xwx.training.noise import NoiseConfig, channel_weights, draw_noised, noised, time_weights
from xwx.training.objective import make_objective
from xwx.training.settings import StageConfig
from xwx.training.state import load_state
from xwx.training.trainer import Trainer

FRAMES, ROWS, COLUMNS = 3, 5, 8
CHANNELS = (Channel("msl"), Channel("vo", 85000.0))
SPEC = Spec(CHANNELS, Grid.regular(ROWS, COLUMNS, poles=True))
WEIGHTS = torch.tensor([0.4, 1.2, 1.8, 1.2, 0.4])
NETWORK = WindConfig.preset(
    "wind_tiny", frames=FRAMES, multipliers=(1, 1), depths=(1, 1), attend=(1,), coordinates="none"
)
CONFIG = StageConfig(
    updates=8,
    batch_size=4,
    learning_rate=3e-3,
    ema=0.9,
    validate_every=3,
    seed=4,
    noise=NoiseConfig(shared=0.3, context=0.3, surface=1.0, levels=(0.3, 0.7)),
)


def archive_of(count: int, first: int = 0) -> Archive:
    """Return waves that travel eastwards by one column a step."""
    t = (first + np.arange(count))[:, None, None]
    latitude = np.deg2rad(SPEC.grid.rows)[:, None]
    longitude = np.deg2rad(SPEC.grid.columns)[None, :]
    phase = longitude - 2 * np.pi / COLUMNS * t
    msl = 1013 + 10 * np.cos(latitude) * np.cos(phase)
    vo = 3 * np.sin(latitude) * np.sin(phase) + 1.0
    times = np.datetime64("2025-12-01", "ns") + (first + np.arange(count)) * np.timedelta64(6, "h")
    return Archive(np.stack([msl, vo], axis=1).astype(np.float32), None, times, SPEC)


TRAIN, VALID = archive_of(24), archive_of(9, first=40)


class Toy(nn.Module):
    """Any function as a denoiser, with statistics."""

    frames = FRAMES
    spec = SPEC

    def __init__(self, function, mean=(0.0, 0.0), std=(1.0, 1.0), change=(1.0, 1.0)) -> None:
        super().__init__()
        self.function = function
        for name, value in (("mean", mean), ("std", std), ("increment_std", change)):
            self.register_buffer(name, torch.tensor(value).reshape(-1, 1, 1))

    denoise = None  # says what kind of network it is

    def forward(self, z, forcing=None, t=None):
        return self.function(z, t)


def wind() -> Wind:
    torch.manual_seed(11)
    model = Wind(NETWORK, SPEC)
    model.set_statistics(*statistics(TRAIN, WEIGHTS.double().numpy()))
    return model


# ---- the noise


def test_an_entry_has_the_noise_of_its_number_whatever_else_is_drawn():
    x = torch.randn(6, 4, 2, 3, 5)
    whole = draw_noised(x, CONFIG.noise, 7, range(6))
    part = draw_noised(x[2:5], CONFIG.noise, 7, range(2, 5))
    assert torch.equal(part.frames, whole.frames[2:5])
    assert torch.equal(part.times, whole.times[2:5])
    other = draw_noised(x, CONFIG.noise, 8, range(6))
    assert not torch.equal(other.times, whole.times)
    assert len(set(whole.frames.sum((1, 2, 3, 4)).tolist())) == 6


def test_each_frame_has_a_time_of_its_own_spread_evenly():
    times = draw_noised(torch.zeros(4000, 3, 1), NoiseConfig(), 0, range(4000)).times
    ranks = torch.sort(times.flatten()).values
    assert (ranks - torch.linspace(0, 1, 12000)).abs().max() < 0.02  # Kolmogorov-Smirnov
    assert torch.corrcoef(times.T).fill_diagonal_(0).abs().max() < 0.05


@pytest.mark.parametrize(("share", "of"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_shares_of_windows_are_as_samples_and_forecasts_are(share, of):
    x = torch.zeros(2000, 4, 1)
    shared = draw_noised(x, NoiseConfig(shared=share), 1, range(2000)).times
    alike = (shared == shared[:, :1]).all(1).double().mean()
    assert abs(float(alike) - of) < 0.04
    context = draw_noised(x, NoiseConfig(context=share), 1, range(2000)).times
    assert abs(float((context[:, 0] == 0).double().mean()) - of) < 0.04
    assert (context[:, 1:] > 0).all()


def test_one_share_says_nothing_about_the_other():
    """Unequal shares at once: each has its own, and windows of both kinds are a product."""
    noise = NoiseConfig(shared=0.7, context=0.2)
    times = draw_noised(torch.zeros(4000, 4, 1), noise, 2, range(4000)).times
    alike = (times[:, 1:] == times[:, 1:2]).all(1)
    clean = times[:, 0] == 0
    for found, share in ((alike, 0.7), (clean, 0.2), (alike & clean, 0.14)):
        assert abs(float(found.double().mean()) - share) < 0.03


def test_a_shared_time_is_spread_as_evenly_as_others():
    noise = NoiseConfig(shared=1.0)
    times = draw_noised(torch.zeros(4000, 3, 1), noise, 3, range(4000)).times[:, 0]
    ranks = torch.sort(times).values
    assert (ranks - torch.linspace(0, 1, 4000)).abs().max() < 0.03  # Kolmogorov-Smirnov


def test_frames_lie_between_state_and_noise():
    x, noise = torch.randn(2, 2, 3, 4).double(), torch.randn(2, 2, 3, 4).double()
    times = torch.tensor([[0.0, 1.0], [0.5, 0.25]]).double()
    z = noised(x, times, noise).frames
    assert torch.allclose(z[0, 0], x[0, 0] + 1e-3 * noise[0, 0])
    assert torch.allclose(z[0, 1], 1e-3 * x[0, 1] + noise[0, 1])
    assert torch.allclose(z[1, 1], 0.75025 * x[1, 1] + 0.25075 * noise[1, 1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shared": 1.2}, "shared=1.2"),
        ({"context": -0.1}, "context=-0.1"),
        ({"context": float("nan")}, "context=nan"),
        ({"levels": ()}, "levels"),
        ({"levels": (0.0, 0.5)}, "between 0 and 1"),
        ({"levels": (0.5, 0.3)}, "rising"),
        ({"surface": 0.0}, "surface=0.0"),
        ({"balance": 2.0}, "balance=2.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        NoiseConfig(**settings)


# ---- the weights


def test_channels_weigh_by_pressure_surface_and_slowness():
    channels = [Channel("z", 50000.0), Channel("z", 100000.0), Channel("q", 85000.0)]
    spec = Spec((*channels, Channel("t2m"), Channel("msl")), Grid.regular(3, 4, poles=False))
    std = torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0]).reshape(-1, 1, 1)
    change = torch.tensor([1.0, 2.0, 2.0, 2.0, 2.0]).reshape(-1, 1, 1)
    levels = channel_weights(spec, std, change, NoiseConfig(tendency=False))
    assert levels.flatten().tolist() == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0, 0.1])
    both = channel_weights(spec, std, change, NoiseConfig()).flatten()
    slow = np.array([4.0, 1, 1, 1, 1]) / 1.6
    assert both.tolist() == pytest.approx(list(slow * [1 / 3, 2 / 3, 1.0, 1.0, 0.1]))
    flat = NoiseConfig(tendency=False, pressure=False, surface=2.0)
    assert channel_weights(spec, std, change, flat).flatten().tolist() == [1, 1, 1, 1, 2]


def test_balanced_errors_weigh_alike_whatever_the_noise():
    times = torch.tensor([[0.0, 0.2, 0.9]]).double()
    assert time_weights(times, NoiseConfig()).tolist() == [[0, 1, 1]]
    weights = time_weights(times, NoiseConfig(balance=1.0))[0]
    sigma, alpha = 0.2 + 0.8e-3, 0.8 + 0.2e-3
    assert float(weights[1]) == pytest.approx((sigma**2 + alpha**2) / sigma**2)
    assert float(weights[0]) == 0
    half = time_weights(times, NoiseConfig(balance=0.5))[0]
    assert torch.allclose(half[1:].square(), weights[1:])


# ---- the loss


def objective(network, config=CONFIG, processes=ALONE) -> Denoising:
    made = make_objective(network, VALID, WEIGHTS, config, processes)
    assert isinstance(made, Denoising)
    return made


def test_the_loss_is_the_weighted_error_of_normalised_states():
    config = replace(CONFIG, noise=NoiseConfig(surface=0.5))
    factor = nn.Parameter(torch.zeros(()))
    toy = Toy(lambda z, t: factor * z, mean=(1013.0, 1.0), std=(5.0, 2.0), change=(5.0, 1.0))
    batch = TRAIN.batch(range(4), FRAMES)
    turns = []
    loss = objective(toy, config).learn(batch, 0, lambda given: turns.append(given))
    msl = (batch.states[:, :, 0].double().numpy() - 1013) / 5
    vo = (batch.states[:, :, 1].double().numpy() - 1) / 2
    rows = WEIGHTS.double().numpy()[:, None]
    slowness = np.array([1.0, 4.0]) / 2.5
    expected = (slowness[0] * 0.5 * rows * msl**2 + slowness[1] * rows * vo**2).mean() / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert turns == [loss]
    forecasts = replace(config, noise=replace(config.noise, context=1.0))
    without_first = objective(toy, forecasts).learn(batch, 0, lambda _: None)
    msl[:, 0] = vo[:, 0] = 0
    expected = (slowness[0] * 0.5 * rows * msl**2 + slowness[1] * rows * vo**2).mean() / 2
    assert float(without_first) == pytest.approx(expected, rel=1e-5)
    assert not loss.requires_grad
    assert factor.grad is not None
    assert float(factor.grad) != 0


def test_the_least_loss_is_that_of_the_mean_over_noise_times():
    # For states of unit variance the best D(z) = g z has g = E[alpha] / E[alpha^2 + sigma^2],
    # with t uniform 0.5 / (2/3), but for the floor of the schedule.
    x = torch.randn(500, 200, 20, generator=torch.Generator().manual_seed(0))
    z = draw_noised(x, NoiseConfig(), 3, range(500)).frames
    assert float((x * z).sum() / (z * z).sum()) == pytest.approx(0.75, abs=0.01)


def test_learning_from_departures_is_learning_from_states():
    """The same noise gives the same loss, whichever of the two the network is given."""
    torch.manual_seed(0)
    network = Wind(replace(NETWORK, known_t=True, predict="scaled", departures=True), SPEC)
    network.set_statistics(*statistics(TRAIN, WEIGHTS.double().numpy()))
    network.set_mean_state(0.3 * torch.randn(2, ROWS, COLUMNS))
    with torch.no_grad():
        network.backbone.head.bias.normal_()
    config = replace(CONFIG, noise=NoiseConfig(surface=1.0, tendency=False))
    learner = objective(network, config)
    batch = TRAIN.batch(range(4), FRAMES)
    departures = replace(batch, states=batch.states - learner.offset)
    loss = learner.learn(departures, 3, lambda _: None)
    x = (batch.states - network.mean) / network.std
    given = draw_noised(x, config.noise, config.seed * 1_000_003 + 3, range(4))
    whole = network.denoise(given.frames, None, given.times)
    expected = (WEIGHTS[:, None] * (whole - x).square()).mean().detach()
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    assert objective(wind()).offset is None


def test_parts_of_a_batch_add_up_to_the_whole():
    factor = nn.Parameter(torch.tensor(0.3))
    toy = Toy(lambda z, t: factor * z)
    batch = VALID.batch(range(4), FRAMES)
    whole = objective(toy).learn(batch, 5, lambda _: None)
    gradient, factor.grad = factor.grad, None
    parts = []
    for rank in (0, 1):
        share = VALID.batch(range(2 * rank, 2 * rank + 2), FRAMES)
        one = objective(toy, processes=Processes(rank, 2))
        parts.append(one.learn(share, 5, lambda _: None))
    assert torch.allclose(sum(parts) / 2, whole)
    assert torch.allclose(factor.grad / 2, gradient)


# ---- the score


def white(count: int) -> Archive:
    states = np.random.default_rng(5).normal(size=(count, 2, ROWS, COLUMNS)).astype(np.float32)
    times = np.datetime64("2025-12-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    return Archive(states, None, times, SPEC)


def score(network, archive=None, **settings):
    archive = white(90) if archive is None else archive
    cpu = torch.device("cpu")
    return measure_denoising(network, archive, WEIGHTS, (0.2, 0.6), cpu, **settings)


def test_who_knows_no_weather_scores_one():
    def cell_by_cell(z, t):
        alpha = (1 - t) + t * 1e-3
        sigma = t + (1 - t) * 1e-3
        factor = alpha / (alpha**2 + sigma**2)
        return factor[..., None, None, None] * z

    errors = score(Toy(cell_by_cell))
    assert errors.ratios.shape == (2, 2, 2)
    assert errors.windows == 30
    assert torch.allclose(errors.ratios, torch.ones(2, 2, 2).double(), atol=0.04)
    # Worse than that is the noisy state itself: (1 - alpha)^2 + sigma^2 = 2 t^2.
    given = score(Toy(lambda z, t: z)).ratios
    expected = torch.tensor([0.08, 0.72]).sqrt() / torch.tensor([0.04 / 0.68, 0.36 / 0.52]).sqrt()
    assert torch.allclose(given, expected.double()[None, :, None].expand(2, 2, 2), rtol=0.05)


def test_a_clean_first_frame_is_given_and_does_not_count():
    seen = []

    def spoils_first(z, t):
        seen.append((z[:, 0].clone(), t.clone()))
        return torch.cat([z[:, :1] + 1e3, z[:, 1:]], dim=1)

    archive = white(FRAMES)
    spoiled = score(Toy(spoils_first), archive).ratios
    plain = score(Toy(lambda z, t: z), archive).ratios
    assert torch.equal(spoiled[1], plain[1])
    assert (spoiled[0] > 100 * plain[0]).all()
    for first, times in seen[2:]:
        assert torch.equal(first[0], torch.from_numpy(archive.states[0]))
        assert times[0, 0] == 0
        assert (times[0, 1:] > 0).all()
    for _, times in seen[:2]:
        assert (times == times[0, 0]).all()


def test_scores_are_weighted_by_area_and_the_same_each_time():
    def wrong_at_a_pole(z, t):
        out = z.clone()
        out[..., 0, :] += 10.0
        return out

    archive = white(6)
    first, second = score(Toy(wrong_at_a_pole), archive), score(Toy(wrong_at_a_pole), archive)
    assert torch.equal(first.ratios, second.ratios)
    everywhere = score(Toy(lambda z, t: z + 10.0), archive)
    share = (first.ratios / everywhere.ratios).square()
    assert torch.allclose(share, torch.full_like(share, 0.4 / 5), rtol=0.1)


def test_a_choice_of_windows_is_spread_over_the_period():
    assert score(Toy(lambda z, t: z), white(20), most_starts=4).windows == 4
    assert score(Toy(lambda z, t: z), white(7)).windows == 2  # of three, none twice


# ---- the loop


def run(folder: Path, config=CONFIG, until=None, kept=None) -> Trainer:
    kept = [] if kept is None else kept
    trainer = Trainer(
        wind(),
        TRAIN,
        VALID,
        WEIGHTS,
        config,
        folder,
        lambda network, row: kept.append((copy.deepcopy(network.state_dict()), row)),
    )
    trainer.fit(progress=False, until=until)
    return trainer


def test_a_prior_learns(tmp_path):
    config = replace(
        CONFIG, updates=150, batch_size=8, learning_rate=5e-3, validate_every=75, ema=0.95
    )
    kept = []
    trainer = run(tmp_path, config, kept=kept)
    names = {name for name in kept[-1][1] if name.startswith("ratio ")}
    assert "ratio msl 0.3 noise" in names
    assert "ratio vo[850 hPa] 0.7 forecast" in names
    assert len(names) == 8
    assert trainer.best == kept[-1][1]["score"] < 0.7  # 1 is what needs no weather
    start = measure_denoising(wind(), VALID, WEIGHTS, (0.3, 0.7), torch.device("cpu"))
    assert trainer.best < 0.7 * float(start.ratios.mean())


def test_an_interrupted_run_ends_bit_for_bit_the_same(tmp_path):
    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", until=4)
    parts = run(tmp_path / "parts")
    assert parts.update == whole.update == 8
    for one, other in ((whole.network, parts.network), (whole.average, parts.average)):
        for (name, a), (_, b) in zip(
            one.state_dict().items(), other.state_dict().items(), strict=True
        ):
            assert torch.equal(a, b), name
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "parts")]
    unclocked = [[",".join(r.split(",")[:1] + r.split(",")[3:]) for r in log] for log in logs]
    assert unclocked[0] == unclocked[1]
    assert "theta" not in logs[0][0]


def test_other_noise_is_another_run(tmp_path):
    run(tmp_path, until=3)
    other = replace(CONFIG, noise=replace(CONFIG.noise, shared=0.4))
    with pytest.raises(ConfigError, match=r"training\.noise\.shared 0\.3 -> 0\.4"):
        run(tmp_path, other)
    _, facts = load_state(tmp_path / "state.safetensors")
    assert facts["config"]["noise"]["context"] == 0.3


def test_statistics_and_symmetries_are_those_of_the_archive(tmp_path):
    trainer = run(tmp_path, replace(CONFIG, updates=2, augment=Augment(mirror=True, roll=True)))
    assert float(trainer.network.mean[0]) == pytest.approx(1013, abs=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rollout": ((0.0, 2),)}, "rollout"),
        ({"leads": (1, 2)}, "leads"),
        ({"gradient": "detach"}, "gradient"),
        ({"alpha": 0.5}, "alpha"),
    ],
)
def test_settings_of_forecasts_are_refused(tmp_path, change, words):
    with pytest.raises(ConfigError, match=rf"{words}=.*Wind denoises windows .* leave {words} out"):
        run(tmp_path, replace(CONFIG, **change))


def test_a_period_needs_a_window(tmp_path):
    with pytest.raises(ValueError, match="no window of 3"):
        Trainer(wind(), TRAIN, white(2), WEIGHTS, CONFIG, tmp_path, lambda *_: None)
