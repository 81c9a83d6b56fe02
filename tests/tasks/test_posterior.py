"""The engine of every generative task, against Gaussian worlds whose posteriors are known."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest
import torch
import xarray as xr

from xwx import Channel, Grid, Sampling, Spec
from xwx.constraints.scene import Bound
from xwx.diffusion.noise import initial_noise, member_generators
from xwx.diffusion.operators import Observe, TimeMean
from xwx.diffusion.protocols import Observation
from xwx.diffusion.schedule import Rectified
from xwx.errors import MismatchError, Problem, XwxError, XwxWarning
from xwx.fields import forcings
from xwx.models.card import Card
from xwx.models.checkpoint import Model
from xwx.models.wind import Wind, WindConfig
from xwx.tasks.sampling import room
from xwx.tasks.sampling.posterior import demands, generative, posterior, scene_of

GRID = Grid.regular(2, 4, poles=False)
FRAMES, SHAPE = 3, (2, 2, 4)  # of a window; channels, rows, columns
DIM = FRAMES * 16
MEAN, STD = torch.tensor([280.0, 1e5]).view(2, 1, 1), torch.tensor([10.0, 500.0]).view(2, 1, 1)


class Prior(torch.nn.Module):
    """x ~ N(0, S) for the normalised states of a window, S neither diagonal nor stationary."""

    frames = FRAMES

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        root = torch.randn(DIM, DIM, generator=g, dtype=torch.float64)
        self.register_buffer("covariance", root @ root.T / DIM + 0.1 * torch.eye(DIM))
        self.register_buffer("mean", MEAN)
        self.register_buffer("std", STD)

    def denoise(self, z, forcing=None, t=None):
        means = [self.given(a.flatten().double(), b)[0] for a, b in zip(z, t, strict=True)]
        return torch.stack(means).view_as(z).to(z.dtype)

    def given(self, z, t):
        """Return mean and covariance of x given noisy z."""
        t = t.double().repeat_interleave(16)
        alpha, sigma = 1 - t + 1e-3 * t, t + 1e-3 * (1 - t)
        noisy = alpha[:, None] * self.covariance * alpha + torch.diag(sigma**2)
        gain = torch.linalg.solve(noisy, alpha[:, None] * self.covariance).T
        return gain @ z, self.covariance - gain @ (alpha[:, None] * self.covariance)


def world(network, count, start=None, names=(), step=6):
    spec = Spec((Channel("t2m"), Channel("msl")), GRID, timedelta(hours=step), 1, names)
    model = Model(network, spec, Card("prior"))
    times = np.datetime64("2026-01-30T00", "ns") + np.arange(count) * np.timedelta64(step, "h")
    return model, scene_of(model, times, xr.Dataset(), start)


@dataclass
class Demand:
    """A constraint that observes what a function of the window says."""

    observe: object
    groups: tuple = ()
    name: str = "demand"

    def bind(self, scene):
        return Bound(self.name, self.observe, self.groups)


def entries(index, value, variance=4.0):
    operator = Observe(torch.tensor(index), (FRAMES, *SHAPE))
    return Observation(operator, torch.tensor(value, dtype=torch.float64), variance)


def conditioned(prior, z, clean, rows, value, variance):
    """Return the mean of normalised frames given z, whose first `clean` numbers are exact."""
    t = torch.ones(FRAMES)
    t[: clean // 16] = 0
    mean, covariance = prior.given(z, t)
    mean[:clean] = z[:clean]
    covariance[:clean] = 0
    covariance[:, :clean] = 0
    seen = rows @ covariance @ rows.T + torch.diag(variance)
    return mean + covariance @ rows.T @ torch.linalg.solve(seen, value - rows @ mean)


def test_one_step_is_the_exact_conditional_mean_in_physical_units():
    """Of two windows that guide by stations and by a mean over three states."""
    prior = Prior()
    start = (MEAN + STD * torch.linspace(-1, 1, 16).view(SHAPE)).numpy()
    model, scene = world(prior, 5, start)
    days = TimeMean(torch.tensor([[0.0, 0.5, 0.5]], dtype=torch.float64), [1], (2, 4))
    pressures = torch.linspace(99500, 100600, 8, dtype=torch.float64)
    index, values = [20, 33], [283.0, 275.0]
    constraints = [
        Demand(lambda covered: entries(index, values)),
        Demand(lambda covered: Observation(days, pressures, 900.0), name="days"),
    ]
    sampling = Sampling(steps=1, iterations=10)
    pieces = list(
        posterior(model, scene, constraints, members=2, seed=3, sampling=sampling)
    )  # fmt: skip
    assert [p.first for p in pieces] == [1, 3]
    rows = torch.zeros(10, DIM, dtype=torch.float64)
    rows[[0, 1], index] = 1
    for cell in range(8):
        rows[2 + cell, [24 + cell, 40 + cell]] = 0.5
    y = torch.cat([(torch.tensor(values).double() - 280) / 10, (pressures - 1e5) / 500])
    variance = torch.tensor([4 / 100] * 2 + [900 / 500**2] * 8, dtype=torch.float64)
    generators = member_generators(3, range(2))
    context = [((torch.from_numpy(start) - MEAN) / STD).flatten().double()] * 2
    for piece in pieces:
        noise = initial_noise((FRAMES, *SHAPE), generators, Rectified())
        for member in range(2):
            z = noise[member].flatten().double()
            z[:16] = context[member]
            x = conditioned(prior, z, 16, rows, y, variance)
            physical = (MEAN + STD * x.view(FRAMES, *SHAPE))[1:]
            error = (torch.from_numpy(piece.states[member]) - physical) / STD
            assert error.abs().max() < 2e-4
            missed = (rows @ x - y) / variance.sqrt()
            for name, own in (("demand", missed[:2]), ("days", missed[2:])):
                expected = float(own.square().mean().sqrt())
                assert piece.residuals[name][member] == pytest.approx(expected, rel=1e-2)
            context[member] = x[32:]


class Forgetful(Prior):
    """White in space; from state to state half is forgotten. It comes with that as background."""

    def __init__(self):
        super().__init__()
        apart = torch.arange(FRAMES)[:, None] - torch.arange(FRAMES)
        self.covariance = torch.kron(0.5 ** apart.abs().double(), torch.eye(16).double())
        waves = (2, 2 * 2, 4 // 2 + 1)
        self.register_buffer("spectrum", torch.ones(waves))
        self.register_buffer("memory_real", torch.full(waves, 0.5))
        self.register_buffer("memory_imag", torch.zeros(waves))


def test_one_step_by_the_background_is_the_exact_conditional_mean():
    prior = Forgetful()
    start = (MEAN + STD * torch.linspace(-1, 1, 16).view(SHAPE)).numpy()
    model, scene = world(prior, 3, start)
    index, values = [20, 33], [283.0, 275.0]
    (piece,) = posterior(
        model, scene, [Demand(lambda covered: entries(index, values, 0.25))], members=2, seed=3,
        sampling=Sampling(steps=1, guidance="background"),
    )  # fmt: skip
    rows = torch.eye(DIM, dtype=torch.float64)[index]
    y = (torch.tensor(values).double() - 280) / 10
    noise = initial_noise((FRAMES, *SHAPE), member_generators(3, range(2)), Rectified())
    for member in range(2):
        z = noise[member].flatten().double()
        z[:16] = ((torch.from_numpy(start) - MEAN) / STD).flatten()
        # the background knows the clean frame as the denoiser does: to a thousandth
        x = conditioned(prior, z, 16, rows, y, torch.full((2,), 0.25 / 100).double())
        physical = (MEAN + STD * x.view(FRAMES, *SHAPE))[1:]
        error = (torch.from_numpy(piece.states[member]) - physical) / STD
        assert error.abs().max() < 1e-3


def test_a_model_without_a_background_says_so():
    model, scene = world(Prior(), 3)
    with pytest.raises(
        ValueError, match=r"prior was trained without one; take .*background = true"
    ):
        posterior(model, scene, members=1, seed=0, sampling=Sampling(guidance="background"))


@pytest.mark.parametrize("iterations", [100, 1])
def test_systems_that_the_background_does_not_solve_are_said_once(monkeypatch, iterations):
    """In two windows of fifteen steps, of two members."""
    monkeypatch.setattr("xwx.diffusion.guidance._BACKGROUND_ITERATIONS", iterations)
    model, scene = world(Forgetful(), 5)
    index = list(range(0, DIM, 3))
    values = (MEAN.expand(SHAPE).flatten().repeat(FRAMES))[index].tolist()
    demand = Demand(lambda covered: entries(index, values, 0.25))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampling = Sampling(guidance="background", batch=1)
        list(posterior(model, scene, [demand], members=2, seed=3, sampling=sampling))
    said = [str(w.message) for w in caught if "ended before" in str(w.message)]
    assert len(said) == (iterations < 100)
    for text in said:
        assert "window from 2026-01-30T00" in text
        assert "give the constraints a larger noise, or fewer values" in text


def waved(**changes):
    """Return a small network with a background, as a model."""
    spec = Spec((Channel("t2m"), Channel("msl")), Grid.regular(8, 16, poles=False))
    config = WindConfig.preset("wind_tiny", frames=FRAMES, background=True, **changes)
    return Model(Wind(config, spec).eval(), spec, Card("waved"))


def test_guidance_by_the_background_is_planned_without_passes_backward(monkeypatch):
    """The network once for each member, V once, and what multiplies by it for each member."""
    model, cpu = waved(), torch.device("cpu")
    sampling = Sampling(guidance="background")
    assert room.passes_backward(sampling) == 0

    def taken(members, *, guided=True):
        return room.sampling_footprint(model, sampling, guided=guided, device=cpu, members=members)

    waves = 2 * 16 * 9
    free = [taken(n, guided=False).operations for n in (1, 3)]
    assert free[1] > 2.9 * free[0] > 1e6
    for members, of_network in zip((1, 3), free, strict=True):
        product = 2 * waves * FRAMES**3 + members * 2 * waves * FRAMES**2
        assert taken(members).operations == of_network + product
    one, three = taken(1), taken(3)
    assert one.peak < three.peak <= one.weights + 3 * (one.peak - one.weights)
    # on a device with room for three members and a half
    real = room.sampling_footprint
    monkeypatch.setattr(
        room, "sampling_footprint", lambda *given, device, **more: real(*given, device=cpu, **more)
    )
    enough = one.weights + 3.5 * (one.peak - one.weights) / 0.8
    monkeypatch.setattr(room, "free_on_device", lambda device: enough)
    there = torch.device("cuda")
    assert room.members_at_once(model, 64, sampling, guided=True, device=there) == 3
    assert room.members_at_once(model, 2, sampling, guided=True, device=there) == 2
    assert room.members_at_once(model, 64, sampling, guided=True, device=cpu) == 1


def test_samples_have_the_conditional_distribution():
    """Sixty-four members, fifteen steps: mean and spread of what is seen, and of all else."""
    prior = Prior()
    model, scene = world(prior, 3)
    observed = [Demand(lambda covered: entries([0, 17], [290.0, 275.0], 1.0))]
    sampling = Sampling(steps=30, iterations=2, batch=64)
    (piece,) = posterior(model, scene, observed, members=64, seed=0, sampling=sampling)
    assert piece.first == 0
    states = (torch.from_numpy(piece.states).double() - MEAN) / STD
    x = states.flatten(1)
    rows = torch.eye(DIM, dtype=torch.float64)[[0, 17]]
    y = torch.tensor([1.0, -0.5], dtype=torch.float64)
    seen = rows @ prior.covariance @ rows.T + 0.01 * torch.eye(2)
    gain = prior.covariance @ rows.T @ torch.linalg.inv(seen)
    mean, covariance = gain @ y, prior.covariance - gain @ rows @ prior.covariance
    spread = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean) / spread).abs().max() < 4.5 / 8
    assert (x.std(0) / spread).median() == pytest.approx(1, abs=0.08)
    assert x[:, [0, 17]].std(0).max() < 0.2 < 0.5 < spread[1]


class Told(torch.nn.Module):
    """Gives back the forcing in its first channel, and the number of its window in the second."""

    frames = FRAMES

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", MEAN)
        self.register_buffer("std", STD)

    def denoise(self, z, forcing, t):
        return torch.stack(
            [forcing[:, :, 0].expand_as(z[:, :, 0]), z[:, :1, 1] + 0 * z[:, :, 1]], 2
        )


def test_every_window_is_told_the_forcings_of_its_times():
    start = MEAN.expand(SHAPE).numpy().copy()
    model, scene = world(Told(), 6, start, ("cos_local_time",), step=5)
    got = list(posterior(model, scene, members=2, seed=0, sampling=Sampling(steps=1)))
    assert [(p.first, p.states.shape[1]) for p in got] == [(1, 2), (3, 2), (5, 1)]
    states = np.concatenate([p.states for p in got], axis=1)
    expected = forcings(scene.times, GRID, ("cos_local_time",))[1:, 0]
    np.testing.assert_allclose(states[1, :, 0], 280 + 10 * expected, rtol=1e-6)
    np.testing.assert_array_equal(states[:, :, 1], np.float32(1e5))  # the start, handed on


@pytest.fixture(scope="module")
def tiny():
    """A network that draws on everything, with random weights."""
    spec = Spec((Channel("t2m"), Channel("msl")), Grid.regular(8, 16, poles=False))
    torch.manual_seed(0)
    network = Wind(WindConfig.preset("wind_tiny", frames=FRAMES), spec).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    network.set_statistics(MEAN, STD, STD)
    return Model(network, spec, Card("tiny"))


def drawn(model, members=3, count=6, constraints=(), **options):
    times = np.datetime64("2026-01-30T00", "ns") + np.arange(count) * np.timedelta64(6, "h")
    scene = scene_of(model, times, xr.Dataset(), None)
    sampling = Sampling(**{"steps": 2, **options})
    return posterior(model, scene, constraints, members=members, seed=5, sampling=sampling)


def joined(pieces):
    return np.concatenate([piece.states for piece in pieces], axis=1)


FAR = pytest.mark.filterwarnings("ignore:the constraint .* is missed:xwx.errors.XwxWarning")


@FAR
@pytest.mark.parametrize("guided", [False, True])
def test_a_member_has_the_same_bits_in_any_ensemble(tiny, guided):
    def observe(covered):
        operator = Observe(torch.tensor([5, 300]), (FRAMES, 2, 8, 16))
        return Observation(operator, torch.tensor([285.0, 101000.0]), 1.0)

    constraints = [Demand(observe)] if guided else []
    options = {"constraints": constraints, "eta": 0.5}
    five = joined(drawn(tiny, 5, **options))
    assert not np.array_equal(five[0], five[1])
    np.testing.assert_array_equal(joined(drawn(tiny, 2, **options)), five[:2])
    together = joined(drawn(tiny, 5, batch=3, **options))
    np.testing.assert_allclose(together, five, rtol=1e-4)


def test_the_network_is_left_as_it_was(tiny):
    before = {name: p.clone() for name, p in tiny.network.state_dict().items()}
    torch.manual_seed(8)
    expected = torch.rand(1)
    torch.manual_seed(8)
    list(drawn(tiny, 1, 3, [Demand(lambda covered: Observation(
        Observe(torch.tensor([5]), (FRAMES, 2, 8, 16)), torch.tensor([285.0]), 1.0))]))  # fmt: skip
    assert torch.equal(torch.rand(1), expected)  # nor are numbers drawn of the user's
    assert all(p.requires_grad and p.grad is None for p in tiny.network.parameters())
    assert all(torch.equal(p, before[n]) for n, p in tiny.network.state_dict().items())


@FAR
def test_groups_shape_the_windows_and_residuals_are_of_what_guided_them(tiny):
    asked = []

    def observe(covered):
        asked.append(covered)
        inside = [g for g in groups if g.start in covered and g.stop - 1 in covered]
        if not inside:
            return None
        frame = inside[0].start - covered.start
        operator = Observe(torch.tensor([frame * 256]), (FRAMES, 2, 8, 16))
        return Observation(operator, torch.tensor([285.0]), 4.0)

    groups = (range(2), range(3, 5))
    plain = Demand(lambda covered: entries_of_all(covered), name="demand")

    def entries_of_all(covered):
        operator = Observe(torch.arange(3), (FRAMES, 2, 8, 16))
        return Observation(operator, torch.tensor([280.0, 281.0, 282.0]), 1.0)

    constraints = [Demand(observe, groups), plain, Demand(lambda covered: None, name="never")]
    pieces = list(drawn(tiny, 2, 7, constraints))
    # Of the first window three states would fit, and the fourth and fifth go together.
    assert [(p.first, p.states.shape[1]) for p in pieces] == [(0, 3), (3, 2), (5, 2)]
    assert asked == [range(3), range(2, 5), range(4, 7)]
    for piece in pieces:
        assert list(piece.residuals) == ["demand", "demand_2", "never"]
        assert np.isnan(piece.residuals["never"]).all()
    assert np.isnan(pieces[2].residuals["demand"]).all()
    first = pieces[0].states[:, 0, 0]
    np.testing.assert_allclose(
        pieces[0].residuals["demand"], abs(first[:, 0, 0] - 285) / 2, rtol=1e-4
    )
    missed = first[:, 0, :3] - np.array([280, 281, 282])
    np.testing.assert_allclose(
        pieces[0].residuals["demand_2"], np.sqrt((missed**2).mean(1)), rtol=1e-4
    )


def test_the_problems_of_all_constraints_come_together_before_anything_runs(tiny):
    class Lacking:
        def __init__(self, where):
            self.where = where

        def bind(self, scene):
            raise MismatchError([Problem("missing", self.where, "is missing", "add it")], "this")

    with pytest.raises(MismatchError) as caught:
        drawn(tiny, constraints=[Lacking("orography"), Demand(None), Lacking("sst")])
    found = [problem.where for problem in caught.value.problems]
    assert found == ["Lacking: orography", "Lacking: sst"]
    with pytest.raises(ValueError, match="a group is 3 frames long"):
        drawn(tiny, constraints=[Demand(None, (range(3, 6),))])
    with pytest.raises(TypeError, match="constraints holds a str"):
        drawn(tiny, constraints=["dry air"])
    with pytest.raises(TypeError, match=r"constraints=\[DryAirMass\(\)\]"):
        drawn(tiny, constraints=Demand(None))


@pytest.mark.parametrize(
    ("guidance", "variance", "words"),
    [
        ("mmps", 1e-2, r"more iterations come nearer, .*iterations=6\); where constraints"),
        ("dps", 1e-2, r"20\S+: where constraints contradict"),
        ("mmps", 1e-6, r"another unit than theirs, fill values"),
    ],
)
def test_a_constraint_that_is_missed_by_far_is_said_once(tiny, guidance, variance, words):
    def observe(covered):
        operator = Observe(torch.tensor([5]), (FRAMES, 2, 8, 16))
        return Observation(operator, torch.tensor([285.0]), variance)

    with pytest.warns(XwxWarning, match=f"'demand' is missed by .*{words}") as caught:
        list(drawn(tiny, 2, 7, [Demand(observe)], guidance=guidance))
    assert len(caught) == 1


def test_there_has_to_be_something_to_sample():
    model, scene = world(Prior(), 1, np.zeros(SHAPE, np.float32))
    with pytest.raises(ValueError, match="nothing to sample"):
        posterior(model, scene, members=1, seed=0)


def test_values_that_are_not_finite_are_named():
    prior = Prior()
    prior.denoise = lambda z, forcing, t: torch.stack([z[:, :, 0], z[:, :, 1] / 0], dim=2)
    model, scene = world(prior, 3)
    with pytest.raises(XwxError, match=r"prior gave values .* window from 2026-01-30.* in msl:"):
        next(posterior(model, scene, members=1, seed=0))


def test_the_bar_moves_with_every_evaluation_and_ends_at_the_number_of_states(tiny):
    class Bar:
        moves = ()

        def update(self, by):
            self.moves = (*self.moves, by)

    bar = Bar()
    times = np.datetime64("2026-01-30T00", "ns") + np.arange(6) * np.timedelta64(6, "h")
    scene = scene_of(tiny, times, xr.Dataset(), np.zeros((2, 8, 16), np.float32))
    sampling = Sampling(steps=4, batch=2)
    pieces = posterior(tiny, scene, members=3, seed=0, sampling=sampling, bar=bar)
    next(pieces)
    assert sum(bar.moves) == 2
    assert len(bar.moves) == 4 * 2
    list(pieces)
    assert sum(bar.moves) == 5  # to the last bit: tqdm warns of more than its total


def test_what_was_asked_for_is_said_in_words():
    xarrayed = xr.Dataset({"t2m": ("station", [1.0]), "msl": ("station", [1.0])})

    @dataclass(frozen=True)
    class Reports:
        values: object
        noise: object = None

    said = demands(Sampling(steps=3), [Reports(xarrayed, "1 K"), Reports(np.sin)])
    assert (
        said["xwx_constraints"] == "Reports(values=<t2m, msl>, noise='1 K'), Reports(values=<sin>)"
    )
    assert '"steps": 3' in said["xwx_sampling"]
    assert "xwx_constraints" not in demands(Sampling(), [])


def test_a_generative_model_denoises(tiny, worlds):
    assert generative(tiny)
    assert not generative(worlds.toy())


@pytest.mark.parametrize(
    ("setting", "error", "words"),
    [
        ({"steps": 0}, ValueError, "steps=0: give at least 1"),
        ({"steps": 2.0}, TypeError, "steps=2.0 is a float"),
        ({"batch": True}, TypeError, "batch=True is a bool"),
        ({"iterations": -1}, ValueError, "iterations=-1"),
        ({"eta": 1.5}, ValueError, "eta=1.5: give a number from 0 to 1"),
        ({"guidance": "best"}, ValueError, "guidance='best'.*'mmps', 'background'"),
        ({"solver": "lu"}, ValueError, "solver='lu'.*'gmres', 'cg'"),
    ],
)
def test_settings_that_make_no_sense(setting, error, words):
    with pytest.raises(error, match=words):
        Sampling(**setting)


@FAR
def test_settings_reach_the_sampler(tiny):
    base = joined(drawn(tiny, 1))
    for change in ({"steps": 3}, {"eta": 1.0}):
        assert not np.array_equal(joined(drawn(tiny, 1, **change)), base)

    def observe(covered):
        operator = Observe(torch.tensor([5, 300]), (FRAMES, 2, 8, 16))
        return Observation(operator, torch.tensor([285.0, 101000.0]), 1.0)

    constraints = [Demand(observe)]
    changes = [{}, {"guidance": "pigdm"}, {"guidance": "tmpd"}, {"guidance": "dps"},
               {"solver": "cg"}, {"iterations": 1}]  # fmt: skip
    results = [joined(drawn(tiny, 1, 3, constraints, **change)) for change in changes]
    for a, b in itertools.combinations(results, 2):
        assert not np.array_equal(a, b)
