"""tools/check_layers.py: passes on this project, and finds includes that point up or sideways."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT


def check(root: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "check_layers.py"), str(root)], capture_output=True, text=True, check=False, timeout=30
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("src", "include", "python/ray_hixl"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return tmp_path


def test_project_is_clean() -> None:
    assert check(ROOT) == (0, "check_layers: every include and import points down\n")


@pytest.mark.parametrize(
    ("file", "include", "why"),
    [
        ("src/base/bytes.cc", "engine/engine_impl.h", "engine is not below base"),
        ("src/memory/arena.cc", "object/layout.h", "object is not below memory"),
        ("src/link/server.cc", "ray_hixl/engine.h", "engine is not below link"),
        ("src/net/loop.cc", "memory/arena.h", "memory is not below net"),
        ("src/transport/shm/channel.h", "transport/cma/mover.h", "transport/cma is not below transport/shm"),
        ("src/transport/transport.h", "transport/stream/channel.h", "transport/stream is not below transport"),
        ("src/engine/engine.cc", "ray_hixl/ray_hixl.h", "the umbrella header is for python/, tests and examples"),
        ("src/link/path.cc", "path.h", "it is no layer of src/ and no public header"),
        ("include/ray_hixl/status.h", "base/fd.h", "public headers include public headers only"),
        ("include/ray_hixl/transfer.h", "ray_hixl/objects.h", "object is not below base"),
    ],
)
def test_wrong_include_is_found(copy: Path, file: str, include: str, why: str) -> None:
    changed = copy / file
    changed.write_text(f'#include "{include}"\n{changed.read_text()}')
    code, said = check(copy)
    assert code == 1
    assert said.splitlines() == [f'{file} includes "{include}": {why}', "check_layers: 1 include(s) or import(s) break the rule"]


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("npu.py", "from ray_hixl import process", "python/ray_hixl/npu.py imports ray_hixl.process, which is above npu"),
        (
            "errors.py",
            "def late():\n    import ray_hixl.engine",
            "python/ray_hixl/errors.py imports ray_hixl.engine, which is above errors",
        ),
        (
            "process.py",
            "from ray_hixl.ray.compat import RAY",
            "python/ray_hixl/process.py imports ray_hixl.ray.compat, which is above process",
        ),
        (
            "tensors.py",
            "from ray_hixl.options import Options",
            "python/ray_hixl/options.py imports itself by way of tensors",
        ),
        (
            "ray/compat.py",
            "from ray_hixl.ray.transport import NAME",
            "python/ray_hixl/ray/compat.py imports itself by way of ray.transport",
        ),
    ],
)
def test_wrong_import_is_found(copy: Path, file: str, line: str, said: str) -> None:
    changed = copy / "python" / "ray_hixl" / file
    changed.write_text(changed.read_text() + f"\n{line}\n")
    if file == "tensors.py":
        options = copy / "python" / "ray_hixl" / "options.py"
        options.write_text(options.read_text() + "\nimport ray_hixl.tensors\n")
    code, output = check(copy)
    assert code == 1
    assert said in output.splitlines()


def test_imports_for_type_checkers_do_not_count(copy: Path) -> None:
    changed = copy / "python" / "ray_hixl" / "errors.py"
    changed.write_text(changed.read_text() + "\nif TYPE_CHECKING:\n    from ray_hixl import process\n")
    assert check(copy)[0] == 0
