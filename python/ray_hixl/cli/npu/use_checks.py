"""The checks of ``ray-hixl doctor --npu`` on what this process would do: torch, memory, and a start of HIXL without a transfer."""

from __future__ import annotations

from typing import Any

from ray_hixl.cli.npu import facts
from ray_hixl.cli.npu.cann import Cann
from ray_hixl.findings import MISSING, WARNING, WORKS, Finding
from ray_hixl.options import Options


def check_torch(versions: dict[str, str], imported: dict[str, Any] | None, error: str) -> list[Finding]:
    topic = "torch"
    torch, plugin = versions["torch"], versions["torch-npu"]
    if "not installed" in (torch, plugin):
        absent = "torch" if torch == "not installed" else "torch_npu"
        return [Finding(topic, absent, WARNING, "not installed: npu tensors need it; the engine alone does not", "pip install torch-npu")]
    found = [_pair(topic, torch, plugin)]
    known, what = facts.judge_torch_npu(plugin)
    found.append(Finding(topic, "torch_npu", WORKS if known else WARNING, f"{plugin}, {what}"))
    if imported is None:
        remedy = "torch_npu's import needs CANN's libraries: source its set_env.sh"
        return [*found, Finding(topic, "import", MISSING, f"import torch, torch_npu: {error}", remedy)]
    table = "by torch's DLPack table" if imported["table"] else "by attributes: this torch has no DLPack table"
    return [*found, Finding(topic, "import", WORKS, f"torch.npu sees {imported['devices']} device(s); tensors are read {table}")]


def _pair(topic: str, torch: str, plugin: str) -> Finding:
    name, said = "torch", f"{torch} with torch_npu {plugin}"
    if facts.base_version(torch) != facts.base_version(plugin):
        wanted = ".".join(map(str, facts.base_version(plugin)))
        return Finding(topic, name, WARNING, f"{said}: they belong to different versions of torch", f"pip install torch=={wanted}")
    if facts.base_version(torch) < facts.OLDEST_TORCH:
        oldest = ".".join(map(str, facts.OLDEST_TORCH))
        return Finding(topic, name, WARNING, f"{said}: before {oldest} torch_npu cannot make tensors over our memory", "take a newer pair")
    return Finding(topic, name, WORKS, said)


def check_memory(memory: dict[str, int] | None, error: str, options: Options, cann: Cann) -> list[Finding]:
    """Is there room for slabs on npu:0, beside what others hold now?"""
    topic, name = "memory", "HBM of npu:0"
    if memory is None:
        return [Finding(topic, name, WARNING, error, "docs/npu.md, Troubleshooting")]
    free, first, cap = memory["free"], options.slab_bytes, options.slab_cap_bytes
    what = (
        f"{_gib(free)} of {_gib(memory['total'])} free; slabs take {_gib(first)} at the first use, and at most {_gib(cap)} for each process"
    )
    others = "give torch less (vLLM: gpu_memory_utilization)"
    if free < first:
        found = [Finding(topic, name, MISSING, what, f"{others}, or lower RAY_HIXL_SLAB_BYTES")]
    elif free < cap:
        found = [Finding(topic, name, WARNING, what, f"{others}, or lower RAY_HIXL_SLAB_CAP_BYTES")]
    else:
        found = [Finding(topic, name, WORKS, what)]
    if cann.family in ("A2", "A3") and cap > facts.REGISTERED_CAP:
        what = f"slab_cap_bytes is {_gib(cap)}, but on {cann.family} HIXL registers {_gib(facts.REGISTERED_CAP)} (50 GB) in all"
        found.append(Finding(topic, "slab_cap_bytes", WARNING, what, "lower RAY_HIXL_SLAB_CAP_BYTES"))
    return found


def _gib(nbytes: int) -> str:
    return f"{nbytes / (1 << 30):.3g} GiB"


def check_start(started: dict[str, Any] | None, error: str, alignment: int) -> list[Finding]:
    """HIXL on npu:0, and the first slab."""
    topic = "start of HIXL on npu:0"
    if started is None:
        return [Finding(topic, "HIXL", MISSING, error, f"docs/npu.md, Troubleshooting; {facts.STAGED}")]
    device = started["stats"][0]
    found = [Finding(topic, "HIXL", WORKS, f"started, {device['registrations']} slab(s) registered; nothing was transferred")]
    off = started["address"] % alignment
    if off == 0:
        return [*found, Finding(topic, "slab's alignment", WORKS, f"{alignment >> 20} MiB, as HCCS wants it")]
    what = f"the slab begins {off} bytes behind a multiple of {alignment >> 20} MiB: HCCS will refuse it"
    return [*found, Finding(topic, "slab's alignment", WARNING, what, "use RoCE (HCCL_INTRA_ROCE_ENABLE=1 everywhere), and tell us")]


def check_deleter(blocks: dict[str, int] | None, error: str) -> list[Finding]:
    """Some versions of torch_npu take memory over by DLPack without keeping the function that gives it back."""
    topic, name = "torch", "deleter"
    if blocks is None:
        return [Finding(topic, name, MISSING, error, "docs/npu.md, Troubleshooting")]
    if blocks["meanwhile"] <= blocks["before"]:
        return [Finding(topic, name, MISSING, f"a tensor over our memory used no block: {blocks}", "report it")]
    if blocks["after"] > blocks["before"]:
        what = "torch_npu dropped a tensor over our memory without giving the memory back: every received tensor would leak"
        return [Finding(topic, name, MISSING, what, "take a newer torch_npu")]
    return [Finding(topic, name, WORKS, "a tensor over our memory was made, written and dropped, and the memory came back")]
