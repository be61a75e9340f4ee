#include "transport/pull.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "transport/fetched.h"

namespace ray_hixl::transport {
namespace {

constexpr std::uint64_t kPartBytes = std::uint64_t{4} << 20;
constexpr std::size_t kPartCopies = 512;
constexpr std::uint64_t kInlineBytes = std::uint64_t{1} << 20;

class MemcpyMover final : public Mover {
 public:
  explicit MemcpyMover(std::shared_ptr<const void> holds) : holds_(std::move(holds)) {}
  Status move(std::span<const Copy> copies) override {
    for (const Copy& copy : copies) std::memcpy(copy.to, reinterpret_cast<const void*>(copy.from), copy.length);
    return Status::ok();
  }

 private:
  const std::shared_ptr<const void> holds_;
};

std::uint64_t total(std::span<const Copy> copies) {
  std::uint64_t bytes = 0;
  for (const Copy& copy : copies) bytes += copy.length;
  return bytes;
}

}  // namespace

std::shared_ptr<Mover> memcpy_mover(std::shared_ptr<const void> holds) { return std::make_shared<MemcpyMover>(std::move(holds)); }

struct Puller::State {
  State(memory::CopyPool& the_pool, Counters& the_counters, control::TransportKind the_kind)
      : pool(the_pool), counters(the_counters), kind(the_kind) {}

  memory::CopyPool& pool;
  Counters& counters;
  const control::TransportKind kind;
  std::atomic<bool> closed{false};
  Mutex mutex;
  Status why RAY_HIXL_GUARDED_BY(mutex);

  [[nodiscard]] Status status() {
    if (!closed.load(std::memory_order_acquire)) return Status::ok();
    const MutexLock lock(mutex);
    return why;
  }
};

class Puller::Work final : public memory::CopyWork {
 public:
  Work(std::shared_ptr<State> state, std::shared_ptr<Job> job, std::span<const Copy> copies, std::shared_ptr<Mover> mover)
      : state_(std::move(state)), job_(std::move(job)), mover_(std::move(mover)) {
    cut(copies);
  }

  [[nodiscard]] std::size_t parts() const override { return part_starts_.size() - 1; }

  bool run(std::size_t part) override {
    if (failed_.load(std::memory_order_acquire)) return false;
    if (job_->transfer->stopping()) return fail(job_->transfer->stop_reason());
    if (const Status open = state_->status(); !open.is_ok()) return fail(open);
    const auto copies = std::span(copies_).subspan(part_starts_[part], part_starts_[part + 1] - part_starts_[part]);
    if (const Status moved = mover_->move(copies); !moved.is_ok()) return fail(moved);
    const std::uint64_t bytes = total(copies);
    count_fetched(*job_->transfer, state_->counters, state_->kind, bytes);
    return true;
  }

  void finished() override { end(error()); }
  void end(const Status& status) { std::exchange(job_, nullptr)->end(status); }

 private:
  // Long copies are cut, short ones gathered, into parts of at most kPartBytes and kPartCopies.
  void cut(std::span<const Copy> whole) {
    copies_.reserve(whole.size());
    part_starts_.push_back(0);
    std::uint64_t bytes = 0;
    for (Copy rest : whole) {
      while (rest.length > 0) {
        const std::uint64_t length = std::min(rest.length, kPartBytes - bytes);
        copies_.push_back({rest.to, rest.from, length});
        rest = {rest.to + length, rest.from + length, rest.length - length};
        bytes += length;
        if (bytes == kPartBytes || copies_.size() - part_starts_.back() == kPartCopies) {
          part_starts_.push_back(copies_.size());
          bytes = 0;
        }
      }
    }
    if (part_starts_.back() != copies_.size()) part_starts_.push_back(copies_.size());
  }

  [[nodiscard]] Status error() {
    const MutexLock lock(mutex_);
    return error_;
  }

  bool fail(const Status& status) {
    const MutexLock lock(mutex_);
    if (!error_.is_ok()) return false;
    error_ = status;
    failed_.store(true, std::memory_order_release);
    return false;
  }

  const std::shared_ptr<State> state_;
  std::shared_ptr<Job> job_;
  const std::shared_ptr<Mover> mover_;
  std::vector<Copy> copies_;
  std::vector<std::size_t> part_starts_;  // and the end
  std::atomic<bool> failed_{false};
  Mutex mutex_;
  Status error_ RAY_HIXL_GUARDED_BY(mutex_);  // the first one
};

Puller::Puller(memory::CopyPool& pool, Counters& counters, control::TransportKind kind)
    : state_(std::make_shared<State>(pool, counters, kind)) {}

void Puller::pull(std::shared_ptr<Job> job, std::span<const Copy> copies, std::shared_ptr<Mover> mover) {
  if (const Status open = state(); !open.is_ok()) return job->end(open);
  const auto work = std::make_shared<Work>(state_, std::move(job), copies, std::move(mover));
  if (total(copies) <= kInlineBytes) {
    for (std::size_t part = 0; part < work->parts() && work->run(part); ++part) continue;
    work->finished();
  } else if (const Status taken = state_->pool.submit(work); !taken.is_ok()) {
    work->end(taken);
  }
}

void Puller::close(const Status& why) {
  const MutexLock lock(state_->mutex);
  if (state_->closed) return;
  state_->why = why;
  state_->closed.store(true, std::memory_order_release);
}

Status Puller::state() const { return state_->status(); }

}  // namespace ray_hixl::transport
