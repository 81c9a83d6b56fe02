"""Compile the Triton kernels for GPUs that need not be there, and print what came out.

``python kernels/benchmarks/compile.py [--arch 80 90 100] [--kernel NAME ...]`` prints a line for
each kernel, type and architecture: registers of a thread, shared memory of a program, bytes of
stack (spilled registers), instructions, among them multiplications outside and on matrix units,
loads, and accesses to spilled registers. It ends with an error when a kernel does not compile, and
runs on any machine that has Triton.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Without this, Triton hands out interpreted functions, which cannot be compiled.
os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from xwx_kernels._triton import multi_convs, stencils, window_attention

ARCHITECTURES = (80, 90, 100)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Entry:
    """One compilation: a function, the types of its arguments, its constants.

    Parameters
    ----------
    name : str
        What ``--kernel`` finds.
    function : JITFunction
    types : mapping
        From each argument that is not a constant to Triton's name of its type, ``"*bf16"``.
    constants : mapping
        From argument to value; as in a real launch, an integer argument that is 1 is one too.
    dtype : str
        Of the tokens, for the table.
    multiples : tuple of str
        Integer arguments that are multiples of 16, beside the pointers, as in the real launch.
    options : mapping
        Options of the launch, ``num_warps``.
    """

    name: str
    function: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    dtype: str
    multiples: tuple[str, ...] = ()
    options: Mapping[str, int] = field(default_factory=dict)


def entries() -> list[Entry]:
    """Return everything that is compiled; a new kernel adds its own list."""
    return multi_convs_entries() + window_attention_entries()


def multi_convs_entries() -> list[Entry]:
    """Return the passes of multi-convs: 64 x 128 tokens of 2304 channels, and odd ones."""
    found = []
    for dtype in ("bf16", "fp32"):
        found += [
            _convolve("convolve", dtype),
            _convolve("convolve pole", dtype, CIRCULAR=False, POLE=True),
            _convolve("transpose", dtype, TURNED=True),
            _differentiate("differentiate", dtype),
            _differentiate("differentiate pole", dtype, CIRCULAR=False, POLE=True, BORDER=2),
            _differentiate("differentiate kernels", dtype, NEED_X=False),
        ]
    found.append(_convolve("transpose pole", "bf16", target="fp32", TURNED=True, BORDER=2))
    # A map of one row and one column tile, any number of channels, two branches only.
    one = {"height": 1, "rows": 1, "tiles": 1, "total": 1, "FIVE": False}
    found.append(_convolve("convolve one row", "fp16", multiples=(), **one))
    found.append(_differentiate("differentiate one row", "fp16", multiples=(), **one))
    found.append(
        Entry(
            "gather",
            stencils.gather,
            dict.fromkeys(("partial", "d1", "d3", "d5"), "*fp32")
            | dict.fromkeys(("channels", "programs"), "i32"),
            _BRANCHES | multi_convs.GATHER,
            "fp32",
            ("channels",),
            multi_convs.LAUNCH,
        )
    )
    return found


def window_attention_entries() -> list[Entry]:
    """Return both passes of windows of 8 x 8 tokens with heads of 96 channels, and larger ones."""
    found = []
    for dtype in ("bf16", "fp32"):
        found += [
            _window("windows", dtype),
            _window("windows backward", dtype, SIDE=False),
            _window("windows backward seam", dtype, SIDE=True),
        ]
    found.append(_window("windows of 128", "bf16", COLUMNS=16))
    found.append(_window("windows of 128 backward", "bf16", COLUMNS=16, SIDE=False))
    return found


def _window(name: str, dtype: str, COLUMNS: int = 8, **changes: Any) -> Entry:
    backward = "SIDE" in changes
    pointers = ("gradient", "qkv", "dqkv", "side") if backward else ("qkv", "out")
    integers = ("height", "width", "heads", "shift")
    types = dict.fromkeys(pointers, f"*{dtype}") | dict.fromkeys(integers, "i32")
    function = window_attention.window_attention_forward
    if backward:
        function = window_attention.window_attention_backward
    qkv = torch.empty(1, 64 * 128, 3 * 768, dtype=DTYPES[dtype], device="meta")
    settings = window_attention.settings(qkv, (64, 128), (8, COLUMNS), 8, 0, "circular")
    options = {key: settings.pop(key) for key in LAUNCH}
    constants = {key: value for key, value in settings.items() if key.isupper()} | changes
    multiples = ("height", "width")
    return Entry(name, function, types | {"scale": "fp32"}, constants, dtype, multiples, options)


LAUNCH = ("num_warps", "num_stages", "enable_fp_fusion")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_BRANCHES = {"ONE": True, "THREE": True, "FIVE": True}
_EXTENTS = ("height", "width", "channels", "rows", "tiles", "total")
_SHARED = dict.fromkeys(("k1", "k3", "k5"), "*fp32") | dict.fromkeys(_EXTENTS, "i32")


def _convolve(name: str, dtype: str, *, target: str | None = None, **changes: Any) -> Entry:
    types = {"x": f"*{dtype}", "y": f"*{target or dtype}"} | _SHARED
    constants = _BRANCHES | {"TURNED": False, "CIRCULAR": True, "POLE": False, "BORDER": 0}
    return _walk(name, stencils.convolve, types, constants, dtype, **changes)


def _differentiate(name: str, dtype: str, **changes: Any) -> Entry:
    dx = "*fp32" if changes.get("POLE") else f"*{dtype}"
    types = {"gradient": f"*{dtype}", "x": f"*{dtype}", "dx": dx, "partial": "*fp32"} | _SHARED
    constants = _BRANCHES | {"NEED_X": True, "CIRCULAR": True, "POLE": False, "BORDER": 0}
    return _walk(name, stencils.differentiate, types, constants, dtype, **changes)


def _walk(
    name: str,
    function: Any,
    types: dict[str, str],
    constants: dict[str, Any],
    dtype: str,
    multiples: tuple[str, ...] = ("height", "width", "channels", "rows"),
    **changes: Any,
) -> Entry:
    constants = constants | multi_convs.TILE | changes
    options = multi_convs.LAUNCH
    return Entry(name, function, types, constants, dtype, multiples, options)


def build(entry: Entry, arch: int) -> dict[str, int]:
    """Compile for compute capability ``arch / 10`` and return the figures of the table."""
    arguments = entry.function.arg_names
    types = {a: "constexpr" if a in entry.constants else entry.types[a] for a in arguments}
    constants = {(arguments.index(a),): value for a, value in entry.constants.items()}
    aligned = {
        (n,): [["tt.divisibility", 16]]
        for n, a in enumerate(arguments)
        if types[a].startswith("*") or (a in entry.multiples and types[a] != "constexpr")
    }
    compiled = triton.compile(
        ASTSource(entry.function, types, constants, aligned),
        target=GPUTarget("cuda", arch, 32),
        options=dict(entry.options),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(compiled.asm["cubin"])
        usage = _run("cuobjdump", "--dump-resource-usage", str(path))
        listing = _run("nvdisasm", "-c", str(path))
    named = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    opcodes = Counter(opcode(line) for line in listing.splitlines())
    del opcodes[""]
    return {
        "registers": named["REG"],
        "shared": compiled.metadata.shared,
        "stack": named["STACK"] + named["LOCAL"],
        "instructions": opcodes.total() - opcodes["NOP"],
        "FFMA": opcodes["FFMA"] + opcodes["FFMA2"],
        "matrix": sum(opcodes[name] for name in ("HMMA", "HGMMA", "UTCHMMA")),
        "loads": opcodes["LDG"] + opcodes["LDGSTS"],
        "local": opcodes["LDL"] + opcodes["STL"],
    }


def opcode(line: str) -> str:
    """Return the operation of a line of the disassembler, "" for a line without one."""
    match = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", line)
    return match.group(1) if match else ""


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--kernel", nargs="+", help="only those with one of these names")
    parser.add_argument("--dtype", nargs="+", help="only tokens of these types, as in bf16")
    chosen = parser.parse_args(arguments)
    known = entries()
    unknown = set(chosen.kernel or ()) - {entry.name for entry in known}
    if unknown:
        parser.error(f"--kernel {unknown}: choose from {sorted({e.name for e in known})}")
    print("kernel,dtype,arch,registers,shared,stack,instructions,FFMA,matrix,loads,local")
    for entry in known:
        if chosen.kernel and entry.name not in chosen.kernel:
            continue
        if chosen.dtype and entry.dtype not in chosen.dtype:
            continue
        for arch in chosen.arch:
            figures = build(entry, arch)
            print(entry.name, entry.dtype, arch, *figures.values(), sep=",", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        sys.exit(main())
