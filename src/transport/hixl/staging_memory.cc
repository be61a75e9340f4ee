#include "transport/hixl/staging_memory.h"

#include <string>

#include "transport/hixl/npu.h"

namespace ray_hixl::transport::hixl {
namespace {

class StagingMemory final : public device::StagingRuntime {
 public:
  StagingMemory(const Acl& acl, std::int32_t npu) : acl_(acl), npu_(npu) {}

  Status enter() override { return acl_.status(acl_.set_device(npu_), "aclrtSetDevice of " + npu_name(npu_)); }

  Result<std::byte*> allocate(std::uint64_t bytes) override {
    void* memory = nullptr;
    if (const int error = acl_.malloc_host(&memory, bytes); error != kAclOk) {
      return acl_.status(error, "taking " + std::to_string(bytes >> 10) + " KiB of pinned host memory (aclrtMallocHost)");
    }
    return static_cast<std::byte*>(memory);
  }

  void free(std::byte* memory) noexcept override { (void)acl_.free_host(memory); }

  bool pin(std::byte* memory, std::uint64_t bytes) override {
    if (acl_.host_register == nullptr || acl_.host_unregister == nullptr) return false;
    return acl_.host_register(memory, bytes, kAclHostPinned) == kAclOk;
  }

  void unpin(std::byte* memory) noexcept override { (void)acl_.host_unregister(memory); }

  Status to_host(std::byte* to, const std::byte* from, std::uint64_t length) override {
    return acl_.status(acl_.memcpy(to, length, from, length, kAclDeviceToHost), "copying from " + npu_name(npu_) + " (aclrtMemcpy)");
  }

  Status to_device(std::byte* to, const std::byte* from, std::uint64_t length) override {
    return acl_.status(acl_.memcpy(to, length, from, length, kAclHostToDevice), "copying to " + npu_name(npu_) + " (aclrtMemcpy)");
  }

 private:
  const Acl& acl_;
  const std::int32_t npu_;
};

}  // namespace

std::unique_ptr<device::StagingRuntime> staging_memory(const Acl& acl, std::int32_t npu) {
  return std::make_unique<StagingMemory>(acl, npu);
}

}  // namespace ray_hixl::transport::hixl
