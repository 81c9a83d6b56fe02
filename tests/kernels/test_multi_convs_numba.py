"""What is particular to the multi-convs on the CPU: blocks, groups of columns, threads, memory."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from xwx_kernels import multi_convs
from xwx_kernels._numba import compiling, correlation
from xwx_kernels._numba import multi_convs as implementation

BLOCK = correlation.BLOCK
PADDINGS = [(lon, lat) for lon in ("circular", "zero") for lat in ("zero", "pole")]


# ---- independent references: numpy pads, one Conv2d a branch, float64


def sources(
    size: tuple[int, int], radius: int, longitude: str, latitude: str
) -> tuple[np.ndarray, np.ndarray]:
    """Pad maps of 1-based row and column numbers; 0 is nothing."""
    rows, columns = np.indices(size) + 1
    out = []
    for field in (rows, columns):
        if latitude == "pole":
            globe = np.concatenate([field, np.roll(field[::-1], size[1] // 2, axis=1)])
            laps = radius // len(globe) + 1
            start = laps * len(globe) - radius
            field = np.concatenate([globe] * (2 * laps + 1))[start : start + size[0] + 2 * radius]
        else:
            field = np.pad(field, ((radius, radius), (0, 0)))
        mode = "wrap" if longitude == "circular" else "constant"
        out.append(np.pad(field, ((0, 0), (radius, radius)), mode=mode))
    return out[0], out[1]


def branches(
    x: Tensor, kernels: list[Tensor], size: tuple[int, int], longitude: str, latitude: str
) -> Tensor:
    """Return the sum of separate convolutions in float64, differentiable."""
    batch, _, channels = x.shape
    grid = x.double().view(batch, *size, channels)
    total = torch.zeros_like(grid)
    for kernel in kernels:
        radius = kernel.shape[-1] // 2
        rows, columns = sources(size, radius, longitude, latitude)
        lookup = torch.from_numpy((rows - 1) * size[1] + columns - 1)
        seen = grid.flatten(1, 2)[:, lookup.clamp(min=0).flatten()].view(batch, *lookup.shape, -1)
        seen = torch.where(torch.from_numpy(rows > 0)[..., None], seen, 0.0)
        layer = nn.Conv2d(channels, channels, kernel.shape[-1], groups=channels, bias=False)
        y = torch.func.functional_call(
            layer, {"weight": kernel.double()}, (seen.permute(0, 3, 1, 2),)
        )
        total = total + y.permute(0, 2, 3, 1)
    return total.reshape(x.shape)


def draw(
    size: tuple[int, int],
    channels: int = 3,
    sizes: tuple[int, ...] = (1, 3, 5),
    *,
    batch: int = 2,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Tensor, list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, gy = torch.randn(2, batch, size[0] * size[1], channels, generator=generator).to(dtype)
    kernels = [torch.randn(channels, 1, k, k, generator=generator).to(dtype) for k in sizes]
    return x, kernels, gy


def results(
    x: Tensor, kernels: list[Tensor], gy: Tensor, size: tuple[int, int], *padding: str
) -> list[Tensor]:
    """Return the output and every gradient of the implementation under test."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, *kernels)]
    longitude, latitude = padding or ("circular", "zero")
    y = multi_convs(*leaves, size=size, longitude=longitude, latitude=latitude, backend="numba")
    return [y.detach(), *torch.autograd.grad(y, leaves, gy)]


def expected(
    x: Tensor, kernels: list[Tensor], gy: Tensor, size: tuple[int, int], *padding: str
) -> list[Tensor]:
    leaves = [t.detach().double().requires_grad_() for t in (x, *kernels)]
    y = branches(leaves[0], leaves[1:], size, *(padding or ("circular", "zero")))
    return [y.detach(), *torch.autograd.grad(y, leaves, gy.double())]


def agree(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for n, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert a.shape == b.shape
        assert (a.double() - b).norm() <= tolerance * b.norm(), f"output {n}"


# ---- numbers


@pytest.mark.parametrize("channels", [1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7])
def test_channels_around_the_size_of_a_block(channels):
    case = (*draw((4, 6), channels), (4, 6))
    agree(results(*case), expected(*case), 1e-12)


@pytest.mark.parametrize(("longitude", "latitude"), PADDINGS)
@pytest.mark.parametrize("width", range(2, 10))
def test_widths_around_the_groups_of_columns(width, longitude, latitude):
    if latitude == "pole" and width % 2:
        width += 9  # 12, 14, 16, 18: halves of 6 to 9 columns
    case = (*draw((3, width), 2), (3, width), longitude, latitude)
    agree(results(*case), expected(*case), 1e-12)


@pytest.mark.parametrize(("longitude", "latitude"), PADDINGS)
@pytest.mark.parametrize("size", [(1, 2), (1, 6), (2, 4), (3, 10), (5, 4)])
@pytest.mark.parametrize("radii", [(0,), (1,), (2,), (3,), (0, 5), (2, 2, 1), (11, 1)])
def test_every_radius_up_to_several_times_round(radii, size, longitude, latitude):
    sizes = tuple(2 * radius + 1 for radius in radii)
    case = (*draw(size, 2, sizes), size, longitude, latitude)
    agree(results(*case), expected(*case), 1e-12)


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 3), (7, 5)])
def test_maps_without_a_globe(size):
    case = (*draw(size, 2), size, "zero", "zero")
    agree(results(*case), expected(*case), 1e-12)


@pytest.mark.parametrize(("longitude", "latitude"), PADDINGS)
def test_float32(longitude, latitude):
    size = (37, 72)
    x, kernels, gy = draw(size, 70, dtype=torch.float32)
    # Sums that do not cancel are the hard case for the gradients of the kernels.
    case = (x + 1, kernels, gy + 1, size, longitude, latitude)
    found = results(*case)
    assert all(t.dtype == torch.float32 for t in found)
    agree(found, expected(*case), 1e-6)


@pytest.mark.parametrize("shape", [(0, 12, 3), (2, 12, 0)])
def test_nothing_in_nothing_out(shape):
    x = torch.zeros(shape, requires_grad=True)
    kernel = torch.ones(shape[2], 1, 3, 3, requires_grad=True)
    y = multi_convs(x, kernel, size=(3, 4), backend="numba")
    y.sum().backward()
    assert y.shape == x.grad.shape == shape
    assert kernel.grad.count_nonzero() == 0


@pytest.mark.parametrize(("longitude", "latitude"), PADDINGS)
@pytest.mark.parametrize("place", [(0, 0), (3, 5), (6, 9)])
def test_infinity_reaches_its_neighbours_alone(place, longitude, latitude):
    size = (7, 10)
    x, kernels, gy = draw(size, BLOCK + 1)
    grid = x.view(2, *size, -1)
    grid[1, *place, BLOCK] = torch.inf
    near = torch.zeros(size, dtype=torch.bool)
    rows, columns = sources(size, 2, longitude, latitude)
    for i, j in np.argwhere((rows == place[0] + 1) & (columns == place[1] + 1)):
        near[max(0, i - 4) : i + 1, max(0, j - 4) : j + 1] = True
    y, dx, *dk = results(x, kernels, gy, size, longitude, latitude)
    y = y.view(2, *size, -1)
    assert not y[1, ..., BLOCK][near].isfinite().any()
    y[1, ..., BLOCK][near] = 0
    assert y.isfinite().all()
    assert dx.isfinite().all()
    assert all(g[:BLOCK].isfinite().all() for g in dk)


def test_an_infinite_gradient_is_not_made_nan_by_missing_columns():
    """The last columns are fewer than a group; what is not there must not be multiplied."""
    size = (1, 6)
    x, kernels, gy = torch.ones(1, 6, 1), [torch.ones(1, 1, 3, 3)], torch.ones(1, 6, 1)
    gy[0, 1] = torch.inf
    _, _, dk = results(x, kernels, gy, size)
    assert dk[0, 0, 1].tolist() == [torch.inf] * 3
    assert dk[0, 0, 0].tolist() == dk[0, 0, 2].tolist() == [0.0] * 3


@pytest.mark.parametrize("latitude", ["zero", "pole"])
@pytest.mark.parametrize("size", [(3, 6), (2, 14)])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_taps_beyond_an_edge_do_not_see_what_is_not_finite(bad, size, latitude):
    """A tap that reaches beyond an edge of zeros has no such term, so it stays finite."""
    for place in np.ndindex(size):
        x, kernels, gy = draw(size, 2)
        x.view(2, *size, 2)[1, *place, 0] = bad
        found = results(x, kernels, gy, size, "zero", latitude)[2:]
        wanted = expected(x, kernels, gy, size, "zero", latitude)[2:]
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a.isfinite(), b.isfinite())
        assert found[2].isfinite().any()


# ---- what is not asked for is not done


@pytest.mark.parametrize("need_x", [True, False])
@pytest.mark.parametrize("need_kernels", [True, False])
def test_what_is_not_needed_is_none(need_x, need_kernels):
    size = (4, 6)
    x, kernels, gy = draw(size)
    _, *wanted = expected(x, kernels, gy, size)
    # Without gradients of kernels nothing may depend on the tokens, nor on kernels without dx.
    blind = x if need_kernels else torch.full_like(x, torch.nan)
    dull = kernels if need_x else [torch.full_like(k, torch.nan) for k in kernels]
    dx, dk = implementation.backward(
        gy, blind, dull, size, "circular", "zero", need_x=need_x, need_kernels=need_kernels
    )
    assert (dx is not None) == need_x
    assert len(dk) == 3
    assert all((g is not None) == need_kernels for g in dk)
    if need_x:
        agree([dx], wanted[:1], 1e-12)
    if need_kernels:
        agree(dk, wanted[1:], 1e-12)


def test_frozen_inputs_get_no_gradient():
    x, kernels, gy = draw((4, 6))
    kernels[1].requires_grad_()
    multi_convs(x, *kernels, size=(4, 6), backend="numba").backward(gy)
    wanted = expected(x, kernels, gy, (4, 6))
    agree([kernels[1].grad], [wanted[3]], 1e-12)
    assert x.grad is kernels[0].grad is kernels[2].grad is None


def test_branches_of_one_size_get_equal_gradients_in_memory_of_their_own():
    _, _, *dk = results(*draw((4, 6), 1, (3, 3, 1)), (4, 6))
    assert torch.equal(dk[0], dk[1])
    assert len({g.untyped_storage().data_ptr() for g in dk}) == 3


# ---- memory


@pytest.fixture
def poisoned():
    """Let every `torch.empty` come filled with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("longitude", "latitude"), PADDINGS)
def test_nothing_is_read_before_it_is_written(longitude, latitude):
    for channels, sizes in ((3, (1, 3, 5)), (BLOCK + 1, (7,))):
        case = (*draw((3, 6), channels, sizes), (3, 6), longitude, latitude)
        agree(results(*case), expected(*case), 1e-12)


def test_tokens_that_lie_otherwise_in_memory():
    x, kernels, gy = draw((4, 6))
    wanted = results(x, kernels, gy, (4, 6))
    x, gy = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in (x, gy))
    kernels = [k.transpose(2, 3).contiguous().transpose(2, 3) for k in kernels]
    assert all(map(torch.equal, results(x, kernels, gy, (4, 6)), wanted))


# ---- threads and processes


@pytest.fixture
def threads():
    """Set the number of threads, and let any amount of work be worth a thread."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "_WORTH_A_THREAD", 1)
        yield torch.set_num_threads
    torch.set_num_threads(before)


def case_of_many_tasks() -> tuple:
    return (
        *draw((6, 10), 2 * BLOCK + 3, batch=3, dtype=torch.float32),
        (6, 10),
        "circular",
        "pole",
    )


def test_shares_cover_all_tasks_once(threads):
    for number in (1, 2, 3, 7):
        threads(number)
        for tasks in (0, 1, 2, 3, 7, 50):
            ranges = compiling.shares(tasks, 10**9)
            assert len(ranges) == max(1, min(number, tasks))
            assert [n for first, last in ranges for n in range(first, last)] == list(range(tasks))


def test_little_work_stays_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert len(compiling.shares(100, 1000)) == 1
        assert len(compiling.shares(100, 10**10)) == 4
    finally:
        torch.set_num_threads(before)


def test_the_same_bits_for_every_number_of_threads(threads):
    case = case_of_many_tasks()
    threads(1)
    first = results(*case)
    agree(first, expected(*case), 1e-6)
    for number in (1, 2, 3, 16):
        threads(number)
        for _ in range(3):
            assert all(map(torch.equal, results(*case), first))


def test_every_thread_has_rows_of_its_own(threads, monkeypatch):
    used = []

    def watch(first: int, last: int, arrays: tuple, scratch: tuple, *rest: tuple) -> None:
        used.append([a.ctypes.data for a in scratch])
        correlation.sweep(first, last, arrays, scratch, *rest)

    monkeypatch.setattr(implementation, "sweep", watch)
    threads(3)
    case = case_of_many_tasks()
    agree(results(*case), expected(*case), 1e-6)
    assert len(used) == 6  # three forward, three backward
    for calls in (used[:3], used[3:]):
        assert len({address for call in calls for address in call}) == 12


def test_calls_from_several_threads_at_once(threads):
    threads(3)
    cases = [(*draw((6, 10), 150, seed=n), (6, 10)) for n in range(4)]
    alone = [results(*case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: results(*cases[n % 4]), range(24)))
    for n, found in enumerate(together):
        assert all(map(torch.equal, found, alone[n % 4]))


def test_what_fails_on_another_thread_is_raised():
    def run(share: int, first: int, last: int) -> None:
        if share == 0:
            raise ArithmeticError("on another thread")

    with pytest.raises(ArithmeticError, match="another"):
        compiling.in_shares(run, [(0, 1), (1, 2)])


def _answer(pipe: multiprocessing.connection.Connection) -> None:
    case = case_of_many_tasks()
    torch.set_num_threads(3)
    x, kernels, gy, size, *padding = case
    y = implementation.forward(x, kernels, size, *padding)
    dx, dk = implementation.backward(gy, x, kernels, size, *padding, need_x=True, need_kernels=True)
    pipe.send([t.numpy() for t in (y, dx, *dk)])


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot fork here"
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_answers(threads):
    threads(3)
    wanted = results(*case_of_many_tasks())  # wakes the threads that a fork does not inherit
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs,))
    child.start()
    try:
        assert mine.poll(60), "the forked process hangs"
        found = mine.recv()
    finally:
        child.kill()
        child.join()
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(found, wanted, strict=True))


# ---- compilation


def test_no_place_for_a_cache_is_no_error():
    names: dict = {}
    exec("def double(x):\n    return 2 * x", names)  # of no file, so there is no place beside it
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(names["double"])
    assert compiling.compiled(names["double"])(21) == 42


def test_one_specialisation_for_each_type():
    for dtype in (torch.float32, torch.float64):
        for longitude, latitude in PADDINGS:
            results(*draw((2, 4), dtype=dtype), (2, 4), longitude, latitude)
    assert len(correlation.sweep.signatures) == 2


# ---- torch's own view


def test_opcheck_forward():
    x, kernels, _ = draw((3, 4), 2)
    inputs = (x.requires_grad_(), [k.requires_grad_() for k in kernels])
    torch.library.opcheck(
        torch.ops.xwx_kernels.multi_convs.default, (*inputs, 3, 4, "circular", "zero", "numba")
    )


@pytest.mark.parametrize("need_x", [True, False])
@pytest.mark.parametrize("need_kernels", [True, False])
def test_opcheck_backward(need_x, need_kernels):
    x, kernels, gy = draw((3, 4), 2)
    settings = (3, 4, "circular", "pole", "numba", need_x, need_kernels)
    torch.library.opcheck(
        torch.ops.xwx_kernels.multi_convs_backward.default, (gy, x, kernels, *settings)
    )


def test_compiled_graphs_give_the_same():
    size = (4, 6)
    x, kernels, gy = draw(size)

    def op(x: Tensor, *kernels: Tensor) -> Tensor:
        return 2 * multi_convs(x, *kernels, size=size, backend="numba")

    outcomes = []
    for run in (op, torch.compile(op, fullgraph=True, backend="aot_eager")):
        leaves = [t.clone().requires_grad_() for t in (x, *kernels)]
        y = run(*leaves)
        outcomes.append([y.detach(), *torch.autograd.grad(y, leaves, gy)])
    assert all(map(torch.equal, *outcomes))
    torch.compiler.reset()
