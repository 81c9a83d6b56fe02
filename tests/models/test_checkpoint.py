"""Checkpoints: an exact round trip, and a refusal with a reason for anything else."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from xwx.errors import CheckpointError
from xwx.models.architectures import ARCHITECTURES
from xwx.models.card import Card
from xwx.models.checkpoint import Model, load_checkpoint, save_checkpoint
from xwx.models.emformer import EMFormer, EMFormerConfig
from xwx.spec import Channel, Grid, Spec

SPEC = Spec(
    (Channel("msl"), Channel("vo", 85000.0)),
    Grid.regular(8, 16, poles=False),
    timedelta(hours=6),
    forcings=("sin_latitude",),
)
CARD = Card("toy", "CC-BY-4.0", "nothing", "a test", "1.2", facts={"seed": 3})


class Toy(nn.Module):
    """Two layers, a persistent buffer, and one that follows from the configuration."""

    def __init__(self, width: int, spec: Spec) -> None:
        super().__init__()
        self.width = width
        self.layer = nn.Linear(len(spec.channels), width)
        self.register_buffer("mean", torch.arange(2.0))
        self.register_buffer("ramp", torch.arange(float(width)), persistent=False)
        self.dropout = nn.Dropout(0.5)

    @classmethod
    def from_config(cls, config: dict[str, Any], spec: Spec) -> Toy:
        return cls(config["width"], spec)

    def to_config(self) -> dict[str, Any]:
        return {"width": self.width}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.dropout(x - self.mean)) + self.ramp


class Unregistered(nn.Linear):
    pass


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "toy", f"{__name__}:Toy")


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.manual_seed(0)
    return save_checkpoint(tmp_path / "toy", Toy(3, SPEC), SPEC, CARD)


def rewrite(directory: Path, **changes: Any) -> None:
    document = json.loads((directory / "model.json").read_text())
    (directory / "model.json").write_text(json.dumps(document | changes))


def reweigh(directory: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Replace the weights and keep the digest right."""
    save_file(tensors, directory / "model.safetensors")
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    rewrite(directory, sha256=digest)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_round_trip_is_exact(saved):
    torch.manual_seed(0)
    network = Toy(3, SPEC).eval()
    model = load_checkpoint(saved)
    digest = hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    assert (model.spec, model.card) == (SPEC, replace(CARD, sha256=digest))
    assert not model.network.training
    x = torch.randn(4, 2)
    assert torch.equal(model.network(x), network(x))
    assert model.network.state_dict().keys() == network.state_dict().keys()
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "model.safetensors"]


def test_document_is_as_documented(saved):
    document = json.loads((saved / "model.json").read_text())
    assert list(document) == [
        "format", "schema", "architecture", "config", "spec", "card", "sha256"
    ]  # fmt: skip
    assert document["format"] == "xwx-model"
    assert document["schema"] == 1
    assert (document["architecture"], document["config"]) == ("toy", {"width": 3})
    assert document["spec"] == SPEC.to_json()


def test_emformer_round_trip(tmp_path):
    torch.manual_seed(1)
    config = EMFormerConfig.preset("emformer_tiny", dim=16, heads=2, depth=2)
    network = EMFormer(config, SPEC).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    model = load_checkpoint(save_checkpoint(tmp_path / "em", network, SPEC, CARD))
    assert isinstance(model.network, EMFormer)
    assert model.network.config == config
    x, forcing = torch.randn(1, 1, 2, 8, 16), torch.randn(1, 1, 8, 16)
    with torch.no_grad():
        assert torch.equal(model.network(x, forcing)[0], network(x, forcing)[0])


def test_loading_leaves_the_random_state_alone(saved):
    before = torch.random.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_loaded_weights_do_not_follow_the_file(saved):
    model = load_checkpoint(saved)
    before = model.network.layer.weight.clone()
    path = saved / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(b"\x00" * 64)
    assert torch.equal(model.network.layer.weight, before)


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_whoever_may_read_the_document_may_read_the_weights(tmp_path):
    """A group shares models: the weights are not the owner's alone."""
    before = os.umask(0o027)
    try:
        saved = save_checkpoint(tmp_path / "m", Toy(3, SPEC), SPEC, CARD)
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in saved.iterdir()}
    assert modes == {"model.json": 0o640, "model.safetensors": 0o640}


def test_saving_again_replaces(saved):
    model = load_checkpoint(saved)
    with torch.no_grad():
        model.network.layer.weight.zero_()
    model.save(saved)
    again = load_checkpoint(saved)
    assert not again.network.layer.weight.any()
    assert again.card.sha256 != model.card.sha256


def test_saving_refuses_a_directory_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"something else \(thesis\.tex\)"):
        save_checkpoint(tmp_path, Toy(3, SPEC), SPEC, CARD)
    (tmp_path / "model.json").write_text('{"format": "theirs"}')
    with pytest.raises(CheckpointError, match="not a checkpoint's"):
        save_checkpoint(tmp_path, Toy(3, SPEC), SPEC, CARD)
    assert json.loads((tmp_path / "model.json").read_text()) == {"format": "theirs"}
    with pytest.raises(CheckpointError, match="cannot be a checkpoint directory"):
        save_checkpoint(tmp_path / "thesis.tex", Toy(3, SPEC), SPEC, CARD)


def test_a_failed_save_leaves_the_old_checkpoint(saved):
    class Sabotaged(Toy):
        def to_config(self) -> dict[str, Any]:
            return {"width": object()}

    ARCHITECTURES["toy"] = f"{__name__}:{Sabotaged.__qualname__}"
    with pytest.raises(CheckpointError, match="not JSON"):
        save_checkpoint(saved, Sabotaged(3, SPEC), SPEC, CARD)
    ARCHITECTURES["toy"] = f"{__name__}:Toy"
    assert load_checkpoint(saved).card.name == "toy"
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "model.safetensors"]


def test_saving_refuses_what_could_not_be_loaded(tmp_path):
    with pytest.raises(CheckpointError, match="Unregistered is not a registered architecture"):
        save_checkpoint(tmp_path / "a", Unregistered(2, 2), SPEC, CARD)
    network = Toy(3, SPEC)
    network.layer.bias.data[1] = float("nan")
    with pytest.raises(CheckpointError, match=r"layer\.bias \(1 of 3 values\)"):
        save_checkpoint(tmp_path / "b", network, SPEC, CARD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.bin", "model.pkl", "model"])
def test_a_pickle_is_refused_and_not_run(tmp_path, name, protocol):
    marker = tmp_path / "ran"
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(marker), protocol))
    with pytest.raises(CheckpointError, match="never opens pickles"):
        load_checkpoint(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("protocol", [0, 2, 5, "zip"])
@pytest.mark.parametrize("honest", [True, False])
def test_a_pickle_in_disguise_is_refused_and_not_run(tmp_path, saved, protocol, honest):
    marker = tmp_path / "ran"
    path = saved / "model.safetensors"
    if protocol == "zip":
        torch.save({"weights": Bomb(marker)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(marker), protocol))
    if honest:
        rewrite(saved, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    telling = r"not safetensors\. xwx never opens pickles"
    if protocol == 0:  # has no mark of its own
        telling = "is not a safetensors file" if honest else "damaged or was altered"
    with pytest.raises(CheckpointError, match=telling):
        load_checkpoint(saved)
    assert not marker.exists()


def test_a_pickle_for_a_document_is_refused_and_not_run(tmp_path, saved):
    marker = tmp_path / "ran"
    (saved / "model.json").write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(CheckpointError, match="not JSON"):
        load_checkpoint(saved)
    assert not marker.exists()


def test_wrong_places(tmp_path, saved):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"model\.json does not exist"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="one file of a checkpoint: give"):
        load_checkpoint(saved / "model.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint("a\0b")
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist"):
        load_checkpoint(saved)
    (saved / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(saved)


def test_loops_and_pipes(tmp_path, saved):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(loop)
    for name in ("model.safetensors", "model.json"):
        (saved / name).unlink()
        (saved / name).symlink_to(name)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_checkpoint(saved)
        (saved / name).unlink()
        os.mkfifo(saved / name)
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"[1, 2]", "JSON list, not an object"),
        (b'"xwx-model"', "JSON str, not an object"),
        (b"\xff\xfe{}", "not JSON"),
        (b"{" * 100_000, "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"format": NaN}', "not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b" " * 8_000_001, "larger than 8 MB"),
        (b"{}", "format is None"),
        (b'{"format": "xwx-model"}', "schema None"),
        (b'{"format": "xwx-model", "schema": true}', "schema True"),
        (b'{"format": "xwx-model", "schema": 2}', "pip install --upgrade xarray-wx"),
        (b'{"format": "xwx-model", "schema": 1}', "architecture, config, spec, card, sha256"),
    ],
    ids=range(14),
)
def test_documents_that_are_none(saved, content, message):
    (saved / "model.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "os:system"}, "unknown architecture 'os:system', known are emformer"),
        ({"architecture": ["toy"]}, "architecture is not a JSON string"),
        ({"config": [3]}, "config is not a JSON object"),
        ({"config": {}}, "cannot be built from its configuration"),
        ({"config": {"width": "3"}}, "cannot be built from its configuration"),
        ({"spec": {}}, "the spec is not valid"),
        ({"spec": SPEC.to_json() | {"channels": [{"name": 3}]}}, "the spec is not valid"),
        ({"spec": SPEC.to_json() | {"step_seconds": 1e300}}, "the spec is not valid"),
        ({"spec": SPEC.to_json() | {"latitude": [0, 1]}}, "the spec is not valid"),
        ({"card": {}}, "name is missing"),
        ({"card": {"name": 3}}, "the card is not valid"),
        ({"card": {"name": "a", "hook": "b"}}, "unknown keys hook"),
        ({"sha256": "0" * 64}, "damaged or was altered"),
        ({"sha256": ""}, "damaged or was altered"),
    ],
)
def test_documents_that_lie(saved, changes, message):
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize("keep", [0, 4, 8, 40, -1])
def test_truncated_weights(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged or was altered"):
        load_checkpoint(saved)
    rewrite(saved, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        load_checkpoint(saved)


def test_one_flipped_bit_is_noticed(saved):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or was altered"):
        load_checkpoint(saved)


def test_tensors_that_do_not_fit_are_all_listed(saved):
    tensors = load_file(saved / "model.safetensors")
    tensors["layer.weight"] = tensors["layer.weight"].T.contiguous()
    tensors["layer.bias"] = tensors["layer.bias"].double()
    tensors["more"] = tensors.pop("mean")
    reweigh(saved, tensors)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved)
    message = str(caught.value)
    assert "layer.weight has shape (2, 3), not (3, 2)" in message
    assert "layer.bias has dtype torch.float64, not torch.float32" in message
    assert "missing mean" in message
    assert "unexpected more" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(saved, value):
    tensors = load_file(saved / "model.safetensors")
    tensors["mean"][1] = value
    reweigh(saved, tensors)
    with pytest.raises(CheckpointError, match=r"mean \(1 of 2 values\)"):
        load_checkpoint(saved)


def test_a_network_too_large_for_memory_is_refused_at_once(saved):
    rewrite(saved, config={"width": 10**15})
    with pytest.raises(CheckpointError, match=r"layer\.bias has shape \(3,\)"):
        load_checkpoint(saved)


def test_model_shows_itself(saved):
    model = load_checkpoint(saved)
    text = repr(model)
    for part in ("'toy'", "Toy, 9 parameters", "vo[850 hPa]", "8 x 16", "CC-BY-4.0", "cpu"):
        assert part in text
    shown = Model(model.network, SPEC, replace(CARD, name="<b>"))._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>xwx.Model</b>" in shown


def test_model_moves_by_copy(saved):
    model = load_checkpoint(saved)
    assert model.to("cpu") is model
    moved = model.to("meta")
    assert (moved.device.type, model.device.type) == ("meta", "cpu")


def test_card_checks_itself():
    with pytest.raises(ValueError, match="version=2 must be a str"):
        Card("a", version=2)
    with pytest.raises(ValueError, match="empty"):
        Card(" ")
    assert Card.from_json(CARD.to_json()) == CARD
    assert "seed:           3" in str(CARD)
