"""Windows joined to any length: which frames come out, and what is kept of them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from xwx.diffusion.chain import Window, chain, plan_windows, window_count
from xwx.diffusion.noise import draw, initial_noise, member_generators
from xwx.diffusion.sample import sample
from xwx.diffusion.schedule import Rectified

SCHEDULE = Rectified()
SHAPE = (5, 1, 2, 3)


def counting(clean):
    """Denoise to one more each frame, counted from the last of the `clean` ones."""

    def denoise(z, t):
        return (
            z[:, clean - 1 : clean] + torch.arange(z.shape[1]).reshape(1, -1, 1, 1, 1) - clean + 1
        )

    return denoise


def run(frames, overlap=1, given=1, members=2, shape=SHAPE, **options):
    context = torch.arange(float(given)).reshape(1, -1, 1, 1, 1).expand(members, -1, *shape[1:])
    return chain(
        lambda number, covered: counting(overlap if number else given),
        frames,
        shape,
        schedule=SCHEDULE,
        generators=member_generators(0, range(members)),
        context=context,
        overlap=overlap,
        steps=2,
        **options,
    )


def test_the_number_of_windows():
    assert [window_count(n, 5) for n in (1, 5, 6, 9, 10, 40)] == [1, 1, 2, 2, 3, 10]
    assert [window_count(n, 5, 2) for n in (5, 6, 8, 9, 11, 12)] == [1, 2, 2, 3, 3, 4]
    assert [window_count(n, 2) for n in (2, 3, 4)] == [1, 2, 3]


@pytest.mark.parametrize(("window", "overlap"), [(5, 1), (5, 2), (5, 4), (2, 1), (7, 3)])
@pytest.mark.parametrize("frames", [1, 2, 5, 6, 9, 10, 13, 40])
def test_every_frame_comes_once_and_in_order(frames, window, overlap):
    """The network counts on from its context: any frame lost, doubled or swapped would show."""
    given = min(overlap, window - 1)
    pieces = list(run(frames, overlap, given, shape=(window, *SHAPE[1:])))
    assert len(pieces) == window_count(frames, window, overlap)
    together = torch.cat([p.frames for p in pieces], dim=1)
    expected = torch.arange(float(frames)).reshape(1, -1, 1, 1, 1).expand(2, -1, *SHAPE[1:])
    assert torch.equal(together, expected)
    assert [p.first for p in pieces] == [float(p.frames[0, 0, 0, 0, 0]) for p in pieces]
    assert all(p.residual is None for p in pieces)


@pytest.mark.parametrize(("window", "overlap"), [(5, 1), (5, 4), (2, 1), (7, 3)])
@pytest.mark.parametrize("frames", [1, 5, 6, 13])
def test_without_groups_windows_follow_each_other_at_one_stride(frames, window, overlap):
    windows = plan_windows(frames, window, overlap=overlap)
    assert len(windows) == window_count(frames, window, overlap)
    stride = window - overlap
    assert [w.start for w in windows] == [n * stride for n in range(len(windows))]
    assert [w.context for w in windows] == [0] + [overlap] * (len(windows) - 1)
    assert [w.keep for w in windows[:-1]] == [window] * (len(windows) - 1)


def test_a_group_is_sampled_in_one_window():
    days = [range(n, n + 4) for n in (1, 5, 9)]
    assert plan_windows(13, 5, days) == (Window(0, 0, 5), Window(4, 1, 5), Window(8, 1, 5))
    # From no start: the first day fits, and the fifth state is of the next one.
    days = [range(n, n + 4) for n in (0, 4, 8)]
    assert plan_windows(12, 5, days) == (Window(0, 0, 4), Window(3, 1, 5), Window(7, 1, 5))
    # Frames of no group fill up what is left of a window.
    assert plan_windows(9, 5, [range(3, 6)]) == (Window(0, 0, 3), Window(2, 1, 5), Window(6, 1, 3))
    # Those that share frames are one.
    twos = [range(2), range(1, 3), range(2, 4), range(5, 7)]
    assert plan_windows(7, 5, twos) == (Window(0, 0, 5), Window(4, 1, 3))


@st.composite
def series(draw):
    """Frames, a window, an overlap, and groups that fit, some of which share frames."""
    window = draw(st.integers(2, 8))
    overlap = draw(st.integers(1, window - 1))
    groups, end = [], draw(st.integers(0, 3))
    for _ in range(draw(st.integers(0, 6))):
        length = draw(st.integers(1, window - overlap))
        group = range(end, end + length)
        groups.append(group)
        if length > 2 and draw(st.booleans()):
            groups.append(range(end + 1, end + length - 1))
            groups.append(range(end, end + 2))
        end += length + draw(st.integers(0, 4))
    frames = max([end, 1]) + draw(st.integers(0, 5))
    return frames, window, overlap, draw(st.permutations(groups))


@drawn(series())
@settings(max_examples=150, deadline=None)
def test_windows_hold_every_group_and_every_frame_once(case):
    frames, window, overlap, groups = case
    windows = plan_windows(frames, window, groups, overlap)
    made = []
    for number, w in enumerate(windows):
        assert w.context == (overlap if number else 0)
        assert w.start >= 0
        assert w.context < w.keep <= window
        assert w.start + w.context == len(made)  # begins with the last frames that were made
        made += range(w.start + w.context, w.start + w.keep)
    assert made == list(range(frames))
    for group in groups:
        sampled = [
            {f for f in group if w.start + w.context <= f < w.start + w.keep} for w in windows
        ]
        assert [s for s in sampled if s] == [set(group)]
    # None ends early without need: a longer one would cut a group.
    for w in windows[:-1]:
        for end in range(w.start + w.keep + 1, w.start + window + 1):
            assert any(g.start < end < g.stop for g in groups)


def test_groups_that_no_window_holds():
    with pytest.raises(ValueError, match=r"a group is 5 frames long \(4 to 8\).*at least 6 frames"):
        plan_windows(20, 5, [range(4), range(4, 9)])
    assert len(plan_windows(5, 5, [range(5)])) == 1  # the first window has nothing before it
    with pytest.raises(ValueError, match="2 groups that overlap are 6 frames long"):
        plan_windows(20, 5, [range(6, 10), range(8, 12)])
    for outside in (range(3, 8), range(-1, 2), range(0, 6, 2)):
        with pytest.raises(ValueError, match="no group of consecutive frames from 0 to 6"):
            plan_windows(7, 5, [outside])
    with pytest.raises(ValueError, match="overlap is 5"):
        plan_windows(7, 5, overlap=5)
    with pytest.raises(ValueError, match="context has 3 frames, and the groups let"):
        run(12, given=3, groups=[range(2, 6)])


def test_frames_after_a_cut_are_made_again_from_the_last_kept_one():
    """The network counts on from its context, here with windows of 5, 3 and 5 frames."""
    pieces = list(run(10, groups=[range(1, 5), range(5, 7), range(7, 10)]))
    assert [(p.first, p.frames.shape[1]) for p in pieces] == [(0, 5), (5, 2), (7, 3)]
    together = torch.cat([p.frames for p in pieces], dim=1)[0, :, 0, 0, 0]
    assert together.tolist() == list(range(10))


def test_five_frames_then_four_then_what_is_left():
    assert [p.frames.shape[1] for p in run(11)] == [5, 4, 2]
    assert [p.frames.shape[1] for p in run(13)] == [5, 4, 4]
    assert [p.frames.shape[1] for p in run(3)] == [3]


def test_more_context_at_the_start_than_later():
    pieces = list(run(12, overlap=1, given=3))
    assert torch.cat([p.frames for p in pieces], dim=1)[0, :, 0, 0, 0].tolist() == list(range(12))


def test_the_context_is_returned_bit_by_bit_and_starts_the_next_window():
    g = torch.Generator().manual_seed(2)
    context = torch.randn(3, 2, *SHAPE[1:], generator=g)
    seen = []

    def denoise(z, t):
        seen.append(z[:, :2].clone())
        return torch.sin(3 * z) + 1

    pieces = list(
        chain(
            lambda number, covered: denoise, 8, SHAPE, schedule=SCHEDULE, context=context,
            generators=member_generators(0, range(3)), overlap=2, steps=3,
        )
    )  # fmt: skip
    assert torch.equal(pieces[0].frames[:, :2], context)
    for call in seen[:3]:
        assert torch.equal(call, context)
    for call in seen[3:6]:
        assert torch.equal(call, pieces[0].frames[:, -2:])
    assert len(seen) == 6


def test_windows_are_those_of_the_sampler_with_the_generators_going_on():
    def denoise(z, t):
        return torch.sin(z) + t.reshape(*t.shape, 1, 1, 1)

    def pieces(members, batch):
        return list(
            chain(
                lambda number, covered: denoise, 9, SHAPE, schedule=SCHEDULE, steps=3, eta=0.5,
                generators=member_generators(4, members), batch=batch,
            )
        )  # fmt: skip

    got = pieces([1, 5], None)
    generators = member_generators(4, [1, 5])
    options = {"schedule": SCHEDULE, "steps": 3, "eta": 0.5, "generators": generators}
    first = sample(denoise, initial_noise(SHAPE, generators, SCHEDULE), **options)
    noise = initial_noise(SHAPE, generators, SCHEDULE)
    second = sample(denoise, noise, context=first[:, -1:], **options)
    assert torch.equal(got[0].frames, first)
    assert torch.equal(got[1].frames, second[:, 1:])
    for batch in (1, 3):
        many = pieces(range(7), batch)
        for a, b in zip(got, many, strict=True):
            assert torch.equal(a.frames, b.frames[[1, 5]])


def test_denoiser_and_guidance_are_told_their_window():
    asked = []

    class Guide:
        def __init__(self, add):
            self.add = add

        def __call__(self, denoise, z, t, schedule, free, *, last=False):
            asked.append((self.add, free[0].tolist(), last))
            return denoise(z, t) + self.add

        def of(self, members):
            return self

        def residual(self, x):
            return x[:, :, 0, 0, 0] - self.add

    told = []

    def denoisers(number, covered):
        told.append((number, covered))
        return lambda z, t: torch.zeros_like(z)

    def guidance(number, covered):
        assert covered == range(4 * number, 4 * number + 5)
        return None if number == 1 else Guide(10.0 + covered.start)

    pieces = list(
        chain(
            denoisers, 12, SHAPE, schedule=SCHEDULE, steps=2, guidance=guidance,
            generators=member_generators(0, range(2)), context=torch.zeros(2, 1, 1, 2, 3),
        )
    )  # fmt: skip
    assert told == [(0, range(5)), (1, range(4, 9)), (2, range(8, 13))]
    values = torch.cat([p.frames for p in pieces], dim=1)[0, :, 0, 0, 0].tolist()
    assert values == [0] + [10] * 4 + [0] * 4 + [18] * 3
    one = [False, True, True, True, True]
    assert asked == [(10, one, False), (10, one, True), (18, one, False), (18, one, True)]
    assert pieces[1].residual is None
    assert pieces[0].residual.tolist() == [[-10, 0, 0, 0, 0]] * 2
    assert pieces[2].residual.tolist() == [[-18, 0, 0, 0, 0]] * 2  # of the whole window


def test_memory_and_calls_do_not_grow_with_the_number_of_windows():
    def held():
        gc.collect()
        storages = {}
        for thing in gc.get_objects():
            if type(thing) is torch.Tensor:
                storage = thing.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
        return sum(storages.values())

    calls, sizes, alive = [], [], []

    def denoise(z, t):
        calls.append(0)
        return torch.cos(z)

    before = held()
    pieces = chain(
        lambda number, covered: denoise, 4 * 3 + 1, (5, 8, 9, 10), schedule=SCHEDULE, steps=2,
        generators=member_generators(0, range(2)),
    )  # fmt: skip
    for piece in pieces:
        alive.append(weakref.ref(piece.frames))
        del piece
        assert alive[-1]() is None
        sizes.append(held() - before)
    assert len(calls) == 2 * 3
    overlap = 2 * 1 * 8 * 9 * 10 * 4
    assert sizes == [overlap] * 3


def test_nothing_runs_before_it_is_asked_for_and_faults_are_told_at_the_call():
    class Never(Exception):
        pass

    def never(number, covered):
        raise Never

    options = {"schedule": SCHEDULE, "generators": member_generators(0, range(2))}
    lazy = chain(never, 5, SHAPE, **options)
    with pytest.raises(Never):
        next(lazy)
    with pytest.raises(ValueError, match="frames is 0"):
        chain(never, 0, SHAPE, **options)
    for overlap in (0, 5):
        with pytest.raises(ValueError, match=f"overlap is {overlap}"):
            chain(never, 9, SHAPE, overlap=overlap, **options)
    with pytest.raises(ValueError, match="context has 3 members and there are 2"):
        chain(never, 9, SHAPE, context=torch.zeros(3, 1, 1, 2, 3), **options)


def test_without_context_the_first_window_is_free_and_takes_the_given_type():
    piece = next(
        chain(
            lambda number, covered: lambda z, t: z, 5, SHAPE, schedule=SCHEDULE, steps=1,
            generators=member_generators(0, [3]), dtype=torch.float64,
        )
    )  # fmt: skip
    (g,) = member_generators(0, [3])
    expected = draw(SHAPE, [g], dtype=torch.float64) * (1 + 1e-6) ** 0.5
    torch.testing.assert_close(piece.frames, expected, rtol=1e-15, atol=0)
