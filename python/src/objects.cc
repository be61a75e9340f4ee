// Objects: publish, fetch, release, and what metadata says.
#include <algorithm>
#include <cstddef>
#include <utility>

#include "begun.h"
#include "buffer.h"
#include "common.h"
#include "control/descriptor.h"
#include "device_ops.h"
#include "gil.h"
#include "object/destination.h"
#include "object/element_types.h"
#include "object/layout.h"
#include "tensor_maker.h"
#include "tensor_reader.h"
#include "torch_table.h"

namespace ray_hixl::python {
namespace {

// An object published here, which is released when this is dropped, unless it is kept: an interrupt may take it from whoever published it
// before it is stored anywhere.
class Published {
 public:
  Published(Objects objects, Bytes packed) : objects_(std::move(objects)), packed_(std::move(packed)) {}
  ~Published() { release(); }
  Published(const Published&) = delete;
  Published& operator=(const Published&) = delete;

  [[nodiscard]] const Bytes& packed() const { return packed_; }
  void keep() { is_owned_ = false; }
  void release() {
    if (std::exchange(is_owned_, false)) objects_.release(packed_);
  }

 private:
  Objects objects_;
  Bytes packed_;
  bool is_owned_ = true;
};

// A fetch, whose tensors are made once: an interrupt, or a failure to make them, costs none.
class Fetching {
 public:
  explicit Fetching(Fetch fetch) : fetch_(std::move(fetch)) {}

  [[nodiscard]] Transfer transfer() const { return fetch_.transfer(); }
  nb::list take() {
    const ForeignCalls calls;
    if (!taken_) taken_ = value_or_raise(fetch_.take());
    make_tensors(fetch_.metadata(), *taken_, made_);
    return made_;
  }

 private:
  Fetch fetch_;
  std::optional<std::vector<FetchedTensor>> taken_;
  nb::list made_;
};

TensorList read_to_publish(const Objects& objects, const nb::list& tensors) {
  const ForeignCalls calls(objects.check());
  return read_tensors(tensors);
}

Published* publish(const Objects& objects, const nb::list& tensors) {
  TensorList read = read_to_publish(objects, tensors);
  TorchOps ops(read.owners);
  const std::shared_ptr<const void> owners = keep_alive(std::move(read.owners));
  Bytes packed;
  {
    const GilRelease no_gil;
    packed = objects.publish(read.layouts, read.tensors, owners, TorchTable::get() != nullptr ? &ops : nullptr);
  }
  return new Published(objects, std::move(packed));
}

Published* publish_error(const Objects& objects, const nb::list& tensors, const std::string& code, const std::string& message) {
  const ForeignCalls calls;
  const DescribedTensors described = describe_tensors(tensors);
  return new Published(objects, objects.publish_error(described.layouts, described.layout_of, Status(code_named(code), message)));
}

std::string to_text(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (const std::uint64_t length : shape) text += (text.empty() ? "" : ", ") + std::to_string(length);
  return "(" + text + ")";
}

// A caller's target must look like the tensor that goes there.
ReadTensor read_target(nb::handle target, std::size_t index, const Layout& wanted) {
  ReadTensor read = read_tensor(target, Subject::target(index));
  std::string wrong;
  if (read.read_only) wrong = "is read-only";
  if (read.dtype != wanted.dtype) wrong = "has elements of type " + read.dtype + ", the tensor's are " + wanted.dtype;
  if (read.shape != wanted.shape) wrong = "has shape " + to_text(read.shape) + ", the tensor's is " + to_text(wanted.shape);
  if (!wrong.empty()) throw StatusError{Status(Code::kInvalidArgument, Subject::target(index).text() + " " + wrong)};
  return read;
}

struct Targets {
  std::vector<MemoryRange> ranges;
  std::vector<std::int32_t> wishes;  // of what is copied: LandingWish::of
  nb::list owners;                   // keep all their bytes where they are
  bool is_copied = false;            // torch copies to them: a fetch cannot write there
};

Targets read_targets(const Metadata& metadata, const nb::list& targets) {
  if (targets.size() != metadata.size()) {
    throw StatusError{Status(Code::kInvalidArgument, std::to_string(targets.size()) + " targets were given for an object of " +
                                                         std::to_string(metadata.size()) + " tensors")};
  }
  Targets read;
  for (const Metadata::Run& run : metadata.runs()) {
    for (std::uint64_t i = run.first; i < run.first + run.count; ++i) {
      ReadTensor target = read_target(targets[i], i, metadata.layouts()[run.layout]);
      read.ranges.push_back(target.range);
      read.owners.append(std::move(target.owner));
    }
  }
  return read;
}

// Does the engine move between host and device memory?
bool crosses(const Engine& engine) {
  const std::vector<std::string>& transports = engine.options().transports;
  return std::ranges::find(transports, "staged") != transports.end();
}

// Is a target in an NPU's memory that HIXL does not know, or, where nothing is staged, in another kind of memory than its tensor, so that a
// fetch cannot write there? Only torch can help then, so targets of others are left to the fetch to refuse.
bool needs_copies(const Engine& engine, const Metadata& metadata, const nb::list& targets, const std::vector<MemoryRange>& ranges) {
  std::vector<MemoryKind> kinds(metadata.size(), MemoryKind::kHost);
  for (const Metadata::Placement& placement : metadata.placements()) {
    std::fill_n(kinds.begin() + static_cast<std::ptrdiff_t>(placement.first), placement.count, MemoryKind::kDevice);
  }
  const bool any_kind = crosses(engine);
  const bool fits = std::ranges::equal(ranges, kinds, [&](const MemoryRange& range, MemoryKind kind) {
    return (range.kind == kind || any_kind) && (range.length == 0 || engine.is_registered(range));
  });
  const TorchTable* const torch = TorchTable::get();
  return !fits && torch != nullptr && std::all_of(targets.begin(), targets.end(), [&](nb::handle each) { return torch->is_tensor(each); });
}

// Where torch will copy from there.
std::vector<std::int32_t> devices_of(const Engine& engine, const std::vector<MemoryRange>& targets) {
  const std::int32_t on_host = crosses(engine) ? LandingWish::kHost : -1;
  std::vector<std::int32_t> devices;
  devices.reserve(targets.size());
  for (const MemoryRange& target : targets) devices.push_back(target.kind == MemoryKind::kDevice ? target.device : on_host);
  return devices;
}

Targets targets_of_fetch(const Engine& engine, const Metadata& metadata, const nb::list& targets) {
  const ForeignCalls calls;
  Targets read;
  if (metadata.error().is_ok()) read = read_targets(metadata, targets);
  read.is_copied = needs_copies(engine, metadata, targets, read.ranges);
  raise_if_failed(check_apart(read.ranges));  // also of those that torch will copy to
  if (read.is_copied) {
    read.wishes = devices_of(engine, read.ranges);
    read.ranges.clear();
  }
  return read;
}

bool touches_npu(const nb::bytes& packed) {
  const Result<Metadata> metadata = Metadata::decode(view(packed));
  return metadata.is_ok() && !metadata->placements().empty();
}

nb::tuple fetch(const Objects& objects, const Engine& engine, const nb::bytes& packed, const std::optional<nb::list>& targets,
                double timeout, Begun& begun, std::string name, std::optional<std::int32_t> device) {
  Targets read;
  LandingWish wish{device, {}};
  std::shared_ptr<const void> owner;
  if (targets) {
    read = targets_of_fetch(engine, value_or_raise(Metadata::decode(view(packed))), *targets);
    wish.of = std::move(read.wishes);
    owner = keep_alive(nb::borrow(read.owners));
  }
  TorchOps ops;
  DeviceOps* const device_ops = TorchTable::get() != nullptr ? &ops : nullptr;
  const auto start = [&] {
    const GilRelease no_gil;
    return objects.fetch(view(packed), read.ranges, std::move(owner), to_duration(timeout), device_ops, wish);
  };
  const Fetch started = start();
  begun.add(std::move(name), nb::cast(started.transfer()), targets && !read.is_copied);
  return nb::make_tuple(Fetching(started), read.is_copied, read.owners);
}

std::string owner_of(const Metadata& metadata) { return value_or_raise(control::decode_engine(metadata.engine())).name(); }

nb::list layouts_of(const Metadata& metadata) {
  nb::list made;
  for (const Layout& layout : metadata.layouts()) made.append(nb::make_tuple(layout.dtype, nb::tuple(nb::cast(layout.shape))));
  return made;
}

nb::list runs_of(const Metadata& metadata) {
  nb::list made;
  for (const Metadata::Run& run : metadata.runs()) made.append(nb::make_tuple(run.layout, run.first, run.count));
  return made;
}

}  // namespace

void bind_objects(nb::module_& module) {
  module.attr("HOST") = LandingWish::kHost;
  nb::class_<Metadata>(module, "Metadata", "An object's metadata, decoded.")
      .def_static(
          "decode", [](const nb::bytes& packed) { return value_or_raise(Metadata::decode(view(packed))); }, nb::arg("packed"))
      .def(
          "raise_failure", [](const Metadata& metadata) { raise_if_failed(metadata.error()); },
          "Raises what publishing ran into, if anything.")
      .def_prop_ro(
          "engine", [](const Metadata& metadata) { return to_bytes(metadata.engine()); }, "Descriptor of the engine that published it.")
      .def_prop_ro("owner", &owner_of, "The engine that published it, as errors name it.")
      .def_prop_ro("nbytes", &Metadata::bytes)
      .def("__len__", &Metadata::size)
      .def_prop_ro("layouts", &layouts_of, "(dtype's name, shape) of every layout.")
      .def_prop_ro("runs", &runs_of, "(layout, index of the first tensor, tensors) of consecutive tensors of one layout.");
  nb::class_<Fetching>(module, "Fetch")
      .def_prop_ro("transfer", &Fetching::transfer)
      .def("take", &Fetching::take, "The tensors: the same list at every call. REQUIRES: transfer.done.");
  nb::class_<Published>(module, "Published",
                        "An object of this process. Dropping it releases the object. A context manager: so does leaving it by an error.")
      .def_prop_ro(
          "packed", [](const Published& published) { return to_bytes(published.packed()); }, "Its metadata.")
      .def("keep", &Published::keep, "It stays until Objects.release().")
      .def("release", &Published::release, "Frees it now. Idempotent.")
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Published"))
      .def(
          "__exit__",
          [](Published& published, nb::handle, nb::handle error, nb::handle) {
            if (!error.is_none()) published.release();
          },
          nb::arg().none(), nb::arg().none(), nb::arg().none(),
          nb::sig("def __exit__(self, kind: object, error: object, trace: object, /) -> None"));
  nb::class_<Objects>(module, "Objects", "Objects of an engine.")
      .def_static(
          "create", [](const Engine& engine) { return value_or_raise(Objects::create(engine)); }, nb::arg("engine"))
      .def("publish", &publish, nb::arg("tensors"), "A failure travels in the metadata. A closed engine raises Closed.")
      .def("publish_error", &publish_error, nb::arg("tensors"), nb::arg("code"), nb::arg("message"),
           "An object that could not be made: a fetch of it ends with this error.")
      .def("fetch", &fetch, nb::arg("engine"), nb::arg("packed"), nb::arg("targets").none(), nb::arg("timeout"), nb::arg("begun"),
           nb::arg("name"), nb::arg("device").none(),
           nb::sig("def fetch(self, engine: Engine, packed: bytes, targets: list | None, timeout: float, begun: Begun, name: str, "
                   "device: int | None) -> tuple[Fetch, bool, list]"),
           "The fetch, added to `begun`, of NPU tensors to the NPU `device` unless targets or nobody chose; whether it goes to new memory "
           "although there are targets: those that it cannot write to; and "
           "what keeps the targets' bytes where they are: to be cleared once every byte has come, else the engine drops it when nothing "
           "writes any more.")
      .def(
          "release", [](const Objects& objects, const nb::bytes& packed) { return objects.release(view(packed)); }, nb::arg("packed"),
          "False if it was unknown or already freed.");
  module.def("touches_npu", &touches_npu, nb::arg("packed"), "Does an object have tensors in NPU memory? False for what is no metadata.");
  module.def(
      "make_tensor",
      [](const Buffer& buffer, const std::string& dtype, const std::vector<std::uint64_t>& shape) {
        const ForeignCalls calls;
        Layout layout{dtype, known_item_bytes(dtype).value_or(0), shape};
        if (TorchTable::get() != nullptr) layout.item_bytes = TorchTable::get()->dtype_named(dtype).item_bytes;
        raise_if_failed(check_layouts({&layout, 1}));
        if (layout.bytes() != buffer.length)
          throw StatusError{Status(Code::kInvalidArgument, "the buffer has another size than the tensor")};
        return TensorMaker(layout).make({buffer.address, buffer.length, buffer.kind, buffer.device, buffer.keep});
      },
      nb::arg("buffer"), nb::arg("dtype"), nb::arg("shape"), "A torch tensor that is the buffer's memory and keeps it.");
}

}  // namespace ray_hixl::python
