// Status and Result: how every fallible call of ray-hixl reports.
//
// No exceptions cross a thread or a public call: a function that can fail returns a Status or a Result<T>.
// A Status that is ok costs one null pointer. Both are immutable values: safe to copy to and read from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ray_hixl {

// The closed list of outcomes. Values are on the wire (docs/protocol.md): append only.
enum class Code : std::uint8_t {
  kOk = 0,
  kConnectError = 1,       // the peer could not be reached or did not prove who it is
  kTransferTimeout = 2,    // the deadline of a transfer passed
  kPeerGone = 3,           // the peer's process or host died, or its link was lost
  kInvalidRegion = 4,      // unregistered, closed, stale, foreign or out-of-bounds memory
  kObjectFreed = 5,        // the object was freed before or while it was read
  kCancelled = 6,          // the caller cancelled the transfer
  kClosed = 7,             // the engine, peer or region was closed, or belongs to a parent process
  kUnsupportedTensor = 8,  // a tensor that cannot be published or delivered
  kOutOfMemory = 9,
  kNotAvailable = 10,     // not possible on this machine or in this version; the message says why
  kInvalidArgument = 11,  // the caller passed something malformed
  kInternal = 12,         // a defect of ray-hixl
  kDeviceBusy = 13,       // an NPU had not finished what was queued before the call when its time was over
};

// Stable lower-case name, e.g. "peer_gone"; "unknown" for values outside the list.
[[nodiscard]] std::string_view code_name(Code code) noexcept;

class [[nodiscard]] Status {
 public:
  Status() noexcept = default;  // ok
  // REQUIRES: code != Code::kOk.
  Status(Code code, std::string message);

  [[nodiscard]] static Status ok() noexcept { return {}; }
  [[nodiscard]] bool is_ok() const noexcept { return detail_ == nullptr; }
  [[nodiscard]] Code code() const noexcept { return detail_ ? detail_->code : Code::kOk; }
  // What, which object or peer, why, and what to do. Empty when ok. Never holds a secret.
  [[nodiscard]] const std::string& message() const noexcept;
  // The same outcome with `context: ` in front of the message; ok stays ok.
  [[nodiscard]] Status with_context(std::string_view context) const;
  // "peer_gone: ..." or "ok".
  [[nodiscard]] std::string to_string() const;

 private:
  struct Detail {
    Code code;
    std::string message;
  };
  std::shared_ptr<const Detail> detail_;
};

// A value or the reason why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor): reads as `return value;`
  // REQUIRES: !status.is_ok().
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool is_ok() const noexcept { return value_.has_value(); }
  [[nodiscard]] const Status& status() const noexcept { return status_; }
  // REQUIRES: is_ok().
  [[nodiscard]] T& value() & { return *value_; }
  [[nodiscard]] const T& value() const& { return *value_; }
  [[nodiscard]] T&& value() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace ray_hixl

// Leaves the enclosing function with the failed Status of `expression`.
#define RAY_HIXL_RETURN_IF_ERROR(expression)                                         \
  do {                                                                               \
    if (::ray_hixl::Status status_ = (expression); !status_.is_ok()) return status_; \
  } while (false)
