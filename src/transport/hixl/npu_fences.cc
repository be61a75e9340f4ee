// Fences of an NPU by CANN's runtime, and the copies that they are set behind.
#include <atomic>
#include <utility>
#include <vector>

#include "transport/hixl/npu.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::int32_t kLongestWaitMs = 4000;  // then it is begun anew, so that an engine that ends has its thread back in time

// An event on the device's default stream. What the runtime is asked, it is asked on the driver's thread, which has the device.
class EventFence final : public Fence {
 public:
  EventFence(std::weak_ptr<Npu> npu, void* event) : npu_(std::move(npu)), event_(event) {}
  ~EventFence() override {
    const auto npu = npu_.lock();
    if (npu) npu->driver().post([&acl = npu->acl(), event = event_] { acl.destroy_event(event); });
  }
  EventFence(const EventFence&) = delete;
  EventFence& operator=(const EventFence&) = delete;

  Result<bool> passed() override {
    const auto npu = npu_.lock();
    if (!npu) return Status(Code::kClosed, "the engine was closed");
    return npu->driver().call<bool>([&acl = npu->acl(), event = event_]() -> Result<bool> {
      int status = 0;
      const int error = acl.query_event(event, &status);
      if (error != kAclOk) return acl.status(error, "aclrtQueryEventStatus");
      return status == 1;
    });
  }

 private:
  const std::weak_ptr<Npu> npu_;
  void* const event_;
};

// CANN has no event behind all streams of a device, only a wait for them. It waits for what is queued when it begins; so it is one long
// wait and not many short ones, none of which would end on a device that always has work. Longer than this it cannot be, since nothing
// breaks it off where the engine is closed meanwhile.
class FenceOfEverything final : public Fence {
 public:
  explicit FenceOfEverything(std::weak_ptr<Npu> npu) : npu_(std::move(npu)) {}

  Result<bool> passed() override {
    if (!wait_ || wait_->outcome == kAclSyncTimeout) RAY_HIXL_RETURN_IF_ERROR(begin());
    const int outcome = wait_->outcome;
    if (outcome == kUnderWay || outcome == kAclSyncTimeout) return false;
    if (outcome == kAclOk) return true;
    return Status(Code::kNotAvailable, "waiting for the NPU (aclrtSynchronizeDeviceWithTimeout): error " + std::to_string(outcome));
  }

 private:
  static constexpr int kUnderWay = -1;
  struct Wait {
    std::atomic<int> outcome{kUnderWay};
  };

  Status begin() {
    const auto npu = npu_.lock();
    if (!npu) return Status(Code::kClosed, "the engine was closed");
    wait_ = std::make_shared<Wait>();
    return npu->driver().run_errand([wait = wait_, &acl = npu->acl()] { wait->outcome = acl.synchronize_device(kLongestWaitMs); });
  }

  const std::weak_ptr<Npu> npu_;
  std::shared_ptr<Wait> wait_;
};

}  // namespace

Result<std::shared_ptr<Fence>> Npu::set_fence() {
  return driver_.call<std::shared_ptr<Fence>>([this]() -> Result<std::shared_ptr<Fence>> {
    void* event = nullptr;
    if (const int error = cann_.acl.create_event(&event); error != kAclOk) return cann_.acl.status(error, "aclrtCreateEvent");
    auto fence = std::make_shared<EventFence>(weak_from_this(), event);
    if (const int error = cann_.acl.record_event(event, nullptr); error != kAclOk) return cann_.acl.status(error, "aclrtRecordEvent");
    return std::shared_ptr<Fence>(std::move(fence));
  });
}

std::shared_ptr<Fence> Npu::fence_everything() { return std::make_shared<FenceOfEverything>(weak_from_this()); }

Status Npu::copy(std::span<const device::Copy> copies) {
  return driver_
      .call<bool>([this, kept = std::vector<device::Copy>(copies.begin(), copies.end())]() -> Result<bool> {
        for (const device::Copy& copy : kept) {
          const int error = cann_.acl.memcpy_async(copy.to, copy.length, copy.from, copy.length, kAclDeviceToDevice, nullptr);
          if (error != kAclOk) return cann_.acl.status(error, "copying on " + npu_name(index()) + " (aclrtMemcpyAsync)");
        }
        return true;
      })
      .status();
}

}  // namespace ray_hixl::transport::hixl
