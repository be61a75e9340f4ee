from collections.abc import Callable, Sequence
from typing import Any


version: str = '0.1.0'

def end_of_process() -> None:
    """
    The exit function: engines are closed, and none is made any more; NPU memory is not given back from here on, since CANN's runtime may be gone before tensors are.
    """

class Options:
    """The C++ options; ray_hixl.Options is the Python face."""

    def __init__(self) -> None:
        """Defaults."""

    @staticmethod
    def from_environment() -> Options:
        """Defaults, overridden by RAY_HIXL_<NAME>."""

    def set(self, name: str, text: str) -> None: ...

    @property
    def transports(self) -> list[str]: ...

    @property
    def host(self) -> str: ...

    @property
    def publish(self) -> str: ...

    @property
    def fetch(self) -> str: ...

    @property
    def copy_threads(self) -> int: ...

    @property
    def source_arena_bytes(self) -> int: ...

    @property
    def landing_arena_bytes(self) -> int: ...

    @property
    def slab_bytes(self) -> int: ...

    @property
    def slab_cap_bytes(self) -> int: ...

    @property
    def landing_device(self) -> str: ...

    @property
    def hixl_ports(self) -> tuple[int, int]: ...

    @property
    def hixl_protocol_desc(self) -> list[str]: ...

    @property
    def hixl_local_comm_res(self) -> str: ...

    @property
    def hixl_max_active_channels(self) -> int: ...

    @property
    def hixl_max_links(self) -> int: ...

    @property
    def hixl_traffic_class(self) -> int | str: ...

    @property
    def hixl_service_level(self) -> int | str: ...

    @property
    def connect_timeout_s(self) -> float: ...

    @property
    def transfer_timeout_s(self) -> float: ...

    @property
    def publish_timeout_s(self) -> float: ...

    @property
    def stall_timeout_s(self) -> float: ...

    @property
    def idle_timeout_s(self) -> float: ...

    @property
    def ray_wait_for_source(self) -> bool: ...

    @property
    def checksum(self) -> bool: ...

    @property
    def tls(self) -> bool: ...

def option_infos() -> list[tuple[str, str, str, str, str, str]]:
    """
    Of every option: name, types of its argument and its property, default, what it takes, text.
    """

class Buffer:
    """
    Memory of an engine, writable: for every consumer of DLPack and, on the host, for memoryview() and numpy.asarray().
    """

    @property
    def address(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def dtype(self) -> str:
        """Name of the element type, as torch spells it."""

    @property
    def shape(self) -> tuple: ...

    @property
    def region(self) -> Region | None:
        """The region it is, or None."""

    def __len__(self) -> int: ...

    def __dlpack__(self, *, stream: object = None, max_version: object = None, dl_device: object = None, copy: object = None) -> Any: ...

    def __dlpack_device__(self) -> tuple: ...

    def __repr__(self) -> str: ...

def use_torch(module: object, exchange_api: bool = True) -> None:
    """
    Tells the module where torch is. exchange_api=False ignores its DLPack table, as if it had none.
    """

def knows_torch() -> bool: ...

def has_exchange_api() -> bool:
    """
    Does this torch offer the DLPack table that makes reading a tensor cheap?
    """

class Begun:
    """
    The transfers that a block begins, which end before it raises. A context manager.
    """

    def __init__(self, seconds: float, conclude: Callable[[BaseException, list[str]], BaseException]) -> None:
        """
        `seconds`: how long writes to callers' memory may take to stop. `conclude(error, names)` gives what is raised in place of `error`, where to the memory of `names` something may still write.
        """

    @staticmethod
    def current() -> Begun | None:
        """The innermost block that this thread is in."""

    def add(self, name: str, transfer: object, writes: bool) -> None:
        """
        `transfer` has cancel() and stopped(seconds). `writes`: to memory of the caller.
        """

    def end(self, error: object) -> None:
        """
        What leaving the block by `error` does: cancels everything, waits, and raises what is raised instead, if anything.
        """

    def __enter__(self) -> Begun: ...

    def __exit__(self, kind: object, error: object, trace: object, /) -> None: ...

class CancelledWhenDropped:
    """Cancels a transfer when it is dropped itself."""

    def __init__(self, transfer: Transfer) -> None: ...

class Region:
    """
    Registered memory of this process. A context manager: leaving it closes the region.
    """

    @property
    def descriptor(self) -> bytes:
        """For peer.region() elsewhere. A secret."""

    @property
    def nbytes(self) -> int: ...

    @property
    def kind(self) -> str: ...

    @property
    def open(self) -> bool: ...

    @property
    def read_only(self) -> bool: ...

    def close(self) -> None:
        """Revokes it for peers. Idempotent, never blocks."""

    def __enter__(self) -> Region: ...

    def __exit__(self, *args) -> None: ...

class RemoteRegion:
    """A peer's region."""

    @property
    def nbytes(self) -> int: ...

    @property
    def kind(self) -> str: ...

    @property
    def remote_write(self) -> bool: ...

class Batch:
    """Ops that were checked once, to be read any number of times."""

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

class Transfer:
    """A batch or fetch under way."""

    def wait(self, timeout: float | None = None) -> bool:
        """True once it ended, however; False if the time was not enough."""

    def stopped(self, seconds: float) -> bool:
        """
        Waits. True once nothing writes to its memory any more, however it ended.
        """

    @property
    def done(self) -> bool: ...

    def raise_failure(self) -> None:
        """REQUIRES: done."""

    def cancel(self) -> None: ...

    def bytes_by_transport(self) -> dict: ...

    def times(self) -> tuple:
        """
        When it was begun, linked, moving, moved and ended, by the clock of time.perf_counter. REQUIRES: done.
        """

class PathInfo:
    """How bytes travel from one kind of memory of a peer to one kind here."""

    @property
    def transport(self) -> str | None:
        """Name of the transport, or None."""

    @property
    def refused(self) -> dict:
        """Transport -> a sentence why it is not taken."""

    def __repr__(self) -> str: ...

class Peer:
    """A connection from this engine to another one."""

    def region(self, arg: bytes, /) -> RemoteRegion: ...

    def prepare_ops(self, ops: list) -> Batch: ...

    def prepare_arrays(self, locals: list, local_index: object, local_offset: object, remotes: list, remote_index: object, remote_offset: object, nbytes: object) -> Batch: ...

    def read_async(self, batch: Batch, timeout: float, begun: Begun) -> Transfer:
        """Added to `begun`."""

    def read(self, batch: Batch, timeout: float, stop_seconds: float, conclude: Callable[[BaseException, list[str]], BaseException]) -> None:
        """Begins and waits. An interrupt ends it first, as `Begun` does."""

    def path_of_kinds(self, arg0: str, arg1: str, /) -> PathInfo: ...

    def path_of_region(self, arg0: str, arg1: RemoteRegion, /) -> PathInfo: ...

    def close(self) -> None: ...

class Engine:
    """The C++ engine; ray_hixl.Engine is the Python face."""

    @staticmethod
    def create(arg: Options, /) -> Engine: ...

    @property
    def descriptor(self) -> bytes: ...

    def register(self, memory: object | None, remote_write: bool) -> Region: ...

    def empty(self, nbytes: int, npu: int | None = None, pinned: bool = False) -> Buffer:
        """
        In the source arena, in a slab of that NPU, or host memory that it pins.
        """

    def reserve(self, npu: int, nbytes: int) -> None: ...

    def connect(self, descriptor: bytes, timeout: float) -> Peer: ...

    def stats(self) -> dict: ...

    def close(self) -> None: ...

class TransportProbe:
    @property
    def transport(self) -> str: ...

    @property
    def usable(self) -> bool: ...

    @property
    def reason(self) -> str: ...

def probe_transports() -> list[TransportProbe]:
    """What works on this machine."""

def tcp_only(descriptor: bytes) -> bytes:
    """
    An engine's descriptor without its Unix socket, as if it were on another host.
    """

HOST: int = -2

class Metadata:
    """An object's metadata, decoded."""

    @staticmethod
    def decode(packed: bytes) -> Metadata: ...

    def raise_failure(self) -> None:
        """Raises what publishing ran into, if anything."""

    @property
    def engine(self) -> bytes:
        """Descriptor of the engine that published it."""

    @property
    def owner(self) -> str:
        """The engine that published it, as errors name it."""

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    @property
    def layouts(self) -> list:
        """(dtype's name, shape) of every layout."""

    @property
    def runs(self) -> list:
        """
        (layout, index of the first tensor, tensors) of consecutive tensors of one layout.
        """

class Fetch:
    @property
    def transfer(self) -> Transfer: ...

    def take(self) -> list:
        """The tensors: the same list at every call. REQUIRES: transfer.done."""

class Published:
    """
    An object of this process. Dropping it releases the object. A context manager: so does leaving it by an error.
    """

    @property
    def packed(self) -> bytes:
        """Its metadata."""

    def keep(self) -> None:
        """It stays until Objects.release()."""

    def release(self) -> None:
        """Frees it now. Idempotent."""

    def __enter__(self) -> Published: ...

    def __exit__(self, kind: object, error: object, trace: object, /) -> None: ...

class Objects:
    """Objects of an engine."""

    @staticmethod
    def create(engine: Engine) -> Objects: ...

    def publish(self, tensors: list) -> Published:
        """A failure travels in the metadata. A closed engine raises Closed."""

    def publish_error(self, tensors: list, code: str, message: str) -> Published:
        """An object that could not be made: a fetch of it ends with this error."""

    def fetch(self, engine: Engine, packed: bytes, targets: list | None, timeout: float, begun: Begun, name: str, device: int | None) -> tuple[Fetch, bool, list]:
        """
        The fetch, added to `begun`, of NPU tensors to the NPU `device` unless targets or nobody chose; whether it goes to new memory although there are targets: those that it cannot write to; and what keeps the targets' bytes where they are: to be cleared once every byte has come, else the engine drops it when nothing writes any more.
        """

    def release(self, packed: bytes) -> bool:
        """False if it was unknown or already freed."""

def touches_npu(packed: bytes) -> bool:
    """
    Does an object have tensors in NPU memory? False for what is no metadata.
    """

def make_tensor(buffer: Buffer, dtype: str, shape: Sequence[int]) -> object:
    """A torch tensor that is the buffer's memory and keeps it."""

def cann_info() -> dict:
    """
    Paths, versions and devices of the CANN that this process uses, which is looked for at the first call. Raises NotAvailable with what is missing.
    """

def npu_capsule(address: int, device: int, dtype: str, shape: Sequence[int], step: int) -> object:
    """
    Memory of an NPU as an old DLPack capsule that does not keep it. Rows are contiguous and `step` elements apart.
    """
