#!/usr/bin/env python3
"""Fails when a source file includes a layer above or beside its own (the rule of src/README.md), or a Python module imports one.

Of Python every import counts, also one inside of a function; only those for type checkers do not.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_TABLE = Path(__file__).resolve().parent.parent / "src" / "base" / "transports.def"
TRANSPORTS = tuple(f"transport/{name}" for name in re.findall(r"^RAY_HIXL_TRANSPORT\((\w+),", _TABLE.read_text(), re.MULTILINE))
BELOW: dict[str, set[str]] = {"base": set()}
for sibling in ("net", "memory", "control"):
    BELOW[sibling] = {"base"}
BELOW["device"] = {"base", "memory"}
BELOW["transport"] = {"base", "net", "memory", "control", "device"}
for transport in TRANSPORTS:
    BELOW[transport] = BELOW["transport"] | {"transport"}
BELOW["transport/staged"] |= {"transport/stream"}  # over its connections
BELOW["link"] = BELOW["transport"] | {"transport"}
BELOW["engine"] = BELOW["link"] | {"link"}
BELOW["object"] = BELOW["engine"] | {"engine"}
BELOW["python"] = BELOW["object"] | {"object"}  # the binding, python/src

PUBLIC_RANK = {name: "base" for name in ("status.h", "fence.h", "options.h", "options.def", "memory.h", "stats.h", "transfer.h")}
PUBLIC_RANK |= {"engine.h": "engine", "objects.h": "object"}
UMBRELLA = "ray_hixl.h"

# Bottom-up: a module imports its own row and those before it, never in a circle. A package is one name; "" is ray_hixl/__init__.py.
PYTHON = (
    ("_core",),
    ("_option_table", "errors", "begun", "findings", "versions"),
    ("options", "tensors"),
    ("arguments", "npu"),
    ("transfers",),
    ("engine",),
    ("process",),
    ("ray",),
    ("",),
    ("bench", "cli"),
)
RANK = {name: rank for rank, names in enumerate(PYTHON) for name in names}

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def layer_of(path: str) -> str | None:
    """The layer of an include path or of a file relative to src/, e.g. transport/shm."""
    parts = path.split("/")
    if len(parts) > 2 and "/".join(parts[:2]) in BELOW:
        return "/".join(parts[:2])
    return parts[0] if parts[0] in BELOW else None


def complaint(own: str, include: str) -> str | None:
    """Why a file of layer `own` must not include `include`; None if it may."""
    if include.startswith("ray_hixl/"):
        header = include.removeprefix("ray_hixl/")
        if header == UMBRELLA:
            return None if own == "python" else "the umbrella header is for python/, tests and examples"
        target = PUBLIC_RANK.get(header)
    else:
        target = layer_of(include)
    if target is None:
        return "it is no layer of src/ and no public header"
    if target == own or target in BELOW[own]:
        return None
    return f"{target} is not below {own}"


def imports(path: Path, modules: set[str]) -> Iterator[str]:
    """What a module imports of ray_hixl, without that prefix."""
    tree = ast.parse(path.read_text())
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] == "ray_hixl")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ray_hixl":
            package = node.module.partition(".")[2]
            for alias in node.names:
                inner = f"{package}.{alias.name}".lstrip(".")
                yield inner if inner in modules else package


def circle(graph: dict[str, set[str]], start: str) -> list[str]:
    """A way from a module back to it; empty if there is none."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for target in sorted(graph.get(way[-1], set())):
            if target == start:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def check_python(root: Path) -> list[str]:
    """One line for each import that breaks the rule."""
    folder = root / "python" / "ray_hixl"
    files = {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix("__init__").rstrip("."): path for path in folder.rglob("*.py")
    }
    modules = {*files, "_core"}
    graph = {name: set(imports(path, modules)) for name, path in files.items()}
    wrong = []
    for name, targets in sorted(graph.items()):
        where = files[name].relative_to(root)
        layer = name.split(".")[0]
        if layer not in RANK:
            wrong.append(f"{where} is in no layer of tools/check_layers.py")
            continue
        for target in sorted(targets):
            if RANK.get(target.split(".")[0], len(PYTHON)) > RANK[layer]:
                wrong.append(f"{where} imports ray_hixl.{target}, which is above {name or 'ray_hixl'}")
        way = circle(graph, name)
        if way and name == min(way):
            wrong.append(f"{where} imports itself by way of {' -> '.join(way[1:-1]) or 'nothing else'}")
    return wrong


def check(root: Path) -> list[str]:
    """One line for each include that breaks the rule."""
    wrong = check_python(root)
    for path in sorted((root / "src").rglob("*.[ch]*")):
        own = layer_of(str(path.relative_to(root / "src")))
        if own is None:
            continue
        for include in INCLUDE.findall(path.read_text()):
            if why := complaint(own, include):
                wrong.append(f'{path.relative_to(root)} includes "{include}": {why}')
    for path in sorted((root / "python" / "src").glob("*.[ch]*")):
        for include in INCLUDE.findall(path.read_text()):
            own_file = (path.parent / include).exists()
            if not own_file and (why := complaint("python", include)):
                wrong.append(f'{path.relative_to(root)} includes "{include}": {why}')
    for path in sorted((root / "include" / "ray_hixl").glob("*.h")):
        for include in INCLUDE.findall(path.read_text()):
            if not include.startswith("ray_hixl/"):
                wrong.append(f'{path.relative_to(root)} includes "{include}": public headers include public headers only')
            elif path.name != UMBRELLA and (why := complaint(PUBLIC_RANK.get(path.name, "base"), include)):
                wrong.append(f'{path.relative_to(root)} includes "{include}": {why}')
    return wrong


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    wrong = check(root)
    for line in wrong:
        print(line)
    print(
        f"check_layers: {len(wrong)} include(s) or import(s) break the rule"
        if wrong
        else "check_layers: every include and import points down"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
