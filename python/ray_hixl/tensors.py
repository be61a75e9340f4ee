"""What the binding asks torch for, and an object's tensor descriptions as Ray wants them. Imports torch only when it is used."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, overload

from ray_hixl import _core

if TYPE_CHECKING:
    import torch


def use_torch() -> None:
    """Makes the binding read and make torch tensors, where the process has imported torch: to the end, not just begun."""
    if _core.knows_torch():
        return
    torch = sys.modules.get("torch")
    if torch is not None and _is_imported(torch):
        _core.use_torch(torch)


def _is_imported(torch: ModuleType) -> bool:
    """Is its import over? Another thread may be in the middle of it: then the module exists, and what is in it comes bit by bit."""
    initializing = getattr(torch.__spec__, "_initializing", False)  # as Python's own import asks
    return not initializing and all(hasattr(torch, name) for name in ("Tensor", "dtype", "from_dlpack"))


def pack(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in plain contiguous memory: a copy, except where the tensor already is."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous()


def explain_refusal(tensor: torch.Tensor, which: str, cause: str) -> str:
    """Why ``which`` is no plain dense memory, and what to take instead; ``cause`` is what torch said, for kinds not known here."""
    refused = f"{which} is no plain dense memory: "
    if tensor.is_nested:
        return refused + "it is nested; take tensor.unbind(), a list of plain tensors"
    if tensor.is_quantized or str(tensor.dtype).startswith("torch.q"):
        return refused + f"it is quantized ({tensor.dtype}); take tensor.int_repr() with its scale and zero point, or tensor.dequantize()"
    layout = str(tensor.layout).removeprefix("torch.").removeprefix("_")
    if layout.startswith("sparse"):
        return refused + f"it is sparse ({layout}); take its indices and values, or tensor.to_dense()"
    if layout != "strided":
        return refused + f"its layout is {layout}; take tensor.to_dense()"
    if tensor.device.type == "meta":
        return refused + "it is on the meta device and has no bytes; materialise it first"
    if tensor.device.type not in ("cpu", "npu"):
        return refused + f"it is on {tensor.device}; hixl moves NPU and CPU memory: take tensor.cpu()"
    return refused + cause.splitlines()[0]


class TensorMetaSequence(Sequence[Any]):
    """(shape, dtype) of every tensor of an object, expanded out of its packed metadata when somebody looks. Pickles as the packed bytes."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._expanded: list[tuple[torch.Size, torch.dtype]] | None = None
        self._length = -1

    def _expand(self) -> list[tuple[torch.Size, torch.dtype]]:
        if self._expanded is None:
            import torch

            metadata = _core.Metadata.decode(self._packed)
            layouts = [(torch.Size(shape), getattr(torch, dtype)) for dtype, shape in metadata.layouts]
            expanded: list[tuple[torch.Size, torch.dtype]] = []
            for layout, _, count in metadata.runs:
                expanded += [layouts[layout]] * count
            self._expanded = expanded
        return self._expanded

    def __len__(self) -> int:
        if self._length < 0:
            self._length = len(_core.Metadata.decode(self._packed))
        return self._length

    @overload
    def __getitem__(self, index: int) -> tuple[torch.Size, torch.dtype]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[torch.Size, torch.dtype]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._expand()[index]

    def __iter__(self) -> Iterator[tuple[torch.Size, torch.dtype]]:
        return iter(self._expand())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # like a list's

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorMetaSequence, (self._packed,)

    def __repr__(self) -> str:
        return f"TensorMetaSequence({len(self)} tensors)"
