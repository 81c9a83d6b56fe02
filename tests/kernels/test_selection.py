"""Which implementation runs, what "auto" takes, and what an order that cannot be obeyed says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from xwx_kernels import selection

CPU, CUDA, OTHER = (torch.device(name) for name in ("cpu", "cuda", "meta"))


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """As on a machine where Triton compiles, whatever the tests of the kernels do."""
    monkeypatch.setattr(selection, "INTERPRETED", False)


def choose(backend: str, device: torch.device, obstacle: str | None = None) -> str:
    return selection.choose("stir", backend, device, lambda name: obstacle)


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        selection, "_INSTALLED", {name: name not in names for name in ("triton", "numba")}
    )


def test_auto_takes_what_is_fast_on_the_device(monkeypatch):
    without(monkeypatch)
    assert choose("auto", CPU) == "numba"
    assert choose("auto", CUDA) == "triton"
    assert choose("auto", OTHER) == "torch"


def test_auto_falls_back(monkeypatch):
    without(monkeypatch, "triton", "numba")
    assert choose("auto", CPU) == "torch"
    assert choose("auto", CUDA) == "torch"
    without(monkeypatch)
    assert choose("auto", CPU, "too hot") == "torch"
    assert choose("auto", CUDA, "too hot") == "torch"


def test_auto_takes_what_is_faster(monkeypatch):
    """What does not pay is not chosen; an order for it is obeyed."""
    without(monkeypatch)

    def pays(name: str) -> bool:
        assert name == "numba"
        return False

    assert selection.choose("stir", "auto", CPU, lambda name: None, pays=pays) == "torch"
    assert selection.choose("stir", "numba", CPU, lambda name: None, pays=pays) == "numba"


def test_a_backend_that_the_operation_does_not_have(monkeypatch):
    without(monkeypatch)
    some = ("auto", "triton", "torch")
    assert selection.choose("stir", "auto", CPU, lambda name: None, offered=some) == "torch"
    with pytest.raises(RuntimeError, match="this operation has no numba kernel"):
        selection.choose("stir", "numba", CPU, lambda name: None, offered=some)
    with pytest.raises(ValueError, match=r"choose from auto, triton, torch$"):
        selection.choose("stir", "nubma", CPU, lambda name: None, offered=some)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own
def test_what_an_operator_knows_nothing_of(monkeypatch):
    """Under torch.func and in forward mode auto is torch, and an order is refused."""
    without(monkeypatch)
    seen = []

    def call(x: torch.Tensor) -> torch.Tensor:
        seen.append((selection.transformed(), choose("auto", CPU), choose("torch", CPU)))
        with pytest.raises(RuntimeError, match=r"torch\.func .*backend='torch'"):
            choose("numba", CPU)
        return x.sum()

    x = torch.ones(2)
    torch.func.jvp(call, (x,), (x,))
    torch.func.vmap(call)(x[None])
    torch.func.grad(call)(x)
    with torch.autograd.forward_ad.dual_level():
        call(x)
    assert seen == [(True, "torch", "torch")] * 4
    assert not selection.transformed()
    assert choose("auto", CPU) == "numba"


@pytest.mark.parametrize("device", [CPU, CUDA, OTHER])
def test_torch_is_never_refused(device, monkeypatch):
    without(monkeypatch, "triton", "numba")
    assert choose("torch", device, "too hot") == "torch"


@pytest.mark.parametrize(
    ("backend", "device", "missing", "obstacle", "reason"),
    [
        ("triton", CPU, (), None, "take tensors on cuda, these are on cpu"),
        ("numba", CUDA, (), None, "take tensors on cpu, these are on cuda"),
        ("numba", CPU, ("numba",), None, "the package numba is not installed"),
        ("triton", CUDA, ("triton",), None, "the package triton is not installed"),
        ("numba", CPU, (), "too hot", "too hot"),
        ("triton", CUDA, (), "too hot", "too hot"),
    ],
)
def test_an_order_that_cannot_be_obeyed(backend, device, missing, obstacle, reason, monkeypatch):
    without(monkeypatch, *missing)
    message = f"stir: backend='{backend}' cannot run: .*{reason}. backend='auto' takes"
    with pytest.raises(RuntimeError, match=message):
        choose(backend, device, obstacle)


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_an_order_that_can_be_obeyed(backend, monkeypatch):
    without(monkeypatch)
    assert choose(backend, {"numba": CPU, "triton": CUDA}[backend]) == backend


@pytest.fixture
def numba_is_broken(monkeypatch):
    without(monkeypatch)

    def fail(name: str) -> None:
        raise ImportError(f"{name} needs NumPy 1.0 or less")

    monkeypatch.setattr(selection, "import_module", fail)
    selection._import_error.cache_clear()
    yield
    selection._import_error.cache_clear()


@pytest.mark.usefixtures("numba_is_broken")
def test_a_broken_package_is_told_of():
    """Auto does without it; an order for it is an error."""
    with pytest.warns(UserWarning, match="numba is installed but .*Torch"):
        assert choose("auto", CPU) == "torch"
    with pytest.raises(RuntimeError, match="installed but cannot be imported"):
        choose("numba", CPU)


def test_the_interpreter_takes_tensors_of_the_cpu(monkeypatch):
    without(monkeypatch)
    monkeypatch.setattr(selection, "INTERPRETED", True)
    assert choose("triton", CPU) == "triton"
    assert choose("auto", CPU) == "numba"  # the interpreter is for tests, not for speed


def test_an_unknown_backend():
    with pytest.raises(ValueError, match="backend='cudnn': choose from auto, triton, numba, torch"):
        choose("cudnn", CPU)


def loaded(script: str, **environment: str) -> set[str]:
    """Return the top-level modules in memory after a script in a fresh interpreter."""
    script += "\nimport json, sys; print(json.dumps([n.split('.')[0] for n in sys.modules]))"
    command = [sys.executable, "-W", "error", "-c", script]
    environment = {**os.environ, "TRITON_INTERPRET": "0", **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return set(json.loads(done.stdout))


def test_importing_needs_torch_only():
    script = "import xwx_kernels\nfor name in xwx_kernels.__all__: getattr(xwx_kernels, name)"
    heavy = {"triton", "numba", "xwx", "xarray", "pint", "safetensors", "tqdm", "scipy"}
    extra = loaded(script) - loaded("import torch")
    assert "xwx_kernels" in extra
    assert not extra & heavy


def test_what_is_not_chosen_is_not_imported():
    call = (
        "import torch, xwx_kernels\n"
        "xwx_kernels.multi_convs(torch.ones(1, 6, 1), torch.ones(1, 1, 3, 3), size=(2, 3)"
    )
    assert not {"numba", "triton"} & (loaded(f"{call}, backend='torch')") - loaded("import torch"))
    assert "numba" in loaded(f"{call}, backend='numba')")
