// Regions, batches, transfers, peers and engines. Everything that may wait runs without the GIL.
#include <algorithm>
#include <functional>
#include <utility>

#include "begun.h"
#include "buffer.h"
#include "common.h"
#include "control/descriptor.h"
#include "device_ops.h"
#include "engine/engine_impl.h"
#include "gil.h"
#include "region.h"
#include "stats.h"
#include "tensor_reader.h"
#include "torch_table.h"

namespace ray_hixl::python {
namespace {

// Of CLOCK_MONOTONIC, as time.perf_counter.
nb::tuple to_tuple(const TransferTimes& times) {
  const auto seconds = [](std::chrono::steady_clock::time_point at) {
    return std::chrono::duration<double>(at.time_since_epoch()).count();
  };
  return nb::make_tuple(seconds(times.begun), seconds(times.linked), seconds(times.moving), seconds(times.moved), seconds(times.ended));
}

// The whole allocation of torch's allocator that holds a tensor of an NPU; empty where torch does not know it.
MemoryRange segment_of(nb::handle memory, const MemoryRange& range) {
  const TorchTable* const torch = TorchTable::get();
  if (range.kind != MemoryKind::kDevice || range.length == 0 || torch == nullptr || !torch->is_tensor(memory)) return {};
  const nb::object found = call_npu("segment_of", nb::make_tuple(memory));
  if (found.is_none()) return {};
  const auto [address, bytes] = nb::cast<std::pair<std::uintptr_t, std::uint64_t>>(found);
  return {reinterpret_cast<std::byte*>(address), bytes, MemoryKind::kDevice, range.device};
}

// What is registered, and the allocation that it lies in.
std::pair<ReadTensor, MemoryRange> read_to_register(const Engine& engine, nb::handle memory, bool remote_write) {
  const ForeignCalls calls(engine.impl()->check());
  ReadTensor read = read_tensor(memory, Subject::named("the memory to register"));
  if (remote_write && read.read_only) {
    throw StatusError{Status(Code::kInvalidArgument, "the memory is read-only, so that peers cannot be allowed to write to it")};
  }
  const MemoryRange segment = segment_of(memory, read.range);
  return {std::move(read), segment};
}

LocalRegion register_memory(const Engine& engine, nb::handle memory, bool remote_write) {
  auto [read, segment] = read_to_register(engine, memory, remote_write);
  const std::shared_ptr<const void> owner = keep_alive(std::move(read.owner));
  Result<Region> region = Status(Code::kInternal, "not registered");
  {
    const GilRelease no_gil;  // HIXL registers on a thread of its own
    region = engine.register_memory(read.range, remote_write, owner, segment);
  }
  return {value_or_raise(std::move(region)), read.read_only};
}

Buffer allocate(const Engine& engine, std::uint64_t bytes, std::optional<std::int32_t> npu, bool pinned) {
  const MemoryKind kind = !npu ? MemoryKind::kHost : pinned ? MemoryKind::kPinned : MemoryKind::kDevice;
  const bool has_torch = TorchTable::get() != nullptr;
  TorchOps ops;
  Result<Region> region = Status(Code::kInternal, "not allocated");
  {
    const GilRelease no_gil;  // new memory is faulted in, or waits for an NPU
    region = engine.allocate(bytes, kind, npu.value_or(0), has_torch ? [&] { return ops.set_fence(*npu); } : SetFence());
  }
  const Region allocated = value_or_raise(std::move(region));
  const auto dimensions = std::make_shared<const Dimensions>(std::vector<std::uint64_t>{bytes});
  const auto keep = std::make_shared<const Region>(allocated);
  const MemoryRange range = allocated.range();
  return {range.address, bytes, "uint8", 1, dimensions, keep, LocalRegion{allocated, false}, range.kind, range.device};
}

void reserve(const Engine& engine, std::int32_t npu, std::uint64_t bytes) {
  Status status;
  {
    const GilRelease no_gil;
    status = engine.reserve(npu, bytes);
  }
  raise_if_failed(status);
}

nb::dict stats_of(const Engine& engine) {
  if (engine.impl()->in_child()) throw StatusError{ProcessGuard::closed()};  // rather than numbers that are all 0
  Stats stats;
  {
    const GilRelease no_gil;
    stats = engine.stats();
  }
  return to_dict(stats);
}

const Region& destination(const LocalRegion& local, std::size_t index) {
  if (!local.read_only) return local.region;
  throw StatusError{
      Status(Code::kInvalidArgument, "local region " + std::to_string(index) + " is read-only memory: nothing can be read into it")};
}

// A number as it is; of anything else its type, since it may be a secret.
std::string described(nb::handle object) {
  if (PyLong_Check(object.ptr()) != 0 || PyFloat_Check(object.ptr()) != 0) {
    const nb::object text = nb::steal(PyObject_Str(object.ptr()));
    if (text.is_valid()) return nb::cast<std::string>(text);
    PyErr_Clear();  // Python writes no more than 4300 digits
  }
  return "of type " + nb::cast<std::string>(object.type().attr("__name__"));
}

constexpr const char* kLocal = "a Region: engine.register(memory), or the .region of engine.empty()";
constexpr const char* kRemote = "a RemoteRegion: peer.region(descriptor)";

// What is wrong with a part of an op: what it is, and what it shall be.
[[noreturn]] void refuse_part(std::size_t index, const char* part, nb::handle found, const std::string& wanted) {
  throw StatusError{
      Status(Code::kInvalidArgument, "op " + std::to_string(index) + ": its " + part + " is " + described(found) + ", not " + wanted)};
}

std::uint64_t read_number(std::size_t index, const char* part, nb::handle found) {
  std::uint64_t number = 0;
  if (!nb::try_cast(found, number)) refuse_part(index, part, found, "a whole number >= 0");
  return number;
}

BatchOp read_op(nb::handle item, std::size_t index) {
  nb::tuple op;
  if (!nb::try_cast(item, op) || op.size() != 5) {
    throw StatusError{
        Status(Code::kInvalidArgument,
               "op " + std::to_string(index) + " is no tuple of local region, local offset, remote region, remote offset, bytes")};
  }
  if (!nb::isinstance<LocalRegion>(op[0])) {
    refuse_part(index, "local region", op[0], kLocal);
  }
  if (!nb::isinstance<RemoteRegion>(op[2])) refuse_part(index, "remote region", op[2], kRemote);
  return {destination(nb::cast<const LocalRegion&>(op[0]), index), read_number(index, "local offset", op[1]),
          nb::cast<const RemoteRegion&>(op[2]), read_number(index, "remote offset", op[3]), read_number(index, "number of bytes", op[4])};
}

Batch prepare_ops(const Peer& peer, const nb::list& list) {
  const ForeignCalls calls;
  std::vector<BatchOp> ops;
  ops.reserve(list.size());
  for (const nb::handle item : list) ops.push_back(read_op(item, ops.size()));
  return value_or_raise(peer.prepare(ops));
}

// `list`, whose elements must be regions: what a `T` is called, and where one is from.
template <class T>
std::vector<T> regions_in(const nb::list& list, const char* part, const char* wanted) {
  std::vector<T> regions;
  regions.reserve(list.size());
  for (const nb::handle item : list) {
    if (!nb::isinstance<T>(item)) {
      throw StatusError{Status(Code::kInvalidArgument,
                               std::string(part) + " " + std::to_string(regions.size()) + " is " + described(item) + ", not " + wanted)};
    }
    regions.push_back(nb::cast<const T&>(item));
  }
  return regions;
}

// A one-dimensional array of int64, valid while the object lives.
std::span<const std::int64_t> int64s(nb::handle object, const char* name, std::vector<ReadTensor>& kept) {
  kept.push_back(read_tensor(object, Subject::named(name)));
  const ReadTensor& read = kept.back();
  if (read.dtype != "int64" || read.shape.size() != 1 || read.range.kind != MemoryKind::kHost) {
    throw StatusError{Status(Code::kInvalidArgument, std::string(name) + " must be a one-dimensional array of int64 in host memory")};
  }
  return {reinterpret_cast<const std::int64_t*>(read.range.address), read.shape[0]};
}

Batch prepare_arrays(const Peer& peer, const nb::list& locals, nb::handle local_index, nb::handle local_offset, const nb::list& remotes,
                     nb::handle remote_index, nb::handle remote_offset, nb::handle nbytes) {
  const ForeignCalls calls;
  std::vector<Region> regions;
  for (const LocalRegion& local : regions_in<LocalRegion>(locals, "local region", kLocal)) {
    regions.push_back(destination(local, regions.size()));
  }
  const std::vector<RemoteRegion> sources = regions_in<RemoteRegion>(remotes, "remote region", kRemote);
  std::vector<ReadTensor> kept;
  BatchArrays arrays;
  arrays.locals = regions;
  arrays.local_index = int64s(local_index, "local_index", kept);
  arrays.local_offset = int64s(local_offset, "local_offset", kept);
  arrays.remotes = sources;
  arrays.remote_index = int64s(remote_index, "remote_index", kept);
  arrays.remote_offset = int64s(remote_offset, "remote_offset", kept);
  arrays.length = int64s(nbytes, "nbytes", kept);
  return value_or_raise(peer.prepare(arrays));
}

Transfer begin_read(const Peer& peer, const Batch& batch, double timeout) {
  const GilRelease no_gil;  // small batches are copied right here
  return peer.read_async(batch, to_duration(timeout));
}

nb::object read_async(const Peer& peer, const Batch& batch, double timeout, Begun& begun) {
  nb::object transfer = nb::cast(begin_read(peer, batch, timeout));
  begun.add("the read", transfer, true);
  return transfer;
}

// In one call: no bytecode lies between its beginning and its end, at which an interrupt could leave the transfer behind.
void read(const Peer& peer, const Batch& batch, double timeout, double stop_seconds, nb::object conclude) {
  const Transfer transfer = begin_read(peer, batch, timeout);
  try {
    if (!transfer.done()) (void)wait_for(transfer, std::nullopt);
  } catch (const nb::python_error& interrupt) {
    Begun begun(stop_seconds, std::move(conclude));
    begun.add("the read", nb::cast(transfer), true);
    begun.end(nb::borrow(interrupt.value()));
    throw;
  }
  raise_if_failed(transfer.result());
}

MemoryKind kind_named(const std::string& name) {
  if (name == "host") return MemoryKind::kHost;
  if (name == "device") return MemoryKind::kDevice;
  if (name == "pinned") return MemoryKind::kPinned;
  throw StatusError{Status(Code::kInvalidArgument, "memory is 'host' (the CPU's), 'device' (an NPU's) or 'pinned', not '" + name + "'")};
}

const char* name_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kHost: return "host";
    case MemoryKind::kDevice: return "device";
    default: return "pinned";
  }
}

Peer connect(const Engine& engine, const nb::bytes& descriptor, double timeout) {
  Result<Peer> peer = Status(Code::kInternal, "not connected");
  {
    const GilRelease no_gil;
    peer = engine.connect(view(descriptor), to_duration(timeout));
  }
  return value_or_raise(std::move(peer));
}

// `remote`: a region, or a kind of memory.
template <class Remote>
PathInfo find_path(const Peer& peer, MemoryKind local, const Remote& remote) {
  Result<PathInfo> path = Status(Code::kInternal, "not asked");
  {
    const GilRelease no_gil;  // the owner is asked, and a link that was closed while it was idle made anew
    path = peer.path(local, remote);
  }
  return value_or_raise(std::move(path));
}

PathInfo path_of_region(const Peer& peer, const std::string& local, const RemoteRegion& remote) {
  return find_path(peer, kind_named(local), remote);
}

PathInfo path_of_kinds(const Peer& peer, const std::string& local, const std::string& remote) {
  return find_path(peer, kind_named(local), kind_named(remote));
}

void bind_regions(nb::module_& module) {
  nb::class_<LocalRegion>(module, "Region", "Registered memory of this process. A context manager: leaving it closes the region.")
      .def_prop_ro(
          "descriptor", [](const LocalRegion& local) { return to_bytes(local.region.descriptor()); },
          "For peer.region() elsewhere. A secret.")
      .def_prop_ro("nbytes", [](const LocalRegion& local) { return local.region.range().length; })
      .def_prop_ro("kind", [](const LocalRegion& local) { return name_of(local.region.range().kind); })
      .def_prop_ro("open", [](const LocalRegion& local) { return local.region.is_open(); })
      .def_ro("read_only", &LocalRegion::read_only)
      .def(
          "close", [](const LocalRegion& local) { local.region.close(); }, "Revokes it for peers. Idempotent, never blocks.")
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Region"))
      .def("__exit__", [](const LocalRegion& local, nb::args) { local.region.close(); });
  nb::class_<RemoteRegion>(module, "RemoteRegion", "A peer's region.")
      .def_ro("nbytes", &RemoteRegion::length)
      .def_prop_ro("kind", [](const RemoteRegion& remote) { return name_of(remote.kind); })
      .def_ro("remote_write", &RemoteRegion::remote_write);
  nb::class_<Batch>(module, "Batch", "Ops that were checked once, to be read any number of times.")
      .def_prop_ro("nbytes", &Batch::bytes)
      .def("__len__", &Batch::size);
}

void bind_transfer(nb::module_& module) {
  nb::class_<Transfer>(module, "Transfer", "A batch or fetch under way.")
      .def(
          "wait", [](const Transfer& transfer, std::optional<double> timeout) { return wait_for(transfer, timeout); },
          nb::arg("timeout") = nb::none(), "True once it ended, however; False if the time was not enough.")
      .def("stopped", &has_stopped, nb::arg("seconds"), "Waits. True once nothing writes to its memory any more, however it ended.")
      .def_prop_ro("done", &Transfer::done)
      .def(
          "raise_failure", [](const Transfer& transfer) { raise_if_failed(transfer.result()); }, "REQUIRES: done.")
      .def("cancel", &Transfer::cancel)
      .def("bytes_by_transport", [](const Transfer& transfer) { return to_dict(transfer.bytes_by_transport()); })
      .def(
          "times", [](const Transfer& transfer) { return to_tuple(transfer.times()); },
          "When it was begun, linked, moving, moved and ended, by the clock of time.perf_counter. REQUIRES: done.");
  nb::class_<PathInfo>(module, "PathInfo", "How bytes travel from one kind of memory of a peer to one kind here.")
      .def_prop_ro(
          "transport",
          [](const PathInfo& path) -> std::optional<std::string> {
            if (path.transport.empty()) return std::nullopt;
            return path.transport;
          },
          "Name of the transport, or None.")
      .def_prop_ro(
          "refused",
          [](const PathInfo& path) {
            nb::dict made;
            for (const auto& [transport, reason] : path.refused) made[transport.c_str()] = reason;
            return made;
          },
          "Transport -> a sentence why it is not taken.")
      .def("__repr__", [](const PathInfo& path) { return "<path by " + (path.transport.empty() ? "nothing" : path.transport) + ">"; });
}

void bind_peer(nb::module_& module) {
  nb::class_<Peer>(module, "Peer", "A connection from this engine to another one.")
      .def("region", [](const Peer& peer, const nb::bytes& descriptor) { return value_or_raise(peer.region(view(descriptor))); })
      .def("prepare_ops", &prepare_ops, nb::arg("ops"))
      .def("prepare_arrays", &prepare_arrays, nb::arg("locals"), nb::arg("local_index"), nb::arg("local_offset"), nb::arg("remotes"),
           nb::arg("remote_index"), nb::arg("remote_offset"), nb::arg("nbytes"))
      .def("read_async", &read_async, nb::arg("batch"), nb::arg("timeout"), nb::arg("begun"),
           nb::sig("def read_async(self, batch: Batch, timeout: float, begun: Begun) -> Transfer"), "Added to `begun`.")
      .def("read", &read, nb::arg("batch"), nb::arg("timeout"), nb::arg("stop_seconds"), nb::arg("conclude"),
           nb::sig("def read(self, batch: Batch, timeout: float, stop_seconds: float, "
                   "conclude: collections.abc.Callable[[BaseException, list[str]], BaseException]) -> None"),
           "Begins and waits. An interrupt ends it first, as `Begun` does.")
      .def("path_of_kinds", &path_of_kinds)
      .def("path_of_region", &path_of_region)
      .def("close", &Peer::close, nb::call_guard<GilRelease>());
}

}  // namespace

void bind_engine(nb::module_& module) {
  bind_regions(module);
  bind_transfer(module);
  bind_peer(module);
  nb::class_<Engine>(module, "Engine", "The C++ engine; ray_hixl.Engine is the Python face.")
      .def_static("create", [](const Options& options) { return value_or_raise(Engine::create(options)); })
      .def_prop_ro("descriptor", [](const Engine& engine) { return to_bytes(engine.descriptor()); })
      .def("register", &register_memory, nb::arg("memory").none(), nb::arg("remote_write"))
      .def("empty", &allocate, nb::arg("nbytes"), nb::arg("npu") = nb::none(), nb::arg("pinned") = false,
           "In the source arena, in a slab of that NPU, or host memory that it pins.")
      .def("reserve", &reserve, nb::arg("npu"), nb::arg("nbytes"))
      .def("connect", &connect, nb::arg("descriptor"), nb::arg("timeout"))
      .def("stats", &stats_of)
      .def("close", &Engine::close, nb::call_guard<GilRelease>());

  nb::class_<TransportProbe>(module, "TransportProbe")
      .def_ro("transport", &TransportProbe::transport)
      .def_ro("usable", &TransportProbe::usable)
      .def_ro("reason", &TransportProbe::reason);
  module.def("probe_transports", &probe_transports, "What works on this machine.");
  module.def(
      "tcp_only",
      [](const nb::bytes& descriptor) {
        control::EngineDescriptor decoded = value_or_raise(control::decode_engine(view(descriptor)));
        decoded.unix_name.clear();
        return to_bytes(control::encode(decoded));
      },
      nb::arg("descriptor"), "An engine's descriptor without its Unix socket, as if it were on another host.");
}

}  // namespace ray_hixl::python
