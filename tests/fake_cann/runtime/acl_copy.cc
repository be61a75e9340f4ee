// Copies and fills. Ranges, directions and liveness are checked at the call, whenever the bytes move.
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/calls.h"
#include "runtime/fake_cann.h"
#include "runtime/heap.h"
#include "runtime/streams.h"

using namespace fake_cann;

namespace {

struct Copy {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  bool to_device = false;
  bool from_device = false;
};

int bad(const char* name, const std::string& why) { return fail(kBadParameter, std::string(name) + ": " + why); }

// Whether a kind says that this side is device memory.
bool says_device(int kind, bool destination) {
  switch (kind) {
    case kHostToDevice:
    case kHostBufferToDevice: return destination;
    case kDeviceToHost: return !destination;
    case kDeviceToDevice:
    case kInnerDevice:
    case kInterDevice: return true;
    default: return false;
  }
}

int resolve(const char* name, void* to, std::size_t most, const void* from, std::size_t size, int kind, Copy& copy) {
  if (size > most) return bad(name, std::to_string(size) + " bytes into " + std::to_string(most));
  const auto target = find(to, size);
  const auto source = find(from, size);
  if ((target && !target->live) || (source && !source->live)) return bad(name, "touches device memory outside of a live allocation");
  copy = {target ? target->bytes : static_cast<std::byte*>(to), source ? source->bytes : static_cast<const std::byte*>(from),
          target.has_value(), source.has_value()};
  if (kind == kByPointers) return kOk;
  if (says_device(kind, true) == copy.to_device && says_device(kind, false) == copy.from_device) return kOk;
  return bad(name, "kind " + std::to_string(kind) + " does not fit the pointers (destination is " + (copy.to_device ? "device" : "host") +
                       ", source is " + (copy.from_device ? "device" : "host") + ")");
}

int resolve_fill(const char* name, void* to, std::size_t most, std::size_t size, std::byte*& bytes) {
  const auto target = find(to, size);
  if (!target || !target->live || size > most) return bad(name, "not inside of one live device allocation");
  bytes = target->bytes;
  return kOk;
}

}  // namespace

extern "C" {

int aclrtMemcpy(void* to, std::size_t most, const void* from, std::size_t size, int kind) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  if (const int earlier = sticky_error(); earlier != kOk) return earlier;
  Copy copy;
  if (const int status = resolve(__func__, to, most, from, size, kind, copy); status != kOk) return status;
  std::memmove(copy.to, copy.from, size);
  return kOk;
}

// Pageable host memory is read at the call, pinned memory when the stream gets there.
int aclrtMemcpyAsync(void* to, std::size_t most, const void* from, std::size_t size, int kind, void* handle) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  Copy copy;
  if (const int status = resolve(__func__, to, most, from, size, kind, copy); status != kOk) return status;
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return fail(kBadStream, "aclrtMemcpyAsync: no such stream");
  if (!copy.from_device && fake_cann_is_pinned_host(from, size) == 0 && fake_cann_is_registered_host(from, size) == 0) {
    auto staged = std::make_shared<std::vector<std::byte>>(copy.from, copy.from + size);
    submit(*stream, [copy, staged] { std::memcpy(copy.to, staged->data(), staged->size()); });
  } else {
    submit(*stream, [copy, size] { std::memmove(copy.to, copy.from, size); });
  }
  return kOk;
}

int aclrtMemset(void* to, std::size_t most, std::int32_t value, std::size_t size) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  std::byte* bytes = nullptr;
  if (const int status = resolve_fill(__func__, to, most, size, bytes); status != kOk) return status;
  std::memset(bytes, value, size);
  return kOk;
}

int aclrtMemsetAsync(void* to, std::size_t most, std::int32_t value, std::size_t size, void* handle) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  std::byte* bytes = nullptr;
  if (const int status = resolve_fill(__func__, to, most, size, bytes); status != kOk) return status;
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return fail(kBadStream, "aclrtMemsetAsync: no such stream");
  submit(*stream, [bytes, value, size] { std::memset(bytes, value, size); });
  return kOk;
}

}  // extern "C"
