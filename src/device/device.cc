#include "device/device.h"

#include <atomic>
#include <chrono>
#include <string>
#include <utility>

#include "device/fences.h"

namespace ray_hixl::device {
namespace {

constexpr std::chrono::milliseconds kReturnPatience{128};  // for blocks that are on their way back

std::atomic<bool> is_left{false};

// Of everything that uses memory of the device: what its user had queued reaches the device first, and is on any of its streams then.
class FenceOfAll final : public Fence {
 public:
  FenceOfAll(std::shared_ptr<Fence> queued, std::shared_ptr<Fence> everything)
      : queued_(std::move(queued)), everything_(std::move(everything)) {}

  Result<bool> passed() override {
    if (queued_ != nullptr) {
      const Result<bool> reached = queued_->passed();
      if (!reached.is_ok() || !*reached) return reached;
      queued_ = nullptr;
    }
    return everything_->passed();
  }

 private:
  std::shared_ptr<Fence> queued_;
  const std::shared_ptr<Fence> everything_;
};

}  // namespace

bool Registered::holds(const std::byte* address, std::uint64_t bytes) const {
  if (address < base) return false;
  const auto offset = static_cast<std::uint64_t>(address - base);
  return offset <= length && bytes <= length - offset;
}

Device::~Device() = default;

void Device::use_staging(std::unique_ptr<StagingRuntime> runtime, std::shared_ptr<memory::Arena> source) {
  staging_ = std::make_unique<Staging>("hixl-stage-" + std::to_string(index_), std::move(runtime), std::move(source));
}

Result<std::shared_ptr<const memory::Block>> Device::allocate(std::uint64_t bytes, const SetFence& set_fence, Deadline deadline) {
  Result<memory::Blocks> blocks = allocate_each({&bytes, 1}, set_fence, deadline);
  if (!blocks.is_ok()) return blocks.status();
  return std::move(blocks->front());
}

Result<memory::Blocks> Device::allocate_each(std::span<const std::uint64_t> lengths, const SetFence& set_fence, Deadline deadline) {
  const auto since = Clock::now();
  const SetFence behind_all = [&]() -> Result<std::shared_ptr<Fence>> {
    Result<std::shared_ptr<Fence>> queued = set_fence();
    if (!queued.is_ok()) return queued;
    return std::shared_ptr<Fence>(std::make_shared<FenceOfAll>(*std::move(queued), fence_everything()));
  };
  const Deadline patience = Deadline::in(kReturnPatience);
  memory::Blocks blocks;  // what there was room for stays: given back, it would look like what is waited for
  while (true) {
    const std::uint64_t ticket = slabs_->freed_ticket();  // before, so that what is freed from here on is not missed
    const Status status = slabs_->allocate_each(lengths.subspan(blocks.size()), behind_all, deadline, blocks);
    if (status.is_ok()) return blocks;
    if (status.code() == Code::kDeviceBusy) return busy(index_, since, "work that was queued before memory was freed: " + status.message());
    if (status.code() != Code::kOutOfMemory || !slabs_->wait_until_freed(ticket, patience)) return status;
  }
}

Status Device::reserve(std::uint64_t bytes) { return slabs_->reserve(bytes); }

std::optional<std::uint64_t> Device::epoch_of(const std::byte* address, std::uint64_t length) const {
  const std::optional<Registered> found = find(address, length);
  return found ? std::optional(found->epoch) : std::nullopt;
}

void leave_memory() { is_left = true; }

bool memory_is_left() { return is_left; }

}  // namespace ray_hixl::device
