"""Finding models: by name, plug-in, directory and address; devices."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import xwx
from xwx.errors import CheckpointError, ModelNotFoundError, XwxError
from xwx.models import card as catalogue
from xwx.models import registry
from xwx.models.card import Card, list_models
from xwx.models.checkpoint import Model, save_checkpoint
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.options import set_options
from xwx.spec import Channel, Grid, Spec

SPEC = Spec((Channel("msl"),), Grid.regular(8, 16, poles=False))


def make(name: str) -> Model:
    config = EMFormerConfig.preset("emformer_tiny", dim=8, heads=2, depth=1, levels=0)
    return Model(EMFormer(config, SPEC), SPEC, Card(name, "MIT", description=f"about {name}"))


def plugin_ok() -> Model:
    return make("their-model")


def plugin_declared() -> Model:
    raise AssertionError("the network is not needed to know the Spec")


plugin_declared.spec = SPEC


def plugin_wrong() -> str:
    return "no model"


@pytest.fixture(autouse=True)
def bundled(tmp_path, monkeypatch) -> Path:
    """Two bundled models, no plug-in, nothing in the caches."""
    root = tmp_path / "bundled"
    for name in ("emformer-mini", "emformer-maxi"):
        save_checkpoint(root / name, make(name).network, SPEC, make(name).card)
    monkeypatch.setattr(catalogue, "BUNDLED", root)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [])
    registry._load_bundled.cache_clear()
    registry._load_plugin.cache_clear()
    yield root
    registry._load_bundled.cache_clear()
    registry._load_plugin.cache_clear()


@pytest.fixture
def plugins(monkeypatch) -> None:
    points = [
        EntryPoint("theirs", f"{__name__}:plugin_ok", catalogue.PLUGINS),
        EntryPoint("declared", f"{__name__}:plugin_declared", catalogue.PLUGINS),
        EntryPoint("wrong", f"{__name__}:plugin_wrong", catalogue.PLUGINS),
        EntryPoint("broken", "no_such_package_xyz:f", catalogue.PLUGINS),
        EntryPoint("emformer-mini", "no_such_package_xyz:f", catalogue.PLUGINS),
    ]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: points)


def test_list_models(bundled):
    cards = list_models()
    assert list(cards) == ["emformer-maxi", "emformer-mini"]
    document = json.loads((bundled / "emformer-mini" / "model.json").read_text())
    assert cards["emformer-mini"] == replace(make("emformer-mini").card, sha256=document["sha256"])


def test_listing_reads_no_weights(bundled):
    (bundled / "emformer-mini" / "model.safetensors").unlink()
    assert "emformer-mini" in list_models()


def test_listing_does_not_import_torch():
    code = (
        "import sys; from xwx.models.card import list_models; list_models(); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.usefixtures("plugins")
def test_listing_imports_no_plugin():
    cards = list_models()
    assert list(cards) == [
        "emformer-maxi", "emformer-mini", "broken", "declared", "theirs", "wrong"
    ]  # fmt: skip
    assert "no_such_package_xyz" in cards["broken"].description
    assert cards["emformer-mini"].licence == "MIT"  # the bundled one goes first


def test_plugin_card_comes_from_its_package(monkeypatch):
    about = {"summary": "Their weather", "license_expression": "BSD-3-Clause"}
    package = SimpleNamespace(name="theirs-wx", version="2.1", metadata=SimpleNamespace(json=about))
    point = SimpleNamespace(name="theirs", value="theirs:load", dist=package)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [point])
    assert list_models()["theirs"] == Card(
        "theirs", "BSD-3-Clause", description="Their weather [theirs-wx]", version="2.1"
    )


def test_load_by_name_is_cached_by_device():
    model = registry.load("emformer-mini", device="cpu")
    assert model.name == "emformer-mini"
    assert registry.load("emformer-mini", device="cpu") is model
    assert registry.load("emformer-maxi", device="cpu") is not model


def test_load_a_directory(bundled, monkeypatch):
    target = bundled / "emformer-mini"
    for ref in (target, str(target)):
        first, second = (registry.load(ref, device="cpu") for _ in range(2))
        assert first.name == "emformer-mini"
        assert first is not second
    monkeypatch.chdir(bundled.parent)
    make("other").save("emformer-mini")
    assert registry.load("emformer-mini", device="cpu").name == "emformer-mini"
    assert registry.load("./emformer-mini", device="cpu").name == "other"


def test_load_a_model():
    model = make("mine")
    assert registry.load(model) is model
    assert registry.load(model, device="cpu") is model


def test_unknown_names():
    with pytest.raises(ModelNotFoundError) as caught:
        registry.load("emformer-min")
    message = str(caught.value)
    assert "did you mean 'emformer-mini' or 'emformer-maxi'?" in message
    assert "There are emformer-maxi, emformer-mini;" in message
    for ref in ("", "zzz"):
        with pytest.raises(ModelNotFoundError, match=rf"no model '{ref}': There are"):
            registry.load(ref)
    with pytest.raises(ModelNotFoundError, match="int is no reference to a model"):
        registry.load(3)
    with pytest.raises(CheckpointError, match="does not exist"):
        registry.load("./zzz")


@pytest.mark.usefixtures("plugins")
def test_plugins():
    assert registry.load("theirs", device="cpu").name == "their-model"
    assert registry.load("emformer-mini", device="cpu").name == "emformer-mini"
    with pytest.raises(XwxError, match="gave a str, not an xwx Model"):
        registry.load("wrong", device="cpu")
    with pytest.raises(XwxError, match="cannot be imported"):
        registry.load("broken", device="cpu")


@pytest.mark.usefixtures("plugins")
def test_find_spec(bundled):
    (bundled / "emformer-mini" / "model.safetensors").unlink()
    for ref in ("emformer-mini", bundled / "emformer-mini", "theirs", "declared", make("a")):
        assert registry.find_spec(ref) == SPEC
    with pytest.raises(ModelNotFoundError):
        registry.find_spec("zzz")


@pytest.mark.parametrize(
    "ref",
    ["hf://a/b", "hf://a/b@", "hf://a/b@main", "hf://a@v1", "hf://a/b/c@v1", "hf://../b@v 1"],
)
def test_hub_references_are_pinned(ref):
    with pytest.raises(ModelNotFoundError, match=r"not pinned.*commit hash"):
        registry.load(ref)


def test_hub_without_its_package(monkeypatch):
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelNotFoundError, match="pip install huggingface_hub"):
        registry.load("hf://a/b@v1")


def test_hub(monkeypatch, bundled):
    asked = []

    def snapshot_download(repo, revision, allow_patterns):
        asked.append((repo, revision, allow_patterns))
        if revision == "gone":
            raise OSError("404")
        return str(bundled / "emformer-maxi")

    fake = SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(registry.importlib, "import_module", lambda name: fake)
    with pytest.raises(ModelNotFoundError, match=r"cannot be fetched.*404"):
        registry.load("hf://a/b@gone", device="cpu")
    monkeypatch.setattr(registry, "load_checkpoint", lambda path, device: path)
    assert registry.load("hf://a/b@v1.0", device="cpu") == bundled / "emformer-maxi"
    assert asked[-1] == ("a/b", "v1.0", ["model.safetensors", "model.json"])


def test_device_follows_the_option(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert registry.resolve_device() == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert registry.resolve_device("auto") == torch.device("mps")
    with set_options(device="cpu"):
        assert registry.resolve_device() == torch.device("cpu")
        assert registry.resolve_device("auto") == torch.device("mps")


def test_device_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert registry.resolve_device("auto") == torch.device("cuda:1")
    assert registry.resolve_device("cuda") == torch.device("cuda:1")
    assert registry.resolve_device(torch.device("cuda:0")) == torch.device("cuda:0")
    with pytest.raises(XwxError, match="there are 2 GPUs"):
        registry.resolve_device("cuda:2")


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:3"):
        with pytest.raises(XwxError, match='give device="cpu" or "auto"'):
            registry.load("emformer-mini", device=name)
    with pytest.raises(XwxError, match="not available here"):
        registry.resolve_device("mps")
    with pytest.raises(XwxError, match="is unknown"):
        registry.resolve_device("gpu")
    with pytest.raises(XwxError, match="is not supported"):
        registry.resolve_device("meta")


def test_the_bundled_directory_is_in_the_package():
    assert Path(xwx.__file__).parent in Path(catalogue.__file__).parents
