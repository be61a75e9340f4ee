#include "transport/staged/inflow.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "device/name.h"
#include "transport/staged/host_copy.h"
#include "transport/staged/parts.h"

namespace ray_hixl::transport::staged {
namespace {

using device::Staging;

// What one buffer holds, and how far it was brought.
struct Incoming {
  Staging::Buffer buffer;
  std::uint64_t bytes = 0;
  std::uint64_t brought = 0;
  std::size_t piece = 0;       // the next byte to be brought belongs to this piece of the job,
  std::uint64_t in_piece = 0;  // at this offset
};

struct Copy {
  std::byte* to;
  const std::byte* from;
  std::uint64_t length;
  bool is_for_host;
};

// What the thread of one device does in one go; others' have their turn between two. What is for the host goes along.
struct Slice {
  std::int32_t device = kHost;  // all of it is for the host
  std::vector<Copy> copies;
};

Slice next_slice(const Job& job, Incoming& part) {
  Slice slice;
  while (part.brought < part.bytes && slice.copies.size() < kMostRanges) {
    const Piece& piece = job.pieces()[part.piece];
    const std::int32_t device = device_of(job, piece);
    if (device != kHost && slice.device != kHost && device != slice.device) break;
    if (device != kHost) slice.device = device;
    const std::uint64_t length = std::min(part.bytes - part.brought, piece.length - part.in_piece);
    if (length > 0) slice.copies.push_back({piece.local + part.in_piece, part.buffer.get() + part.brought, length, device == kHost});
    part.brought += length;
    part.in_piece += length;
    if (part.in_piece < piece.length) continue;
    ++part.piece;
    part.in_piece = 0;
  }
  return slice;
}

Status land(const Slice& slice, device::StagingRuntime& runtime) {
  for (const Copy& copy : slice.copies) {
    RAY_HIXL_RETURN_IF_ERROR(copy.is_for_host ? copy_to_host(copy.to, copy.from, copy.length)
                                              : runtime.to_device(copy.to, copy.from, copy.length));
  }
  return Status::ok();
}

class DeviceInflow final : public stream::Inflow, public std::enable_shared_from_this<DeviceInflow> {
 public:
  DeviceInflow(std::shared_ptr<device::Devices> devices, std::shared_ptr<Job> job, std::function<void()> more)
      : devices_(std::move(devices)), more_(std::move(more)), job_(std::move(job)) {
    for (const Piece& piece : job_->pieces()) left_ += piece.length;
  }

  void open(std::int32_t index) {
    device_ = index;
    const std::shared_ptr<device::Device> device = devices_->find(index);
    if (!device) return fail(device::npu_closed(index));
    const std::size_t wanted = left_ > Staging::kBufferBytes && device->staging().has_spare(Staging::Way::kIn) ? 2 : 1;
    for (std::size_t i = 0; i < wanted; ++i) {
      device->staging().take(Staging::Way::kIn, [self = shared_from_this()](Result<Staging::Buffer> buffer) {
        if (!buffer.is_ok()) return self->fail(buffer.status());
        self->have(*std::move(buffer));
      });
    }
  }

  std::span<std::byte> room() override {
    if (!filling_) {
      const MutexLock lock(mutex_);
      if (free_.empty()) return {};
      filling_ = std::move(free_.back());
      free_.pop_back();
    }
    return {filling_.get() + filled_, Staging::kBufferBytes - filled_};
  }

  void received(std::uint64_t bytes) override {
    filled_ += bytes;
    left_ -= bytes;
    if (filled_ < Staging::kBufferBytes && left_ > 0) return;
    auto part = std::make_shared<Incoming>();
    part->buffer = std::exchange(filling_, nullptr);
    part->bytes = std::exchange(filled_, 0);
    part->piece = piece_;
    part->in_piece = in_piece_;
    pass(part->bytes);
    {
      const MutexLock lock(mutex_);
      ++landing_;
    }
    bring(part);
  }

  Status status() const override {
    const MutexLock lock(mutex_);
    return failed_;
  }

  void end(const Status& status) override {
    filling_ = nullptr;
    {
      const MutexLock lock(mutex_);
      ended_ = true;
      if (!status.is_ok()) failed_ = status;
      if (landing_ > 0) return;
    }
    end_job();
  }

 private:
  // The next byte that comes lies so many behind.
  void pass(std::uint64_t bytes) {
    for (in_piece_ += bytes; piece_ < job_->pieces().size() && in_piece_ >= job_->pieces()[piece_].length; ++piece_) {
      in_piece_ -= job_->pieces()[piece_].length;
    }
  }

  // Slice by slice, each on the thread of its device.
  void bring(const std::shared_ptr<Incoming>& part) {
    const Status wanted = job_->transfer->stopping() ? job_->transfer->stop_reason() : status();
    if (!wanted.is_ok() || part->brought == part->bytes) return landed(part, wanted);
    auto slice = std::make_shared<const Slice>(next_slice(*job_, *part));
    const std::int32_t index = slice->device == kHost ? device_ : slice->device;
    const std::shared_ptr<device::Device> device = devices_->find(index);
    if (!device) return landed(part, device::npu_closed(index));
    const Status taken = device->staging().run(
        [slice](device::StagingRuntime& runtime) { return land(*slice, runtime); },
        [self = shared_from_this(), part](const Status& brought) { brought.is_ok() ? self->bring(part) : self->landed(part, brought); });
    if (!taken.is_ok()) landed(part, taken);
  }

  // Nothing writes for this part any more.
  void landed(const std::shared_ptr<Incoming>& part, const Status& status) {
    Staging::Buffer dropped;  // after the lock
    bool is_end = false;
    {
      const MutexLock lock(mutex_);
      --landing_;
      if (failed_.is_ok() && !status.is_ok()) failed_ = status;
      is_end = ended_ && landing_ == 0;
      (ended_ ? dropped : free_.emplace_back()) = std::move(part->buffer);
    }
    if (is_end) return end_job();
    more_();
  }

  void have(Staging::Buffer buffer) {
    {
      const MutexLock lock(mutex_);
      if (ended_) return;
      free_.push_back(std::move(buffer));
    }
    more_();
  }

  void fail(const Status& why) {
    {
      const MutexLock lock(mutex_);
      if (failed_.is_ok()) failed_ = why;
    }
    more_();
  }

  // Buffers first: who hears of the end may ask for some.
  void end_job() {
    std::vector<Staging::Buffer> dropped;
    Status result;
    {
      const MutexLock lock(mutex_);
      dropped.swap(free_);
      result = failed_;
    }
    dropped.clear();
    std::exchange(job_, nullptr)->end(result);
  }

  const std::shared_ptr<device::Devices> devices_;
  const std::function<void()> more_;
  std::shared_ptr<Job> job_;     // until its end, which nothing of this looks behind
  std::int32_t device_ = kHost;  // of the first piece that is for one: what is all the host's goes by its staging, too
  // Loop thread.
  Staging::Buffer filling_;     // the next bytes go there,
  std::uint64_t filled_ = 0;    // at this offset
  std::uint64_t left_ = 0;      // bytes that are still to come
  std::size_t piece_ = 0;       // the next byte that comes behind those belongs to this piece,
  std::uint64_t in_piece_ = 0;  // at this offset

  mutable Mutex mutex_;
  std::vector<Staging::Buffer> free_ RAY_HIXL_GUARDED_BY(mutex_);
  std::size_t landing_ RAY_HIXL_GUARDED_BY(mutex_) = 0;  // parts
  bool ended_ RAY_HIXL_GUARDED_BY(mutex_) = false;
  Status failed_ RAY_HIXL_GUARDED_BY(mutex_);  // the first thing that went wrong
};

}  // namespace

std::shared_ptr<stream::Inflow> open_inflow(const std::shared_ptr<device::Devices>& devices, const std::shared_ptr<Job>& job,
                                            std::function<void()> more) {
  const auto first = std::ranges::find_if(job->pieces(), [&](const Piece& piece) { return device_of(*job, piece) != kHost; });
  if (first == job->pieces().end()) return nullptr;
  auto inflow = std::make_shared<DeviceInflow>(devices, job, std::move(more));
  inflow->open(device_of(*job, *first));
  return inflow;
}

}  // namespace ray_hixl::transport::staged
