#include "transport/staged/inflow.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "transport/staged/host_copy.h"

namespace ray_hixl::transport::staged {
namespace {

using device::Staging;

constexpr std::int32_t kHost = -1;

std::int32_t device_of(const Job& job, const Piece& piece) {
  return piece.place < 0 ? kHost : std::max(kHost, job.plan->places[static_cast<std::size_t>(piece.place)].local);
}

// What one buffer holds, and where it goes: by device.
struct Incoming {
  struct Copy {
    std::byte* to;
    std::size_t from;  // offset in the buffer
    std::uint64_t length;
  };
  Staging::Buffer buffer;
  std::map<std::int32_t, std::vector<Copy>> copies;
};

Status land(const Incoming& part, std::int32_t index, device::StagingRuntime& runtime) {
  for (const Incoming::Copy& copy : part.copies.at(index)) {
    RAY_HIXL_RETURN_IF_ERROR(runtime.to_device(copy.to, part.buffer.get() + copy.from, copy.length));
  }
  return Status::ok();
}

class DeviceInflow final : public stream::Inflow, public std::enable_shared_from_this<DeviceInflow> {
 public:
  DeviceInflow(std::shared_ptr<device::Devices> devices, std::shared_ptr<Job> job, std::function<void()> more)
      : devices_(std::move(devices)), more_(std::move(more)), job_(std::move(job)) {
    for (const Piece& piece : job_->pieces) left_ += piece.length;
  }

  void open(std::int32_t index) {
    const std::shared_ptr<device::Device> device = devices_->find(index);
    if (!device) return fail(Status(Code::kClosed, "npu:" + std::to_string(index) + " was closed"));
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
    list_copies(*part, std::exchange(filled_, 0));
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
  // The pieces that the next bytes belong to.
  void list_copies(Incoming& part, std::uint64_t bytes) {
    for (std::size_t from = 0; from < bytes;) {
      const Piece& piece = job_->pieces[piece_];
      const std::uint64_t length = std::min<std::uint64_t>(bytes - from, piece.length - in_piece_);
      part.copies[device_of(*job_, piece)].push_back({piece.local + in_piece_, from, length});
      from += length;
      in_piece_ += length;
      if (in_piece_ < piece.length) continue;
      ++piece_;
      in_piece_ = 0;
    }
  }

  // To one device after the other, each on the thread of its own.
  void bring(const std::shared_ptr<Incoming>& part) {
    const Status wanted = job_->transfer->stopping() ? job_->transfer->stop_reason() : status();
    if (!wanted.is_ok() || part->copies.empty()) return landed(part, wanted);
    const std::int32_t index = part->copies.begin()->first;
    if (index == kHost) {
      for (const Incoming::Copy& copy : part->copies.at(kHost)) {
        if (const Status brought = copy_to_host(copy.to, part->buffer.get() + copy.from, copy.length); !brought.is_ok())
          return landed(part, brought);
      }
      part->copies.erase(kHost);
      return bring(part);
    }
    const std::shared_ptr<device::Device> device = devices_->find(index);
    if (!device) return landed(part, Status(Code::kClosed, "npu:" + std::to_string(index) + " was closed"));
    const Status taken = device->staging().run([part, index](device::StagingRuntime& runtime) { return land(*part, index, runtime); },
                                               [self = shared_from_this(), part, index](const Status& brought) {
                                                 if (!brought.is_ok()) return self->landed(part, brought);
                                                 part->copies.erase(index);
                                                 self->bring(part);
                                               });
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
  std::shared_ptr<Job> job_;  // until its end, which nothing of this looks behind
  // Loop thread.
  Staging::Buffer filling_;     // the next bytes go there,
  std::uint64_t filled_ = 0;    // at this offset
  std::uint64_t left_ = 0;      // bytes that are still to come
  std::size_t piece_ = 0;       // the next byte that is brought belongs to this piece,
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
  const auto first = std::ranges::find_if(job->pieces, [&](const Piece& piece) { return device_of(*job, piece) != kHost; });
  if (first == job->pieces.end()) return nullptr;
  auto inflow = std::make_shared<DeviceInflow>(devices, job, std::move(more));
  inflow->open(device_of(*job, *first));
  return inflow;
}

}  // namespace ray_hixl::transport::staged
