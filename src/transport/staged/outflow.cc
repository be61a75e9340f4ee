#include "transport/staged/outflow.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <utility>

#include "base/mutex.h"

namespace ray_hixl::transport::staged {
namespace {

using device::Staging;

constexpr std::size_t kAhead = 4;  // parts of one answer that are being copied, or wait to be sent

// Bytes that go through one buffer.
struct Part {
  std::vector<MemoryRange> from;
  std::uint64_t length = 0;
  Staging::Buffer buffer;  // null: it was not copied yet
};

Status fill(const Part& part, std::byte* to, device::StagingRuntime& runtime) {
  for (const MemoryRange& from : part.from) {
    if (from.kind == MemoryKind::kHost) {
      std::memcpy(to, from.address, from.length);
    } else {
      RAY_HIXL_RETURN_IF_ERROR(runtime.to_host(to, from.address, from.length));
    }
    to += from.length;
  }
  return Status::ok();
}

// Cuts the payload into parts of one device each.
class Cutter {
 public:
  explicit Cutter(std::vector<MemoryRange> payload) : payload_(std::move(payload)) { device_ = next_device(0); }

  [[nodiscard]] bool done() const { return next_ == payload_.size(); }
  [[nodiscard]] std::int32_t device() const { return device_; }  // of the part that was cut last

  [[nodiscard]] Part cut() {
    Part part;
    device_ = next_device(next_);
    while (!done() && part.length < Staging::kBufferBytes && is_of(payload_[next_], device_)) {
      MemoryRange& rest = payload_[next_];
      const std::uint64_t length = std::min(rest.length, Staging::kBufferBytes - part.length);
      part.from.push_back({rest.address, length, rest.kind, rest.device});
      part.length += length;
      rest.address += length;
      rest.length -= length;
      if (rest.length == 0) ++next_;
    }
    return part;
  }

 private:
  [[nodiscard]] static bool is_of(const MemoryRange& range, std::int32_t device) {
    return range.kind == MemoryKind::kHost || range.device == device;
  }
  // The first device from there on; behind the last one host memory goes its way.
  [[nodiscard]] std::int32_t next_device(std::size_t from) const {
    const auto found = std::find_if(payload_.begin() + static_cast<std::ptrdiff_t>(from), payload_.end(),
                                    [](const MemoryRange& range) { return range.kind == MemoryKind::kDevice; });
    return found == payload_.end() ? device_ : found->device;
  }

  std::vector<MemoryRange> payload_;
  std::size_t next_ = 0;
  std::int32_t device_ = 0;
};

class DeviceOutflow final : public stream::Outflow {
 public:
  DeviceOutflow(std::shared_ptr<device::Devices> devices, std::vector<MemoryRange> payload, std::shared_ptr<const void> keep,
                std::function<void()> more)
      : devices_(std::move(devices)), cutter_(std::move(payload)) {
    shared_->keep = std::move(keep);
    shared_->more = std::move(more);
    go_ahead();
  }
  ~DeviceOutflow() override {
    const MutexLock lock(shared_->mutex);
    shared_->failed = Status(Code::kCancelled, "nobody wants the bytes any more");
  }

  std::span<const std::byte> ready() override {
    if (parts_.empty()) return {};
    const MutexLock lock(shared_->mutex);
    const Part& part = *parts_.front();
    if (!part.buffer) return {};
    return std::span<const std::byte>(part.buffer.get(), part.length).subspan(sent_);
  }

  void sent(std::uint64_t bytes) override {
    if (bytes == 0) return;
    sent_ += bytes;
    if (sent_ < parts_.front()->length) return;
    sent_ = 0;
    parts_.pop_front();
    go_ahead();
  }

  Status status() const override {
    const MutexLock lock(shared_->mutex);
    return shared_->failed;
  }

 private:
  struct Shared {
    Mutex mutex;
    Status failed RAY_HIXL_GUARDED_BY(mutex);
    std::shared_ptr<const void> keep;  // for as long as something copies
    std::function<void()> more;

    void fail(const Status& why) {
      {
        const MutexLock lock(mutex);
        if (failed.is_ok()) failed = why;
      }
      more();
    }
  };

  void go_ahead() {
    while (parts_.size() < kAhead && !cutter_.done()) {
      parts_.push_back(std::make_shared<Part>(cutter_.cut()));
      begin(parts_.back(), cutter_.device());
    }
  }

  void begin(const std::shared_ptr<Part>& part, std::int32_t index) {
    const std::shared_ptr<device::Device> device = devices_->find(index);
    if (!device) return shared_->fail(Status(Code::kClosed, "npu:" + std::to_string(index) + " of the owner was closed"));
    device->staging().take(Staging::Way::kOut, [shared = shared_, device, part](Result<Staging::Buffer> buffer) {
      if (!buffer.is_ok()) return shared->fail(buffer.status());
      const Status taken =
          device->staging().run([shared, part, to = *buffer](device::StagingRuntime& runtime) { copy(*shared, *part, to, runtime); });
      if (!taken.is_ok()) shared->fail(taken);
    });
  }

  static void copy(Shared& shared, Part& part, const Staging::Buffer& to, device::StagingRuntime& runtime) {
    {
      const MutexLock lock(shared.mutex);
      if (!shared.failed.is_ok()) return;
    }
    if (const Status filled = fill(part, to.get(), runtime); !filled.is_ok()) return shared.fail(filled);
    {
      const MutexLock lock(shared.mutex);
      part.buffer = to;
    }
    shared.more();
  }

  const std::shared_ptr<device::Devices> devices_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();  // with what copies
  Cutter cutter_;
  std::deque<std::shared_ptr<Part>> parts_;  // in the order of the payload; their buffers belong to the mutex
  std::uint64_t sent_ = 0;                   // of the first part
};

}  // namespace

std::unique_ptr<stream::Outflow> open_outflow(const std::shared_ptr<device::Devices>& devices, std::vector<MemoryRange> payload,
                                              std::shared_ptr<const void> keep, std::function<void()> more) {
  return std::make_unique<DeviceOutflow>(devices, std::move(payload), std::move(keep), std::move(more));
}

}  // namespace ray_hixl::transport::staged
