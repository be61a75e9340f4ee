#include "transport/staged/outflow.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "device/name.h"
#include "transport/staged/host_copy.h"
#include "transport/staged/parts.h"

namespace ray_hixl::transport::staged {
namespace {

using device::Staging;

constexpr std::size_t kAhead = 4;  // parts of one answer that are being copied, or wait to be sent
constexpr std::int32_t kNone = -1;
constexpr Clock::duration kPatience = std::chrono::seconds(1);  // with a reader that holds buffers which others want

// Bytes that go through one buffer.
struct Outgoing {
  std::int32_t device = kNone;  // none: all of it is the host's
  std::vector<MemoryRange> from;
  std::uint64_t length = 0;
  Staging::Buffer buffer;     // null: it was not copied yet
  bool is_moved_out = false;  // to ordinary memory
};

Status fill(const Outgoing& part, std::byte* to, device::StagingRuntime& runtime) {
  for (const MemoryRange& from : part.from) {
    RAY_HIXL_RETURN_IF_ERROR(from.kind != MemoryKind::kDevice ? copy_from_host(to, from.address, from.length)
                                                              : runtime.to_host(to, from.address, from.length));
    to += from.length;
  }
  return Status::ok();
}

// Cuts the payload into parts of one device each, beside memory of the host.
class Cutter {
 public:
  explicit Cutter(stream::NextRange payload) : payload_(std::move(payload)) {}

  // The next one; without bytes at the end.
  [[nodiscard]] Outgoing cut() {
    Outgoing part;
    while (part.length < Staging::kBufferBytes && part.from.size() < kMostRanges) {
      if (!next_) next_ = payload_(Staging::kBufferBytes - part.length);
      if (!next_ || !is_for(part, *next_)) return part;
      if (next_->kind == MemoryKind::kDevice) part.device = next_->device;
      part.from.push_back(*next_);
      part.length += next_->length;
      next_.reset();
    }
    return part;
  }

 private:
  [[nodiscard]] static bool is_for(const Outgoing& part, const MemoryRange& range) {
    return range.kind != MemoryKind::kDevice || part.device == kNone || range.device == part.device;
  }

  const stream::NextRange payload_;
  std::optional<MemoryRange> next_;  // that went into no part yet
};

class DeviceOutflow final : public stream::Outflow {
 public:
  DeviceOutflow(std::shared_ptr<device::Devices> devices, std::int32_t device, stream::NextRange payload, std::shared_ptr<const void> keep,
                std::function<void()> more)
      : devices_(std::move(devices)), device_(device), cutter_(std::move(payload)) {
    {
      const MutexLock lock(shared_->mutex);
      shared_->keep = std::move(keep);
    }
    shared_->more = std::move(more);
    go_ahead();
  }
  // What is not being copied just now lets go at once.
  ~DeviceOutflow() override {
    std::shared_ptr<const void> dropped;
    const MutexLock lock(shared_->mutex);
    shared_->failed = Status(Code::kCancelled, "nobody wants the bytes any more");
    dropped.swap(shared_->keep);
  }

  std::span<const std::byte> ready() override {
    if (parts_.empty()) return {};
    const MutexLock lock(shared_->mutex);
    const Outgoing& part = *parts_.front();
    if (!part.buffer) return {};
    return std::span<const std::byte>(part.buffer.get(), part.length).subspan(sent_);
  }

  void sent(std::uint64_t bytes) override {
    if (bytes == 0) return;
    sent_ += bytes;
    if (sent_ < parts_.front()->length) return look_at_pace();
    sent_ = 0;
    parts_.pop_front();
    front_since_ = Clock::now();
    go_ahead();
  }

  Status status() const override { return shared_->status(); }

 private:
  struct Shared {
    Mutex mutex;
    Status failed RAY_HIXL_GUARDED_BY(mutex);
    std::shared_ptr<const void> keep RAY_HIXL_GUARDED_BY(mutex);  // the payload's memory; copies keep it for themselves
    std::function<void()> more;

    [[nodiscard]] Status status() {
      const MutexLock lock(mutex);
      return failed;
    }
    [[nodiscard]] std::pair<Status, std::shared_ptr<const void>> begin_copy() {
      const MutexLock lock(mutex);
      return {failed, keep};
    }
    void have(Outgoing& part, const Staging::Buffer& buffer) {
      {
        const MutexLock lock(mutex);
        part.buffer = buffer;
      }
      more();
    }
    void move_out(Outgoing& part) {
      Staging::Buffer dropped;  // after the lock
      const MutexLock lock(mutex);
      if (!part.buffer || part.is_moved_out) return;
      const Staging::Buffer memory(new (std::nothrow) std::byte[part.length], std::default_delete<std::byte[]>());
      if (!memory) return;
      std::memcpy(memory.get(), part.buffer.get(), part.length);
      dropped = std::exchange(part.buffer, memory);
      part.is_moved_out = true;
    }
    void fail(const Status& why) {
      {
        const MutexLock lock(mutex);
        if (failed.is_ok()) failed = why;
      }
      more();
    }
  };

  // One part in any case; more of them only where nobody lacks what they take.
  void go_ahead() {
    while (!at_end_ && parts_.size() < kAhead) {
      if (!parts_.empty() && !has_spare()) return;
      auto part = std::make_shared<Outgoing>(cutter_.cut());
      at_end_ = part->length == 0;
      if (at_end_) return;
      if (part->device != kNone) device_ = part->device;
      parts_.push_back(std::move(part));
      begin(parts_.back());
    }
  }

  // A reader that only drips keeps what was copied for it, but not in buffers that others wait for.
  void look_at_pace() {
    if (Clock::now() - front_since_ < kPatience || has_spare()) return;
    for (const auto& part : parts_) shared_->move_out(*part);
    front_since_ = Clock::now();
  }

  [[nodiscard]] bool has_spare() const {
    const std::shared_ptr<device::Device> device = devices_->find(device_);
    return device && device->staging().has_spare(Staging::Way::kOut);
  }

  void begin(const std::shared_ptr<Outgoing>& part) {
    const std::shared_ptr<device::Device> device = devices_->find(device_);
    if (!device) return shared_->fail(device::npu_closed(device_));
    device->staging().take(Staging::Way::kOut, [shared = shared_, device, part](Result<Staging::Buffer> buffer) {
      if (!buffer.is_ok()) return shared->fail(buffer.status());
      const Staging::Buffer to = *std::move(buffer);
      const auto copy = [shared, part, to](device::StagingRuntime& runtime) {
        const auto [wanted, kept] = shared->begin_copy();
        return wanted.is_ok() ? fill(*part, to.get(), runtime) : wanted;
      };
      const auto copied = [shared, part, to](const Status& filled) { filled.is_ok() ? shared->have(*part, to) : shared->fail(filled); };
      if (const Status taken = device->staging().run(copy, copied); !taken.is_ok()) shared->fail(taken);
    });
  }

  const std::shared_ptr<device::Devices> devices_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();  // with what copies
  std::int32_t device_;  // of the part that was begun last: what is all the host's goes by its staging, too
  Cutter cutter_;
  bool at_end_ = false;
  std::deque<std::shared_ptr<Outgoing>> parts_;   // in the order of the payload; their buffers belong to the mutex
  std::uint64_t sent_ = 0;                        // of the first part,
  Clock::time_point front_since_ = Clock::now();  // which is the first one, or was moved out, since then
};

}  // namespace

std::unique_ptr<stream::Outflow> open_outflow(const std::shared_ptr<device::Devices>& devices, std::int32_t device,
                                              stream::NextRange payload, std::shared_ptr<const void> keep, std::function<void()> more) {
  return std::make_unique<DeviceOutflow>(devices, device, std::move(payload), std::move(keep), std::move(more));
}

}  // namespace ray_hixl::transport::staged
