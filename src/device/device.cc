#include "device/device.h"

#include <atomic>
#include <chrono>
#include <string>
#include <utility>

namespace ray_hixl::device {
namespace {

constexpr std::chrono::milliseconds kReturnPatience{128};  // for blocks that are on their way back

std::atomic<bool> is_left{false};

}  // namespace

bool Registered::holds(const std::byte* address, std::uint64_t bytes) const {
  if (address < base) return false;
  const auto offset = static_cast<std::uint64_t>(address - base);
  return offset <= length && bytes <= length - offset;
}

Device::~Device() = default;

void Device::use_staging(std::unique_ptr<StagingRuntime> runtime) {
  staging_ = std::make_unique<Staging>("hixl-stage-" + std::to_string(index_), std::move(runtime));
}

Result<std::shared_ptr<const memory::Block>> Device::allocate(std::uint64_t bytes, const Slabs::Fence& fence) {
  Result<memory::Blocks> blocks = allocate_each({&bytes, 1}, fence);
  if (!blocks.is_ok()) return blocks.status();
  return std::move(blocks->front());
}

Result<memory::Blocks> Device::allocate_each(std::span<const std::uint64_t> lengths, const Slabs::Fence& fence) {
  const Deadline patience = Deadline::in(kReturnPatience);
  memory::Blocks blocks;  // what there was room for stays: given back, it would look like what is waited for
  while (true) {
    const std::uint64_t ticket = slabs_->pending_ticket();  // before, so that what is freed from here on is not missed
    const Status status = slabs_->allocate_each(lengths.subspan(blocks.size()), fence, blocks);
    if (status.is_ok()) return blocks;
    if (status.code() != Code::kOutOfMemory || !slabs_->wait_until_freed(ticket, patience)) return status;
  }
}

Status Device::reserve(std::uint64_t bytes) { return slabs_->reserve(bytes); }

Status Device::wait(const Slabs::Fence& fence) {
  const std::uint64_t ticket = slabs_->pending_ticket();
  RAY_HIXL_RETURN_IF_ERROR(fence());
  slabs_->fenced(ticket);
  return Status::ok();
}

std::optional<std::uint64_t> Device::epoch_of(const std::byte* address, std::uint64_t length) const {
  const std::optional<Registered> found = find(address, length);
  return found ? std::optional(found->epoch) : std::nullopt;
}

void leave_memory() { is_left = true; }

bool memory_is_left() { return is_left; }

}  // namespace ray_hixl::device
