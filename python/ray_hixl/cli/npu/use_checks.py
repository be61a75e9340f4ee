"""The checks of ``ray-hixl doctor --npu`` on what this process would do: settings, ports, torch, and a start of HIXL without a transfer."""

from __future__ import annotations

import socket
from typing import Any

from ray_hixl.cli.findings import MISSING, WARNING, WORKS, Finding
from ray_hixl.cli.npu import facts
from ray_hixl.cli.npu.machine import Machine
from ray_hixl.options import Options

_PORT_SAMPLES = 64


def check_settings(machine: Machine, options: Options) -> list[Finding]:
    topic = "settings"
    shared = {name: machine.variable(name) for name in facts.SHARED_VARIABLES}
    told = ", ".join(f"{name}={text}" for name, text in shared.items() if text) or "none of " + ", ".join(shared) + " is set"
    found = [Finding(topic, "shared with peers", WORKS, f"{told}. Every process that is linked to this one needs the same")]
    timeout, retries = machine.variable("HCCL_RDMA_TIMEOUT"), machine.variable("HCCL_RDMA_RETRY_CNT")
    patience = facts.nic_patience(timeout, retries)
    if patience is None:
        what = f"HCCL_RDMA_TIMEOUT={timeout} HCCL_RDMA_RETRY_CNT={retries}: HIXL takes 5 to 20 and 1 to 7, and refuses to connect otherwise"
        found.append(Finding(topic, "NIC's patience", WARNING, what, "unset them, or correct them"))
    else:
        ours = options.transfer_timeout_s
        what = f"a NIC gives a silent peer up after {patience:.1f} s; a transfer without a deadline of its own ends after {ours:g} s"
        late = patience > 1.05 * ours
        remedy = "set HCCL_RDMA_TIMEOUT=17 (3.8 s) everywhere, or raise RAY_HIXL_TRANSFER_TIMEOUT_S" if late else ""
        found.append(Finding(topic, "NIC's patience", WARNING if late else WORKS, what, remedy))
    allocator = machine.variable("PYTORCH_NPU_ALLOC_CONF") or machine.variable("PYTORCH_ALLOC_CONF")
    if "expandable_segments:true" in allocator.replace(" ", "").lower():
        what = "expandable_segments is on: whether HIXL takes such memory (register_memory) is not known for every version"
        remedy = (
            "what is registered should begin at a multiple of 2 MiB (docs/npu.md); or take ray_hixl.empty(device=...). All else is packed"
        )
        found.append(Finding(topic, "torch's allocator", WARNING, what, remedy))
    return found


def check_ports(options: Options) -> list[Finding]:
    """Can HIXL listen where it is told to?"""
    topic = "ports"
    first, last = options.core.hixl_ports
    numbers = range(first, last + 1)
    found = [_bindable(topic, options.host, numbers)]
    if options.host.startswith("127.") or options.host == "::1":
        what = f"{options.host}: only processes of this host can connect. Under Ray the node's address is taken"
        found.append(Finding(topic, "host", WARNING, what, "between hosts, without Ray: RAY_HIXL_HOST=<this host's address>"))
    clash = [port for port in (*facts.HCCL_PORTS, facts.HCCL_NIC_PORT) if port in numbers]
    if clash:
        found.append(
            Finding(
                topic, "HCCL's ports", WARNING, f"hixl_ports {first}-{last} holds {clash[0]}, which HCCL uses", "move RAY_HIXL_HIXL_PORTS"
            )
        )
    return found


def _bindable(topic: str, host: str, numbers: range) -> Finding:
    step = max(1, len(numbers) // _PORT_SAMPLES)
    tried, errors = 0, []
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in numbers[::step]:
        tried += 1
        with socket.socket(kind, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError as error:
                errors.append(f"{port}: {error.strerror}")
    name = f"{host}, {numbers[0]}-{numbers[-1]}"
    if not errors:
        return Finding(topic, name, WORKS, f"{tried} ports tried, all free. Firewalls between hosts must let the whole range through")
    verdict = MISSING if len(errors) == tried else WORKS
    remedy = "is that an address of this host? RAY_HIXL_HOST, RAY_HIXL_HIXL_PORTS" if verdict == MISSING else ""
    return Finding(topic, name, verdict, f"{len(errors)} of {tried} ports tried cannot be had ({errors[0]})", remedy)


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


def check_start(started: dict[str, Any] | None, error: str, alignment: int) -> list[Finding]:
    """HIXL on npu:0, and the first slab."""
    topic = "start of HIXL on npu:0"
    if started is None:
        return [Finding(topic, "HIXL", MISSING, error, "docs/npu.md, Troubleshooting")]
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
