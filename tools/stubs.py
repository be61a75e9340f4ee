#!/usr/bin/env python3
"""Checks the files that are made out of the built module, --write makes them: python/ray_hixl/_core.pyi; and out of its table of options
python/ray_hixl/_option_table.py and docs/options.md.
"""

from __future__ import annotations

import difflib
import importlib.util
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 140

PYTHON_HEAD = '''"""The options as Python sees them. Made by ``make stubs`` out of include/ray_hixl/options.def: do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from ray_hixl._core import Options as CoreOptions


class OptionTable:
    """Arguments and properties of ``ray_hixl.Options``."""

    _core: CoreOptions

    def __init__(
        self,
        *unnamed: NoReturn,
{arguments}
        **unknown: NoReturn,
    ) -> None:
        given = {{name: value for name, value in locals().items() if name not in ("self", "unnamed", "unknown") and value is not None}}
        self._set(given, unnamed, unknown)

    def _set(self, given: dict[str, Any], unnamed: tuple[Any, ...], unknown: dict[str, Any]) -> None:
        raise NotImplementedError
'''

PYTHON_PROPERTY = '''
    @property
    def {name}(self) -> {type}:
        """{text}"""
        return {value}
'''

DOCS_HEAD = """# Options

Made by `make stubs` out of `include/ray_hixl/options.def`: do not edit. Each option is an argument of `ray_hixl.Options`; else the variable
`RAY_HIXL_<NAME>` counts, in upper case and in the default column's spelling; else the default. Under Ray, `ray_hixl.runtime_env(options)`
carries them to every worker.

| option | takes | default | what it does, when to touch it |
|---|---|---|---|
"""


class Option(NamedTuple):
    """A row of ``_core.option_infos()``."""

    name: str
    argument: str
    property: str
    default: str
    takes: str
    text: str


def built_module() -> Any:
    """``ray_hixl._core`` alone: the package around it may need what is made here."""
    folder = importlib.util.find_spec("ray_hixl")
    name = "ray_hixl._core"
    for place in (folder and folder.submodule_search_locations) or []:
        for path in Path(place).glob("_core.*.so"):
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise FileNotFoundError("ray_hixl._core is not built")


def stub() -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "_core.pyi"
        subprocess.run([sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "ray_hixl._core", "-o", str(made)], check=True)
        return made.read_text()


def python_table(options: list[Option]) -> str:
    made = PYTHON_HEAD.format(arguments="\n".join(f"        {option.name}: {option.argument} | None = None," for option in options))
    for option in options:
        text = textwrap.fill(option.text, WIDTH - 8 - 6, subsequent_indent=" " * 8)
        text += "\n" + " " * 8 if "\n" in text else ""
        value = f"self._core.{option.name}"
        if option.property == "tuple[str, ...]":
            value = f"tuple({value})"
        made += PYTHON_PROPERTY.format(name=option.name, type=option.property, text=text, value=value)
    return made


def readable(default: str) -> str:
    """Large numbers of bytes with their power of two."""
    bytes_ = int(default) if default.isdigit() else 0
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if bytes_ and bytes_ % size == 0:
            return f"`{default}` ({bytes_ // size} {unit})"
    return f"`{default}`"


def docs_table(options: list[Option]) -> str:
    rows = [f"| `{option.name}` | {option.takes} | {readable(option.default)} | {option.text} |\n" for option in options]
    return DOCS_HEAD + "".join(rows)


def main() -> int:
    options = [Option(*row) for row in built_module().option_infos()]
    made = {
        "python/ray_hixl/_option_table.py": python_table(options),
        "docs/options.md": docs_table(options),
    }
    stale = [name for name in made if "--write" not in sys.argv and differs(name, made[name])]
    if "--write" in sys.argv:
        for name, text in made.items():
            (ROOT / name).write_text(text)
    text = stub()  # imports the package, which needs the table
    name = "python/ray_hixl/_core.pyi"
    if "--write" in sys.argv:
        (ROOT / name).write_text(text)
    elif differs(name, text):
        stale.append(name)
    print(f"stubs: out of date: {', '.join(stale)}: run `make stubs`" if stale else "stubs: what is made out of the module is up to date")
    return 1 if stale else 0


def differs(name: str, text: str) -> bool:
    """Prints how."""
    path = ROOT / name
    drift = list(
        difflib.unified_diff(
            path.read_text().splitlines() if path.exists() else [], text.splitlines(), f"committed {name}", "built", lineterm=""
        )
    )
    for line in drift:
        print(line)
    return bool(drift)


if __name__ == "__main__":
    sys.exit(main())
