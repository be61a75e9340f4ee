#include "ray_hixl/status.h"

#include <array>

namespace ray_hixl {
namespace {

constexpr std::array<std::string_view, 14> kCodeNames = {
    "ok",     "connect_error",      "transfer_timeout", "peer_gone",     "invalid_region",   "object_freed", "cancelled",
    "closed", "unsupported_tensor", "out_of_memory",    "not_available", "invalid_argument", "internal",     "device_busy",
};
static_assert(static_cast<std::size_t>(Code::kDeviceBusy) + 1 == kCodeNames.size());

const std::string kNoMessage;

}  // namespace

std::string_view code_name(Code code) noexcept {
  const auto index = static_cast<std::size_t>(code);
  return index < kCodeNames.size() ? kCodeNames[index] : "unknown";
}

Status::Status(Code code, std::string message) : detail_(std::make_shared<const Detail>(Detail{code, std::move(message)})) {}

const std::string& Status::message() const noexcept { return detail_ ? detail_->message : kNoMessage; }

Status Status::with_context(std::string_view context) const {
  if (is_ok()) return *this;
  return Status(code(), std::string(context) + ": " + message());
}

std::string Status::to_string() const {
  if (is_ok()) return "ok";
  return std::string(code_name(code())) + ": " + message();
}

}  // namespace ray_hixl
