"""Engine: registers memory, connects to peers, reads their regions, publishes and fetches objects. Works without Ray and without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from ray_hixl import _core, arguments, begun
from ray_hixl.errors import HixlError, InvalidArgument, NotAvailable
from ray_hixl.options import Options, misplaced
from ray_hixl.tensors import use_torch
from ray_hixl.transfers import Fetch, Transfer

if TYPE_CHECKING:
    from ray_hixl._core import Batch, Buffer, PathInfo, Published, Region, RemoteRegion

    Op: TypeAlias = tuple[Region, int, RemoteRegion, int, int]

_KINDS = "a kind of memory, 'host', 'device' or 'pinned'"
_WRITE = "writing into a peer's memory is not built yet: let the peer read it (peer.read there), or publish an object"


class Peer:
    """A connection to another engine, for reading there. Keeps its engine. Closing it ends its transfers with ``Closed``."""

    def __init__(self, core: _core.Peer, options: Options) -> None:
        self._core = core
        self._options = options

    def region(self, descriptor: bytes) -> RemoteRegion:
        """Decodes a region descriptor of that engine. :raises InvalidRegion: it is malformed, or another engine's."""
        return self._core.region(arguments.packed(descriptor, "region takes the .descriptor of a region of that engine"))

    def prepare(self, ops: Sequence[Any], *arrays: Any) -> Batch:
        """Checks ops once, for any number of reads.

        Either one list of ``(local region, local offset, remote region, remote offset, bytes)``, or, for many ops, ``locals,
        local_index, local_offset, remotes, remote_index, remote_offset, nbytes``: two lists of regions and five int64 arrays of one
        length, where op i is ``locals[local_index[i]]`` at ``local_offset[i]`` and so on.

        :raises InvalidRegion: an op lies outside of its regions, or names a closed or foreign one.
        :raises InvalidArgument: malformed ops.
        """
        if not arrays:
            return self._core.prepare_ops(arguments.listed(ops, "ops"))
        if len(arrays) != 6:
            raise TypeError("prepare takes ops, or locals, local_index, local_offset, remotes, remote_index, remote_offset, nbytes")
        local_index, local_offset, remotes, remote_index, remote_offset, nbytes = arrays
        locals_, remotes = arguments.listed(ops, "local regions"), arguments.listed(remotes, "remote regions")
        return self._core.prepare_arrays(locals_, local_index, local_offset, remotes, remote_index, remote_offset, nbytes)

    def read_async(self, batch_or_ops: Batch | Sequence[Op], timeout: float | None = None) -> Transfer:
        """Starts reading. ``timeout``: seconds until it ends at the latest; by default the option ``transfer_timeout_s`` (30)."""
        batch = self._prepared(batch_or_ops)
        seconds = arguments.seconds(timeout, self._options.transfer_timeout_s)
        block = begun.ended_on_error()
        try:
            return Transfer(self._core.read_async(batch, seconds, block), self._core)
        except BaseException as error:
            block.end(error)
            raise

    def read(self, batch_or_ops: Batch | Sequence[Op], timeout: float | None = None) -> None:
        """Reads, and returns when every byte is there. Whatever it raises, Ctrl-C too, nothing writes to the local memory any more, or the
        error says so. Where the ops' local ranges overlap, any of their bytes may stay.

        :raises InvalidArgument: of an engine in this process: what is read and where it goes share memory.
        :raises HixlError: how it failed.
        """
        seconds = arguments.seconds(timeout, self._options.transfer_timeout_s)
        self._core.read(self._prepared(batch_or_ops), seconds, begun.STOP_S, begun.tell)

    def _prepared(self, batch_or_ops: Batch | Sequence[Op]) -> Batch:
        return batch_or_ops if isinstance(batch_or_ops, _core.Batch) else self.prepare(batch_or_ops)

    def write_async(self, batch_or_ops: Batch | Sequence[Op], timeout: float | None = None) -> Transfer:
        """Not available in this version."""
        raise NotAvailable(_WRITE)

    def write(self, batch_or_ops: Batch | Sequence[Op], timeout: float | None = None) -> None:
        """Not available in this version."""
        raise NotAvailable(_WRITE)

    def path(self, local: str = "host", remote: str | RemoteRegion = "host") -> PathInfo:
        """Which transport a read takes, and why not the others.

        :param local: kind of memory here, ``"host"``, ``"device"`` or ``"pinned"``: see ``Region.kind``.
        :param remote: kind of memory there, or a region: memory of the source arena may take another way than ordinary memory.
        :raises InvalidArgument: no kind of memory. Which NPU it is does not matter, so that ``"npu:0"`` is none, either.
        """
        if not isinstance(local, str):
            raise TypeError(f"local takes {_KINDS}; this is {arguments.described(local)}")
        if isinstance(remote, str):
            return self._core.path_of_kinds(local, remote)
        if not isinstance(remote, _core.RemoteRegion):
            raise TypeError(
                f"remote takes {_KINDS}, or a region of the peer: peer.region(descriptor); this is {arguments.described(remote)}"
            )
        return self._core.path_of_region(local, remote)

    def close(self) -> None:
        """Ends its transfers. Idempotent."""
        self._core.close()


class Engine:
    """One per process is the usual number. Every method may be called from any thread. A context manager.

    Listens on 127.0.0.1 unless ``Options.host`` says otherwise. In a forked child what the parent's engine begins ends with ``Closed``;
    tensors stay readable, and an engine made there works in full (docs/threading.md).
    """

    def __init__(self, options: Options | None = None, **misplaced_options: NoReturn) -> None:
        if misplaced_options:
            raise TypeError(misplaced(misplaced_options))
        use_torch()
        self._options = arguments.options(options) or Options()
        self._core = _core.Engine.create(self._options.core)
        self._objects = _core.Objects.create(self._core)

    @property
    def options(self) -> Options:
        """The options it runs with."""
        return self._options

    @property
    def descriptor(self) -> bytes:
        """For ``connect`` elsewhere. A secret: whoever has it can read what this engine shows."""
        return self._core.descriptor

    def register(self, buffer: Any, remote_write: bool = False) -> Region:
        """Shows memory to peers, without copying it; the region keeps it alive.

        NPU memory: HIXL gets the whole allocation that holds it (in an expandable segment of torch's allocator the tensor's storage, from a
        multiple of 2 MiB on), and keeps that until no peer is connected. Tensors in it are published without a copy from then on, and
        received into directly. Peers that are connected already make a new connection once.

        :param buffer: a contiguous tensor of the CPU or an NPU, a DLPack object or a buffer. Read-only buffers may be read by peers.
        :param remote_write: may peers write to it? For a later version: no engine asks for that yet.
        :raises UnsupportedTensor: the memory is not plain dense memory.
        :raises NotAvailable: NPU memory that HIXL cannot have (in an expandable segment a tensor that begins before that), or no HIXL.
        """
        use_torch()
        return self._core.register(buffer, remote_write)

    def empty(self, nbytes: int, device: str = "cpu", pinned: bool = False) -> Buffer:
        """Memory that peers can read as it is, registered as ``.region``.

        :param device: ``"cpu"``: born in the source arena, which peers on this host map. ``"npu:0"``: in a slab of that NPU; ``"npu"``:
            of the current one.
        :param pinned: memory of the CPU that an NPU's runtime pins, and that HIXL moves from and to NPUs and other such memory, where it
            takes it (docs/npu.md): then ``.region.kind`` is ``"pinned"``, else ``"host"``. An allocation and a registration of its own:
            few and large ones. The NPU is that of the option ``landing_device``, else the current one.
        :raises NotAvailable: there is no such NPU here, and what is missing.
        :raises OutOfMemory: the NPU's slabs are at ``Options.slab_cap_bytes``, or the NPU is full.
        """
        use_torch()
        index = _device_index(device)
        if pinned:
            if index != _core.HOST:
                raise InvalidArgument(f"pinned memory is the CPU's: device='cpu', not {str(device)!r}")
            wish = self._options.landing_device
            index = _device_index(wish if wish.startswith("npu") else "npu")
        return self._core.empty(arguments.nbytes(nbytes), None if index == _core.HOST else index, pinned)

    def reserve(self, nbytes: int, device: str) -> None:
        """At least so many bytes in the slabs of an NPU, taken now rather than when they are needed. Raises as ``empty`` does."""
        index = _device_index(device)
        if index == _core.HOST:
            raise NotAvailable("only an NPU's memory is reserved: the arenas of the CPU grow by themselves")
        use_torch()
        self._core.reserve(index, arguments.nbytes(nbytes))

    def connect(self, descriptor: bytes, timeout: float | None = None) -> Peer:
        """Connects to another engine. ``timeout``: seconds; by default the option ``connect_timeout_s`` (10).

        :raises ConnectError: it was not reached, refused, or did not prove who it is.
        :raises PeerGone: it has ended, on this host.
        :raises InvalidArgument: the bytes are no engine's descriptor.
        """
        wanted = arguments.packed(descriptor, "connect takes the .descriptor of another engine")
        return Peer(self._core.connect(wanted, arguments.seconds(timeout, self._options.connect_timeout_s)), self._options)

    def publish(self, tensors: Iterable[Any]) -> bytes:
        """Makes an object of tensors (or DLPack objects, or buffers), which it keeps until ``release``. Returns its metadata: a secret.

        Contiguous memory is referenced, not copied: do not write to it before the release. Other torch tensors are packed, other buffers
        refused. NPU memory is referenced if it is registered (``register``, ``empty``, or received), else packed into a slab; what is
        queued on the current stream of its NPU is waited for. With ``Options(publish="snapshot")`` all of it is copied before this returns,
        and may be written and freed from then on; nothing of it is kept, so that soon afterwards a ``bytearray`` can be resized again and
        an ``mmap`` closed. What another stream writes has to be waited for there (``wait_stream``)
        before.

        :raises HixlError: why it could not be published, and which of the tensors it was.
        :raises OutOfMemory: there is no memory for a snapshot, or for what is packed.
        :raises DeviceBusy: that stream was not done within ``Options.publish_timeout_s``.
        """
        with self._publish(arguments.listed(tensors, "tensors or buffers")) as published:
            _core.Metadata.decode(published.packed).raise_failure()
            return _kept(published)

    def publish_quietly(self, tensors: Iterable[Any]) -> bytes:
        """``publish`` that never raises ``HixlError``: whoever fetches the object gets it instead."""
        return _kept(self.publish_owned(tensors))

    def publish_owned(self, tensors: Iterable[Any]) -> Published:
        """``publish_quietly``, of an object that is released when what is returned is dropped."""
        listed = arguments.listed(tensors, "tensors or buffers")
        try:
            return self._publish(listed)
        except HixlError as error:
            return self._publish_error(listed, error)

    def publish_error(self, tensors: Iterable[Any], error: HixlError) -> bytes:
        """Metadata of an object that does not exist, described as ``tensors``: fetching it raises ``error``."""
        return self._publish_error(list(tensors), error).packed

    def _publish(self, tensors: list[Any]) -> Published:
        use_torch()
        return self._objects.publish(tensors)

    def _publish_error(self, tensors: list[Any], error: HixlError) -> Published:
        return self._objects.publish_error(tensors, error.code, str(error))

    def fetch(
        self, metadata: bytes, targets: Sequence[Any] | None = None, timeout: float | None = None, device: str | None = None
    ) -> Fetch:
        """Starts fetching an object. ``timeout``: seconds; by default the option ``transfer_timeout_s`` (30).

        Does not wait for the source, but takes the memory that it needs: new pages cost about a second for 2 GiB, recycled ones nothing.
        Where targets are on an NPU it waits for what is queued there on the current stream, which may use them; after ``timeout`` the fetch
        ends with ``DeviceBusy``.
        NPU tensors come to the NPU of their targets, else to ``device``, else to the option ``landing_device``, else to the NPU that this
        process uses (docs/npu.md).

        :param targets: contiguous tensors or buffers of the same shapes and dtypes, to receive into, which share no memory, on any
            device; by default new memory. What arrives goes right there, but where a target is on an NPU and not registered: then all of
            it comes to new memory, and ``result`` copies it.
        :param device: ``"npu:<index>"``, ``"npu"`` (the current one) or ``"cpu"``, for NPU tensors without a target.
        :raises InvalidArgument: a target does not fit, or another device. The fetch ends with it where a target shares memory with what
            is fetched, which is of this process, other than as the same bytes. The fetch ends with it where this process sees no such NPU.
        :raises NotAvailable: NPU tensors, and what is missing here for them.
        """
        block = begun.ended_on_error()
        try:
            return self.fetch_within(block, "the fetch", metadata, targets, timeout, device)
        except BaseException as error:  # an interrupt, after it was begun
            block.end(error)
            raise

    def fetch_within(
        self,
        block: _core.Begun,
        name: str,
        metadata: bytes,
        targets: Sequence[Any] | None = None,
        timeout: float | None = None,
        device: str | None = None,
    ) -> Fetch:
        """``fetch`` that ends before ``block`` raises; ``name`` is how its error calls the fetch if something may still write then."""
        use_torch()
        packed = arguments.packed(metadata, "fetch takes the metadata that publish() returned")
        listed = None if targets is None else arguments.listed(targets, "targets")
        seconds = arguments.seconds(timeout, self._options.transfer_timeout_s)
        landing = None if device is None else _device_index(device)
        if _core.knows_torch() and _core.touches_npu(packed) and self._comes_to_npus(listed, landing):
            _npu_to_receive_with().refuse_capture("fetching npu tensors")
        core, copied, exports = self._objects.fetch(self._core, packed, listed, seconds, block, name, landing)
        return Fetch(core, self._core, listed, copied, exports, seconds)

    def _comes_to_npus(self, targets: list[Any] | None, landing: int | None) -> bool:
        """May any tensor of an NPU come to one here?"""
        if "staged" not in self._options.transports:
            return True
        if targets is not None:
            return any(getattr(getattr(target, "device", None), "type", "cpu") != "cpu" for target in targets)
        return landing != _core.HOST and (landing is not None or self._options.landing_device != "cpu")

    def release(self, metadata: bytes) -> None:
        """Frees an object published here: no peer reads it any more once this returned; its memory goes when the last reader is gone.

        Idempotent: of an object that was released, or whose engine was closed, nothing is left to do.

        :raises InvalidArgument: the bytes are no object's metadata, or another engine published it, which has to release it.
        """
        packed = arguments.packed(metadata, "release takes the metadata that publish() returned")
        if not self._objects.release(packed):
            self._check_own(packed)

    def _check_own(self, packed: bytes) -> None:
        published = _core.Metadata.decode(packed)
        if published.engine != self.descriptor:
            raise InvalidArgument(f"the {published.owner} published this object, so that only that engine can release it")

    def stats(self) -> dict[str, Any]:
        """Counters since the engine was made; docs/ray.md explains each."""
        return self._core.stats()

    def close(self) -> None:
        """Ends every transfer with ``Closed``. Fetched tensors stay usable. Idempotent."""
        self._core.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _device_index(name: str) -> int:
    """As ``arguments.device``, of the current NPU for ``"npu"``. :raises NotAvailable: nobody knows here which that is."""
    index = arguments.device(name)
    if index is not None:
        return index
    use_torch()
    if not _core.knows_torch():
        return 0
    from ray_hixl import npu

    return npu.current_device()


def _npu_to_receive_with() -> ModuleType:
    try:
        from ray_hixl import npu
    except NotAvailable as error:
        raise NotAvailable(
            f"{error}. NPU tensors come to the CPU, by transport staged, with device='cpu', targets there, the option "
            "landing_device='cpu' or Ray's set_target_device_for_ref(ref, 'cpu')"
        ) from error
    return npu


def _kept(published: Published) -> bytes:
    packed = published.packed
    published.keep()
    return packed
