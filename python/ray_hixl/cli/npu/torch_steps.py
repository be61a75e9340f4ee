"""Steps 8 of ``ray-hixl bringup``: torch_npu's tensors."""

from __future__ import annotations

from ray_hixl.cli.npu import use_checks
from ray_hixl.cli.npu.context import MIB, Context, Failed

_LONG_S = 300.0
_EXPANDABLE = {"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True", "PYTORCH_ALLOC_CONF": None}


def _note_all(context: Context, lines: list[str]) -> None:
    for line in lines:
        context.note(line)


def ordinary_tensors(context: Context) -> None:
    """8.1: every usual kind of tensor, and a CPU one in the same object; then operators on what arrived."""
    context.need_torch()
    source, consumer = context.pair()
    metadata = source.call("torch_work.publish_kinds", 0, timeout=_LONG_S)
    _note_all(context, consumer.call("torch_work.fetch_kinds", metadata, 0, timeout=_LONG_S))
    _note_all(context, consumer.call("torch_work.use", metadata, context.cann.fake, timeout=_LONG_S))


def registered_memory(context: Context) -> None:
    """8.2: memory of torch's allocator, registered: no copy at the source."""
    context.need_torch()
    source, consumer = context.pair()
    metadata, evidence = source.call("torch_work.publish_registered", 0, 64 * MIB, 5, timeout=_LONG_S)
    _note_all(context, evidence)
    told = consumer.call("peer.fetch", metadata, 1, 64 * MIB, 5, 3, timeout=_LONG_S)
    if told["wrong"]:
        raise Failed(told["wrong"])
    context.note(f"fetched 3 times and compared, on {', '.join(told['devices'])}, by {told['by_transport']}")


def expandable_segments(context: Context) -> None:
    """8.3"""
    context.need_torch()
    _note_all(context, context.peer(0, _EXPANDABLE).call("torch_work.try_expandable", 0, 16 * MIB, timeout=_LONG_S))


def private_formats(context: Context) -> None:
    """8.4"""
    context.need_torch()
    _note_all(context, context.peer().call("torch_work.refuse_private_format", 0, timeout=_LONG_S))


def deleter(context: Context) -> None:
    """8.5"""
    context.need_torch()
    for finding in use_checks.check_deleter(context.helper().call("work.drop_a_tensor", timeout=_LONG_S), ""):
        if finding.verdict != "works":
            raise Failed(finding.found)
        context.note(finding.found)
