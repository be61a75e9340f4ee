"""The checks of ``ray-hixl doctor --npu`` on settings: variables, options, ports."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from ray_hixl.cli.npu import facts
from ray_hixl.cli.npu.cann import Cann
from ray_hixl.cli.npu.machine import Machine
from ray_hixl.findings import MISSING, REFUSED, WARNING, WORKS, Finding
from ray_hixl.options import Options

_SETTINGS, _PORTS = "settings", "ports"
_PORT_SAMPLES = 64
_NOSET = "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"


def check_settings(machine: Machine, options: Options, cann: Cann) -> list[Finding]:
    shared = {name: machine.variable(name) for name in facts.SHARED_VARIABLES}
    told = ", ".join(f"{name}={text}" for name, text in shared.items() if text) or "none of " + ", ".join(shared) + " is set"
    return [
        Finding(_SETTINGS, "shared with peers", WORKS, f"{told}. Every process that is linked to this one needs the same"),
        *_one_npu(machine, options, cann),
        _patience(machine, options),
        *_mooncake(machine),
        *_allocator(machine),
        *_queues(machine),
        *_noset(machine, options, cann),
    ]


def _one_npu(machine: Machine, options: Options, cann: Cann) -> Iterable[Finding]:
    """Would HIXL take HCCS between two processes on one NPU? They stage their tensors then."""
    name = "two processes on one NPU"
    if cann.error or cann.no_hixl or options.hixl_local_comm_res != "auto":  # then the endpoints are the user's own
        return
    if not cann.client_server:
        yield Finding(_SETTINGS, name, REFUSED, "CANN below 9.1 starts one engine on an NPU", "an NPU for each process, or CANN 9.1")
    elif cann.family not in ("A2", "A3"):
        yield Finding(_SETTINGS, name, WORKS, f"they can link on {cann.soc}")
    elif machine.variable("HCCL_INTRA_ROCE_ENABLE") == "1" or not {"auto", "hccs:device"} & set(options.hixl_protocol_desc):
        yield Finding(_SETTINGS, name, WORKS, "they link over RoCE")
    else:
        what = f"{cann.family}: HIXL would take HCCS, so tensors between them are staged through the host"
        remedy = "an NPU for each process; or in every process HCCL_INTRA_ROCE_ENABLE=1, or RAY_HIXL_HIXL_PROTOCOL_DESC=roce:device"
        yield Finding(_SETTINGS, name, WARNING, what, remedy)


def _patience(machine: Machine, options: Options) -> Finding:
    name = "NIC's patience"
    timeout, retries = machine.variable("HCCL_RDMA_TIMEOUT"), machine.variable("HCCL_RDMA_RETRY_CNT")
    patience = facts.nic_patience(timeout, retries)
    if patience is None:
        what = f"HCCL_RDMA_TIMEOUT={timeout} HCCL_RDMA_RETRY_CNT={retries}: HIXL takes 5 to 20 and 1 to 7, and refuses to connect otherwise"
        return Finding(_SETTINGS, name, WARNING, what, "unset them, or correct them")
    ours = options.transfer_timeout_s
    what = f"a NIC gives a silent peer up after {patience:.1f} s; a transfer without a deadline of its own ends after {ours:g} s"
    if patience <= 1.05 * ours:
        return Finding(_SETTINGS, name, WORKS, what)
    return Finding(_SETTINGS, name, WARNING, what, "set HCCL_RDMA_TIMEOUT=17 (3.8 s) everywhere, or raise RAY_HIXL_TRANSFER_TIMEOUT_S")


def _mooncake(machine: Machine) -> Iterable[Finding]:
    given = {name: text for name in facts.OF_MOONCAKE if (text := machine.variable(name))}
    pool = given.get("ASCEND_BUFFER_POOL", "0:0")
    if pool != "0:0":
        what = f"ASCEND_BUFFER_POOL={pool}: Mooncake takes staging buffers of the NPU; with them A2 refused registered memory (103900)"
        yield Finding(_SETTINGS, "ASCEND_BUFFER_POOL", WARNING, what, "ASCEND_BUFFER_POOL=0:0 where Mooncake shares NPUs with hixl")
    if given:
        remedy = "; ".join(f"{facts.OF_MOONCAKE[name]} for {name}" for name in given)
        yield Finding(_SETTINGS, "Mooncake's variables", WORKS, f"{', '.join(given)}: set, and not read here", remedy)


def _allocator(machine: Machine) -> Iterable[Finding]:
    allocator = machine.variable("PYTORCH_NPU_ALLOC_CONF") or machine.variable("PYTORCH_ALLOC_CONF")
    if "expandable_segments:true" in allocator.replace(" ", "").lower():
        what = "expandable_segments is on: whether HIXL takes such memory (register_memory) is not known for every version"
        remedy = (
            "what is registered should begin at a multiple of 2 MiB (docs/npu.md); or take ray_hixl.empty(device=...). All else is packed"
        )
        yield Finding(_SETTINGS, "torch's allocator", WARNING, what, remedy)


def _queues(machine: Machine) -> Iterable[Finding]:
    if machine.variable("PER_STREAM_QUEUE") == "1":
        what = (
            "PER_STREAM_QUEUE=1: torch_npu queues work for each stream by itself, so memory may be used again under a kernel that reads it"
        )
        yield Finding(_SETTINGS, "torch's queues", WARNING, what, "unset it (docs/npu.md)")


def _noset(machine: Machine, options: Options, cann: Cann) -> Iterable[Finding]:
    """Under Ray every actor sees all NPUs then; which one it uses shows only where torch has memory."""
    if machine.variable(_NOSET).lower() not in ("1", "true"):
        return
    if options.landing_device:
        yield Finding(_SETTINGS, _NOSET, WORKS, f"all NPUs are visible; tensors arrive on {options.landing_device}")
        return
    what = f"all {cann.devices} NPUs are visible; tensors arrive on the one where torch has memory, before that perhaps on another's"
    yield Finding(_SETTINGS, _NOSET, WORKS, what, "make a tensor on the actor's NPU first, or RAY_HIXL_LANDING_DEVICE=npu:N")


def check_ports(machine: Machine, options: Options) -> list[Finding]:
    """Can HIXL listen where it is told to, and will nobody else take its ports?"""
    first, last = options.core.hixl_ports
    numbers = range(first, last + 1)
    found = [_bindable(options.host, numbers)]
    if options.host.startswith("127.") or options.host == "::1":
        what = f"{options.host}: only processes of this host can connect. Under Ray the node's address is taken"
        found.append(Finding(_PORTS, "host", WARNING, what, "between hosts, without Ray: RAY_HIXL_HOST=<this host's address>"))
    for name, ports in facts.PORTS_OF_OTHERS:
        if shared := _both(numbers, ports):
            what = f"hixl_ports {first}-{last} holds {_text(shared)}, which {name} uses"
            found.append(Finding(_PORTS, f"{name}'s ports", WARNING, what, "move RAY_HIXL_HIXL_PORTS"))
    return found + list(_outgoing(machine, numbers))


def _outgoing(machine: Machine, numbers: range) -> Iterable[Finding]:
    """Ports that the system gives to outgoing connections of anybody, unless they are reserved."""
    name = "the system's own ports"
    given = facts.port_ranges("-".join((machine.read("/proc/sys/net/ipv4/ip_local_port_range") or "").split()))
    reserved = facts.port_ranges(machine.read("/proc/sys/net/ipv4/ip_local_reserved_ports") or "")
    shared = _both(numbers, given[0]) if given else range(0)
    free = [port for port in shared if not any(port in each for each in reserved)]
    if not given:
        return
    if free:
        what = f"of hixl_ports the system gives {_text(shared)} to outgoing connections, {len(free)} of them unreserved"
        remedy = f"move RAY_HIXL_HIXL_PORTS, or sysctl net.ipv4.ip_local_reserved_ports={_text(numbers)}"
        yield Finding(_PORTS, name, WARNING, what, remedy)
    else:
        kept = "reserved" if shared else "others"
        yield Finding(_PORTS, name, WORKS, f"outgoing connections get {_text(given[0])}; hixl_ports are {kept}")


def _both(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))


def _text(ports: range) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"


def _bindable(host: str, numbers: range) -> Finding:
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
        return Finding(_PORTS, name, WORKS, f"{tried} ports tried, all free. Firewalls between hosts must let the whole range through")
    verdict = MISSING if len(errors) == tried else WORKS
    remedy = "is that an address of this host? RAY_HIXL_HOST, RAY_HIXL_HIXL_PORTS" if verdict == MISSING else ""
    return Finding(_PORTS, name, verdict, f"{len(errors)} of {tried} ports tried cannot be had ({errors[0]})", remedy)
