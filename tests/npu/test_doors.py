"""tools/torch_npu_doors.py: what it finds in the files of the torch_npu that is here is what an import of it gives."""

from __future__ import annotations

import importlib
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch_npu

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT / "tools"))

import torch_npu_doors  # noqa: E402

HERE = torch_npu_doors.Files.of(Path(torch_npu.__file__).parent.parent)
NAMES = [door for door in torch_npu_doors.doors() if not door.startswith("field.")]


def test_this_torch_npu_offers_all() -> None:
    assert torch_npu_doors.lacking(HERE) == ([], [])
    assert {"torch.npu.current_stream", "torch_npu._C._npu_memoryStats", "torch.utils.dlpack.from_dlpack"} <= set(NAMES)


@pytest.mark.parametrize("door", NAMES)
def test_an_import_gives_it(door: str) -> None:
    first, *names = door.split(".")
    found: Any = reduce(getattr, names, importlib.import_module(first))
    assert found is not None


@pytest.mark.parametrize("module", ["torch.npu", "torch_npu", "torch_npu._C", "torch.ops.npu", "field"])
def test_what_is_not_there_is_not_found(module: str) -> None:
    assert not HERE.offers(f"{module}.no_such_name")


def test_one_without_an_import_of_dlpack() -> None:
    """As 2.7.1 and older ones are: the converter, or the patch that puts it in the place of torch's, is not there."""
    converter = {"lib/libtorch_npu.so": b"\0_npu_from_dlpack\0"}
    patch = {"utils/dlpack.py": b"def _apply_dlpack_patch():\n    pass\n"}
    door = "torch.utils.dlpack.from_dlpack"
    assert not torch_npu_doors.Files(converter | patch).offers(door)
    assert not torch_npu_doors.Files({**patch, "__init__.py": b"_apply_dlpack_patch()\n"}).offers(door)
    assert torch_npu_doors.Files({**converter, **patch, "__init__.py": b"_apply_dlpack_patch()\n"}).offers(door)


def test_the_versions_of_the_document() -> None:
    row = next(line for line in (_ROOT / "docs" / "npu.md").read_text().splitlines() if line.startswith("| checked by its doors |"))
    assert [version.strip() for version in row.split("|")[2].split(",")] == list(torch_npu_doors.VERSIONS)
