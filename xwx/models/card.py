"""What is known of a model before its network is built: the card, the Spec, the catalogue.

Standard library and numpy only, so that listing models costs no import of torch.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from xwx.errors import CheckpointError
from xwx.spec import Spec

__all__ = [
    "BUNDLED",
    "DOCUMENT",
    "FORMAT",
    "LAYOUT",
    "PLUGINS",
    "SCHEMA",
    "WEIGHTS",
    "Card",
    "Document",
    "bundled_models",
    "list_models",
    "plugin_models",
    "read_document",
    "table",
]

#: The two files of a checkpoint directory, how the second one presents itself, and the remedy.
WEIGHTS, DOCUMENT = "model.safetensors", "model.json"
FORMAT, SCHEMA = "xwx-model", 1
LAYOUT = f"a checkpoint is a directory with {WEIGHTS} and {DOCUMENT}, as Model.save(path) writes it"

#: Where the checkpoints of the package are, and where other packages announce theirs.
BUNDLED = Path(__file__).parent / "bundled"
PLUGINS = "xwx.models"

_MAX_BYTES = 8_000_000
_KEYS = ("architecture", "config", "spec", "card", "sha256")
_JSON_NAMES: dict[type, str] = {str: "string", dict: "object"}


@dataclass(frozen=True)
class Card:
    """Who a model is, in words.

    Parameters
    ----------
    name : str
        What :func:`xwx.load` calls it.
    licence : str
        SPDX identifier or a sentence; of the weights, which may differ from the code's.
    training_data : str
        What it was trained on, with attribution.
    description : str
        What it predicts and for whom, in a sentence.
    version : str
        Version of the weights.
    sha256 : str
        Hexadecimal digest of the weights file; empty while the model is not saved.
    facts : mapping
        Anything else, JSON-ready: seed, minutes of training, scores.
    """

    name: str
    licence: str = ""
    training_data: str = ""
    description: str = ""
    version: str = ""
    sha256: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            wanted = Mapping if item.name == "facts" else str
            if not isinstance(value, wanted):
                raise ValueError(f"card: {item.name}={value!r} must be a {wanted.__name__}")
        if not self.name.strip():
            raise ValueError("card: name is empty")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; :meth:`from_json` is its inverse."""
        return asdict(self) | {"facts": dict(self.facts)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Card:
        """Build a Card from the dictionary that :meth:`to_json` made.

        Raises
        ------
        ValueError
            If a key is unknown, missing or of the wrong type.
        """
        if unknown := sorted(set(data) - {item.name for item in fields(cls)}):
            raise ValueError(f"card: unknown keys {', '.join(map(str, unknown))}")
        if "name" not in data:
            raise ValueError("card: name is missing")
        return cls(**data)

    def rows(self) -> dict[str, Any]:
        """Return what is known, by its name in words, for :func:`table`."""
        rows = {item.name: getattr(self, item.name) for item in fields(self)}
        facts = rows.pop("facts")
        rows |= {key: value for key, value in facts.items() if key != "balance"}  # for training
        return {str(key).replace("_", " "): value for key, value in rows.items() if value != ""}

    def __str__(self) -> str:
        return table(self.rows())


def table(rows: Mapping[str, Any]) -> str:
    """Lay out names and values in two columns; a mapping becomes indented rows below its name.

    Parameters
    ----------
    rows : mapping
        Values by name.

    Examples
    --------
    >>> print(table({"seed": 0, "scores": {"6 h": {"msl": 0.4, "t": 0.8}}}))
    seed:    0
    scores:
      6 h:   msl 0.4, t 0.8
    """
    lines: list[tuple[str, str]] = []
    for key, value in rows.items():
        if isinstance(value, Mapping):
            lines.append((f"{key}:", ""))
            lines += [(f"  {name}:", _flat(item)) for name, item in value.items()]
        else:
            lines.append((f"{key}:", _flat(value)))
    width = 2 + max((len(key) for key, _ in lines), default=0)
    return "\n".join(f"{key:<{width}}{value}".rstrip() for key, value in lines)


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    return str(value)


@dataclass(frozen=True)
class Document:
    """The content of a ``model.json``, checked.

    Attributes
    ----------
    architecture : str
        A name that :data:`xwx.models.checkpoint.ARCHITECTURES` or a plug-in knows.
    config : dict
        What the architecture's ``from_config`` takes.
    spec : Spec
        What the network takes and gives.
    card : Card
        With the digest of the weights file in ``sha256``.
    """

    architecture: str
    config: dict[str, Any]
    spec: Spec
    card: Card


def read_document(directory: Path) -> Document:
    """Read and check ``model.json`` in a directory; nothing is executed.

    Parameters
    ----------
    directory : Path
        A checkpoint directory.

    Returns
    -------
    Document

    Raises
    ------
    CheckpointError
        If the file is missing, too large, not JSON of the known format and schema, or its Spec
        or card is not valid.
    """
    path = directory / DOCUMENT
    data = _parse(path)
    if data.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format is {data.get('format')!r}, not {FORMAT!r}; {LAYOUT}")
    schema = data.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise CheckpointError(f"{path}: schema {schema!r} is not a version number; {LAYOUT}")
    if schema > SCHEMA:
        raise CheckpointError(
            f"{path}: schema {schema} is newer than this xwx reads ({SCHEMA}); "
            "upgrade it: pip install --upgrade xarray-wx"
        )
    if missing := [key for key in _KEYS if key not in data]:
        raise CheckpointError(f"{path}: {', '.join(missing)} missing; save the model again")
    for key in _KEYS:
        wanted = str if key in ("architecture", "sha256") else dict
        if not isinstance(data[key], wanted):
            raise CheckpointError(f"{path}: {key} is not a JSON {_JSON_NAMES[wanted]}")
    return _build(path, data)


def _build(path: Path, data: dict[str, Any]) -> Document:
    """Turn the checked types of a document into Spec and Card."""
    try:
        spec = Spec.from_json(data["spec"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: the spec is not valid ({type(error).__name__}: {error}); "
            "it must be what Spec.to_json() gives"
        ) from error
    try:
        card = replace(Card.from_json(data["card"]), sha256=data["sha256"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the card is not valid ({error})") from error
    return Document(data["architecture"], data["config"], spec, card)


def _parse(path: Path) -> dict[str, Any]:
    """Read a regular file of a bounded size as one JSON object."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(f"{path} is not a regular file; {LAYOUT}")
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        inner = path.parent / "model"  # where a training run keeps its checkpoint
        hint = f"did you mean {inner}? " if (inner / DOCUMENT).is_file() else ""
        raise CheckpointError(f"{path} does not exist: {hint}{LAYOUT}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {LAYOUT}") from error
    if len(raw) > _MAX_BYTES:
        raise CheckpointError(f"{path} is larger than {_MAX_BYTES // 10**6} MB; {LAYOUT}")
    try:
        data = json.loads(raw.decode("utf-8"), parse_constant=_reject)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); {LAYOUT}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a JSON {type(data).__name__}, not an object; {LAYOUT}")
    return data


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def bundled_models() -> dict[str, Path]:
    """Return the directories of the checkpoints that come with xwx, by name."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED.glob(f"*/{DOCUMENT}"))}


def plugin_models() -> dict[str, EntryPoint]:
    """Return the entry points by which installed packages announce models, by name.

    A package announces a model in its metadata, ``[project.entry-points."xwx.models"]`` with
    ``name = "module:function"``. The function takes no arguments and returns a
    :class:`~xwx.models.checkpoint.Model` on the CPU. It may carry an attribute ``spec``
    (:class:`~xwx.spec.Spec`), which spares building the network when only the fit to a Dataset
    is asked for. A bundled model of the same name goes first.
    """
    bundled = bundled_models()
    return {ep.name: ep for ep in entry_points(group=PLUGINS) if ep.name not in bundled}


def list_models() -> dict[str, Card]:
    """Return the card of each model that :func:`xwx.load` knows by name.

    Cards of bundled models are read from their ``model.json``; those of plug-ins from the
    metadata of the package that announces them, so that nothing of theirs is imported.

    Returns
    -------
    dict of str to Card
        Bundled models first, then plug-ins, each in alphabetical order.

    Raises
    ------
    CheckpointError
        If a bundled checkpoint is damaged.
    """
    cards = {name: read_document(path).card for name, path in bundled_models().items()}
    plugins = sorted(plugin_models().items())
    return cards | {name: _plugin_card(entry_point) for name, entry_point in plugins}


def _plugin_card(entry_point: EntryPoint) -> Card:
    """Build a card from the metadata of the package behind an entry point."""
    package = entry_point.dist
    if package is None:
        return Card(entry_point.name, description=f"plug-in {entry_point.value}")
    about = package.metadata.json
    return Card(
        entry_point.name,
        licence=str(about.get("license_expression") or about.get("license") or ""),
        description=f"{about.get('summary') or 'plug-in'} [{package.name}]",
        version=package.version,
    )
