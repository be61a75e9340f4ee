"""The options as Python sees them. Made by ``make stubs`` out of include/ray_hixl/options.def: do not edit."""

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
        transports: Sequence[str] | None = None,
        host: str | None = None,
        publish: str | None = None,
        fetch: str | None = None,
        copy_threads: int | None = None,
        source_arena_bytes: int | None = None,
        landing_arena_bytes: int | None = None,
        slab_bytes: int | None = None,
        slab_cap_bytes: int | None = None,
        landing_device: str | None = None,
        hixl_ports: str | tuple[int, int] | None = None,
        hixl_protocol_desc: Sequence[str] | None = None,
        hixl_local_comm_res: str | None = None,
        hixl_max_active_channels: int | None = None,
        hixl_max_links: int | None = None,
        hixl_traffic_class: int | str | None = None,
        hixl_service_level: int | str | None = None,
        connect_timeout_s: float | None = None,
        transfer_timeout_s: float | None = None,
        publish_timeout_s: float | None = None,
        stall_timeout_s: float | None = None,
        idle_timeout_s: float | None = None,
        ray_wait_for_source: bool | None = None,
        checksum: bool | None = None,
        tls: bool | None = None,
        **unknown: NoReturn,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "unnamed", "unknown") and value is not None}
        self._set(given, unnamed, unknown)

    def _set(self, given: dict[str, Any], unnamed: tuple[Any, ...], unknown: dict[str, Any]) -> None:
        raise NotImplementedError

    @property
    def transports(self) -> tuple[str, ...]:
        """Allowed transports, in order of preference. Take one out to forbid it; hixl moves NPU memory, the others the host's."""
        return tuple(self._core.transports)

    @property
    def host(self) -> str:
        """IP address that the engine listens on and tells to peers; under Ray the node's IP."""
        return self._core.host

    @property
    def publish(self) -> str:
        """How tensors are published. alias: by reference, so that nobody writes them before they are freed. snapshot: as one copy, made
        at publish (CPU tensors in the source arena), so that their owner goes on with them at once. It costs the copy and its
        memory.
        """
        return self._core.publish

    @property
    def fetch(self) -> str:
        """How tensors are fetched: as copies of their own."""
        return self._core.fetch

    @property
    def copy_threads(self) -> int:
        """Threads that copy; 0 is one per core, at most 4. They sleep while nothing is copied."""
        return self._core.copy_threads

    @property
    def source_arena_bytes(self) -> int:
        """Source arena (memory of empty() and of snapshots) kept for recycling; a segment beyond it is given back when it is empty. Not
        a cap on live memory.
        """
        return self._core.source_arena_bytes

    @property
    def landing_arena_bytes(self) -> int:
        """The same for fetched tensors. Raise it above the bytes that a consumer holds at a time."""
        return self._core.landing_arena_bytes

    @property
    def slab_bytes(self) -> int:
        """First slab on each NPU that is used, in steps of 2 MiB: memory for received tensors, empty() and the copies of published
        tensors, registered with HIXL at first use. Further slabs double what there is, and cost every connected peer a new
        connection: raise it to what a process holds at a time.
        """
        return self._core.slab_bytes

    @property
    def slab_cap_bytes(self) -> int:
        """What the slabs of one NPU may take together, but the first one in any case; beyond it a publish or fetch ends as OutOfMemory."""
        return self._core.slab_cap_bytes

    @property
    def landing_device(self) -> str:
        """Where received NPU tensors come to, 'npu:<index>' or 'cpu', where neither the call nor a target chooses; 'npu' or empty: the
        NPU that this process uses (docs/npu.md).
        """
        return self._core.landing_device

    @property
    def hixl_ports(self) -> tuple[int, int]:
        """Ports that HIXL listens on, two for each process and NPU, drawn at random. Narrow it to what a firewall lets through."""
        return self._core.hixl_ports

    @property
    def hixl_protocol_desc(self) -> tuple[str, ...]:
        """Which endpoints HIXL makes on an NPU (its protocol_desc); auto leaves it to HIXL. The same in every process. With hccs:device
        a node whose NPUs' NICs have no address can start, and reaches its own node or super-pod only.
        """
        return tuple(self._core.hixl_protocol_desc)

    @property
    def hixl_local_comm_res(self) -> str:
        """Endpoints of this process's NPU in HIXL's own words (its LocalCommRes); auto has HIXL find them out."""
        return self._core.hixl_local_comm_res

    @property
    def hixl_max_active_channels(self) -> int:
        """Slots of HIXL on each NPU: how many requests are under way there, of all links together. Each takes two of the NPU's streams,
        and 2 MiB while it is used. Whoever uses HIXL in one process needs the same number.
        """
        return self._core.hixl_max_active_channels

    @property
    def hixl_max_links(self) -> int:
        """Links of HIXL that each NPU has at a time to peers that it reads from. For another one the link that has been unused for
        longest is closed; where all are in use peers take turns. Lower it where the NIC has no completion queue left.
        """
        return self._core.hixl_max_links

    @property
    def hixl_traffic_class(self) -> int | str:
        """Traffic class of RoCE; auto: HCCL_RDMA_TC, else HIXL's 132."""
        return self._core.hixl_traffic_class

    @property
    def hixl_service_level(self) -> int | str:
        """Service level of RoCE; auto: HCCL_RDMA_SL, else HIXL's 4."""
        return self._core.hixl_service_level

    @property
    def connect_timeout_s(self) -> float:
        """For connecting, with the handshake."""
        return self._core.connect_timeout_s

    @property
    def transfer_timeout_s(self) -> float:
        """For a transfer whose caller gave no timeout. Under Ray, Ray's own timeout rules."""
        return self._core.transfer_timeout_s

    @property
    def publish_timeout_s(self) -> float:
        """How long a publish waits for the work of its NPU that its tensors come out of. After it whoever fetches the object gets
        DeviceBusy.
        """
        return self._core.publish_timeout_s

    @property
    def stall_timeout_s(self) -> float:
        """A peer that sends or takes no byte for so long is gone: PeerGone, long before the deadline. On an NPU what has not ended so
        long after it was to stop is given up, and HIXL's engine with it.
        """
        return self._core.stall_timeout_s

    @property
    def idle_timeout_s(self) -> float:
        """A link that nobody used for so long is closed, and its file descriptors with it; so is an NPU's link of HIXL. The next use
        connects again. An arena of which nobody took memory for so long gives its empty segments back, but for 8 MiB.
        """
        return self._core.idle_timeout_s

    @property
    def ray_wait_for_source(self) -> bool:
        """Under Ray: an object is handed to an actor that runs calls out of order (async, threaded) only once it was made. Without that
        Ray may block such an actor for ever (docs/ray.md). Other actors never wait.
        """
        return self._core.ray_wait_for_source

    @property
    def checksum(self) -> bool:
        """Checksums of payloads."""
        return self._core.checksum

    @property
    def tls(self) -> bool:
        """TLS on TCP connections."""
        return self._core.tls
