#include "transport/hixl/slab_memory.h"

#include <string>
#include <utility>

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::int32_t kLastWaitMs = 1000;

// The calling thread's device for as long as it lives; the one before comes back.
class DeviceGuard {
 public:
  DeviceGuard(const Acl& acl, std::int32_t device) : acl_(acl) {
    had_context_ = acl_.get_current_context(&before_) == kAclOk;
    is_set_ = acl_.set_device(device) == kAclOk;
  }
  ~DeviceGuard() {
    if (had_context_) acl_.set_current_context(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  [[nodiscard]] bool is_set() const { return is_set_; }

 private:
  const Acl& acl_;
  void* before_ = nullptr;
  bool had_context_ = false;
  bool is_set_ = false;
};

class SlabMemory final : public device::SlabSource {
 public:
  explicit SlabMemory(const std::shared_ptr<Npu>& npu) : acl_(npu->acl()), npu_(npu), index_(npu->index()) {}

  Result<std::byte*> take(std::uint64_t bytes) override {
    const auto npu = npu_.lock();
    if (!npu) return Status(Code::kClosed, "the engine was closed");
    return npu->driver().call_hixl<std::byte*>([this, &npu = *npu, bytes](Hixl* hixl) -> Result<std::byte*> {
      void* address = nullptr;
      if (const int error = acl_.malloc(&address, bytes, kAclHugeOnly); error != kAclOk) {
        return acl_.status(error, "taking " + std::to_string(bytes >> 20) + " MiB of " + npu_name(index_) +
                                      " for ray-hixl's slabs (aclrtMalloc); give torch less, or lower slab_bytes");
      }
      auto* const memory = static_cast<std::byte*>(address);
      const Result<const std::byte*> registered = npu.registry().add(hixl, memory, bytes);
      if (registered.is_ok()) return memory;
      acl_.free(address);
      return registered.status();
    });
  }

  // After HIXL let go of it. The thread is whoever dropped the last block; work that reads the memory may still be queued. Where that does
  // not end soon the memory is left to the driver of the machine.
  void give_back(std::byte* address, std::uint64_t) noexcept override {
    if (device::memory_is_left()) return;
    const DeviceGuard guard(acl_, index_);
    if (guard.is_set() && acl_.synchronize_device(kLastWaitMs) == kAclOk) acl_.free(address);
  }

 private:
  const Acl& acl_;
  const std::weak_ptr<Npu> npu_;
  const std::int32_t index_;
};

}  // namespace

std::unique_ptr<device::SlabSource> slab_memory(const std::shared_ptr<Npu>& npu) { return std::make_unique<SlabMemory>(npu); }

}  // namespace ray_hixl::transport::hixl
