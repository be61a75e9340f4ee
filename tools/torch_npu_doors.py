#!/usr/bin/env python3
"""Does a torch_npu offer what ray-hixl uses of it? Looked up in its files: nothing is imported, so it takes neither its torch nor CANN.

What is looked for is read out of python/ray_hixl/npu.py. That a name is there does not say that it does what it should: `ray-hixl doctor`
and tests/npu say that, where it can be imported.

Usage: tools/torch_npu_doors.py [<wheel, folder that holds the package, or version for pip to download> ...]
Without arguments the versions of docs/npu.md. One that pip cannot have here is skipped, and named.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

VERSIONS = ("2.7.1.post2", "2.7.1.post4", "2.9.0", "2.9.0.post2", "2.10.0.post2", "2.10.0.post4", "2.14.0")

_SOURCE = Path(__file__).resolve().parent.parent / "python" / "ray_hixl" / "npu.py"
_NAMES = re.compile(r"\b(_npu|torch\.npu|torch_npu\._C|torch_npu)\.(\w+)")
_FIELDS = re.compile(r"\[\"(\w{7,})\"\]")  # of the allocator's statistics; compilers put shorter texts into instructions
_OPTIONAL = re.compile(r"getattr\((torch\.ops\.npu|torch_npu\._C), \"(\w+)\"|segment(\.get)\(\"(\w+)\"")
_IMPORT = "torch.utils.dlpack.from_dlpack"  # torch's, which torch_npu puts its own in the place of
_IMPORT_PATCH, _IMPORT_ITSELF = re.compile(r"^\s*_apply_dlpack_patch\(\)", re.MULTILINE), "_npu_from_dlpack"


def doors() -> dict[str, bool]:
    """All that ray_hixl.npu uses of torch_npu: is it a must?"""
    text = _SOURCE.read_text()
    names = {f"{module.replace('_npu', 'torch.npu') if module == '_npu' else module}.{name}" for module, name in _NAMES.findall(text)}
    must = names - {"torch_npu._C"} | {f"field.{name}" for name in _FIELDS.findall(text)} | {_IMPORT}
    tried = {f"{module or 'field'}.{name or field}" for module, name, _, field in _OPTIONAL.findall(text)}
    return dict.fromkeys(sorted(must), True) | dict.fromkeys(sorted(tried), False)


class Files:
    """The sources and libraries of one torch_npu, by their paths in its package."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._sources = {path: text.decode(errors="replace") for path, text in contents.items() if path.endswith(".py")}
        self._libraries = [code for path, code in contents.items() if path.endswith(".so")]

    @classmethod
    def of(cls, place: Path) -> Files:
        """Of a wheel, or of a folder that holds the package."""
        if place.is_dir():
            root = place / "torch_npu"
            return cls({str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.suffix in (".py", ".so")})
        with zipfile.ZipFile(place) as wheel:
            paths = [path for path in wheel.namelist() if path.startswith("torch_npu/") and path.endswith((".py", ".so"))]
            return cls({path.removeprefix("torch_npu/"): wheel.read(path) for path in paths})

    def offers(self, door: str) -> bool:
        if door == _IMPORT:
            return self._holds(_IMPORT_ITSELF) and any(map(_IMPORT_PATCH.search, self._sources.values()))
        module, _, name = door.rpartition(".")
        if module == "torch.npu":
            return self._defines("npu/__init__.py", name)
        if module == "torch_npu":  # operators are put there at import
            return self._defines("__init__.py", name) or f"{name}/__init__.py" in self._sources or self._holds(name, "(")
        return self._holds(name, "(" if module == "torch.ops.npu" else "\0")

    def _defines(self, path: str, name: str) -> bool:
        return name in _bound(self._sources.get(path, ""))

    def _holds(self, name: str, end: str = "\0") -> bool:
        """A library has the name as functions, keys and (with a bracket behind) operators' schemas have theirs."""
        return any(re.search(rb"[\0:]" + re.escape(f"{name}{end}".encode()), code) for code in self._libraries)


def _bound(source: str) -> set[str]:
    """Names that a module's source imports, defines or assigns."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign(targets=[ast.Name("__all__")], value=ast.List(elts=texts)):  # also what comes by a star
                names |= {ast.literal_eval(text) for text in texts}
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def lacking(files: Files) -> tuple[list[str], list[str]]:
    """What ray-hixl cannot do without and is not there; and what it does without."""
    absent = {door: must for door, must in doors().items() if not files.offers(door)}
    return [door for door, must in absent.items() if must], [door for door, must in absent.items() if not must]


def _download(version: str, folder: str) -> Path | None:
    """The wheel; None where pip cannot have it."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", f"torch-npu=={version}", "-d", folder]
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    return next(Path(folder).glob("*.whl"), None)


def check(place: str) -> bool:
    """Prints what it offers. False if that does not do."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(place) if Path(place).exists() else _download(place, folder)
        if path is None:
            print(f"torch_npu_doors: {place}: SKIPPED, pip cannot have it here", flush=True)
            return True
        missing, done_without = lacking(Files.of(path))
    verdict = f"LACKS {', '.join(missing)}" if missing else f"has all {sum(doors().values())} doors"
    print(f"torch_npu_doors: {place}: {verdict}" + "".join(f"; without {door}" for door in done_without), flush=True)
    return not missing


if __name__ == "__main__":
    sys.exit(0 if all([check(place) for place in sys.argv[1:] or VERSIONS]) else 1)
