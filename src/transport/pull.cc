#include "transport/pull.h"

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "transport/fetched.h"

namespace ray_hixl::transport {
namespace {

std::uint64_t total(std::span<const Copy> copies) {
  std::uint64_t bytes = 0;
  for (const Copy& copy : copies) bytes += copy.length;
  return bytes;
}

}  // namespace

struct Puller::State {
  State(memory::CopyPool& the_pool, Counters& the_counters, control::TransportKind the_kind, std::uint64_t cost)
      : pool(the_pool), counters(the_counters), kind(the_kind), copy_cost(cost) {}

  memory::CopyPool& pool;
  Counters& counters;
  const control::TransportKind kind;
  const std::uint64_t copy_cost;
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
  Work(std::shared_ptr<State> state, std::shared_ptr<Job> job, std::shared_ptr<const Copies> copies, std::shared_ptr<Mover> mover)
      : state_(std::move(state)), job_(std::move(job)), copies_(std::move(copies)), mover_(std::move(mover)) {}

  [[nodiscard]] std::size_t parts() const override { return copies_->parts(); }

  bool run(std::size_t part) override {
    if (failed_.load(std::memory_order_acquire)) return false;
    if (job_->transfer->stopping()) return fail(job_->transfer->stop_reason());
    if (const Status open = state_->status(); !open.is_ok()) return fail(open);
    const std::span<const Copy> copies = copies_->part(part);
    if (const Status moved = mover_->move(copies); !moved.is_ok()) return fail(moved);
    const std::uint64_t bytes = total(copies);
    count_fetched(*job_->transfer, state_->counters, state_->kind, bytes);
    return true;
  }

  void finished() override { end(error()); }
  void end(const Status& status) { std::exchange(job_, nullptr)->end(status); }

 private:
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
  const std::shared_ptr<const Copies> copies_;
  const std::shared_ptr<Mover> mover_;
  std::atomic<bool> failed_{false};
  Mutex mutex_;
  Status error_ RAY_HIXL_GUARDED_BY(mutex_);  // the first one
};

Puller::Puller(memory::CopyPool& pool, Counters& counters, control::TransportKind kind, std::uint64_t copy_cost)
    : state_(std::make_shared<State>(pool, counters, kind, copy_cost)) {}

std::shared_ptr<const Copies> Puller::cut(std::vector<Copy> copies) const {
  return std::make_shared<const Copies>(std::move(copies), state_->pool.threads(), state_->copy_cost);
}

void Puller::pull(std::shared_ptr<Job> job, std::shared_ptr<const Copies> copies, std::shared_ptr<Mover> mover) {
  if (const Status open = state(); !open.is_ok()) return job->end(open);
  const bool here = copies->is_little();
  const auto work = std::make_shared<Work>(state_, std::move(job), std::move(copies), std::move(mover));
  if (here) {
    if (work->parts() == 1) (void)work->run(0);
    work->finished();
  } else if (const Status taken = state_->pool.submit(work); !taken.is_ok()) {
    work->end(taken);
  }
}

bool Puller::copy_now(const Copies& copies, Mover& mover) const {
  return copies.parts() == 1 && copies.is_little() && state().is_ok() && mover.move(copies.part(0)).is_ok();
}

void Puller::close(const Status& why) {
  const MutexLock lock(state_->mutex);
  if (state_->closed) return;
  state_->why = why;
  state_->closed.store(true, std::memory_order_release);
}

Status Puller::state() const { return state_->status(); }

}  // namespace ray_hixl::transport
