#include "transport/shm/channel.h"

#include <algorithm>
#include <utility>

#include "base/mutex.h"
#include "transport/shm/prepared.h"

namespace ray_hixl::transport::shm {

// A job that waits for segments which are not mapped yet. Guarded by the channel's mutex; whoever takes the job out ends it.
struct ShmChannel::Waiting {
  std::shared_ptr<Job> job;             // null once it was taken out
  std::vector<std::size_t> segment_of;  // each piece's segment, an index into the job's
  Views views;
  std::size_t missing = 0;  // views
};

class ShmChannel::Impl : public std::enable_shared_from_this<ShmChannel::Impl> {
 public:
  Impl(const Context& context, Port& port)
      : mappings_(std::make_shared<Mappings>(port, context.copy_pool, context.reaper)),
        puller_(context.copy_pool, context.counters, control::TransportKind::kShm) {}

  void submit(std::shared_ptr<Job> job);
  [[nodiscard]] bool copy_now(const Share& share) const;
  void heed_stops();
  void forget(std::uint32_t segment) { mappings_->forget(segment); }
  void close(const Status& why);

 private:
  [[nodiscard]] Status add(const std::shared_ptr<Waiting>& waiting);
  void arrived(const std::shared_ptr<Waiting>& waiting, std::uint32_t segment, const Result<View>& view);
  std::shared_ptr<Job> take(const std::shared_ptr<Waiting>& waiting) RAY_HIXL_REQUIRES(mutex_);
  [[nodiscard]] std::shared_ptr<const Prepared> prepare_of_mapped(const Share& share) const;
  void copy(const Waiting& waiting, std::shared_ptr<Job> job);
  void pull(std::shared_ptr<Job> job, const std::shared_ptr<const Copies>& copies, std::shared_ptr<const void> views);

  const std::shared_ptr<Mappings> mappings_;
  Puller puller_;
  Mutex mutex_;
  std::set<std::shared_ptr<Waiting>> waiting_ RAY_HIXL_GUARDED_BY(mutex_);
};

void ShmChannel::Impl::submit(std::shared_ptr<Job> job) {
  if (const auto prepared = prepared_of(*job->share)) {
    if (const auto views = prepared->hold()) return pull(std::move(job), prepared->copies, views);
  }
  Result<std::vector<std::size_t>> segment_of = find_segments(*job->share);
  if (!segment_of.is_ok()) return job->end(segment_of.status());
  const std::set<std::uint32_t> needed = ids_of(*job->share, *segment_of);
  if (needed.empty()) return pull(std::move(job), puller_.cut({}), nullptr);

  const auto waiting = std::make_shared<Waiting>(Waiting{job, *std::move(segment_of), {}, needed.size()});
  if (const Status open = add(waiting); !open.is_ok()) return job->end(open);
  job.reset();
  for (const std::uint32_t id : needed) {
    // Who was stopped is not there any more, even if the owner never answers.
    mappings_->get(id, [self = shared_from_this(), weak = std::weak_ptr(waiting), id](const Result<View>& view) {
      if (const auto still = weak.lock()) self->arrived(still, id, view);
    });
  }
}

bool ShmChannel::Impl::copy_now(const Share& share) const {
  auto prepared = prepared_of(share);
  auto views = prepared ? prepared->hold() : nullptr;
  if (!views) {
    prepared = prepare_of_mapped(share);
    views = prepared ? prepared->hold() : nullptr;
  }
  if (!views) return false;
  CacheMover mover(std::move(views));
  return puller_.copy_now(*prepared->copies, mover);
}

// Null if a segment is not mapped yet, or something is wrong that a job will tell.
std::shared_ptr<const Prepared> ShmChannel::Impl::prepare_of_mapped(const Share& share) const {
  const Result<std::vector<std::size_t>> segment_of = find_segments(share);
  if (!segment_of.is_ok()) return nullptr;
  Views views;
  for (const std::uint32_t id : ids_of(share, *segment_of)) {
    if (!(views[id] = mappings_->find(id))) return nullptr;
  }
  auto prepared = prepare(share, *segment_of, views, puller_);
  return prepared.is_ok() ? *prepared : nullptr;
}

// Unless the channel was closed: then nobody would take the job out.
Status ShmChannel::Impl::add(const std::shared_ptr<Waiting>& waiting) {
  const MutexLock lock(mutex_);
  RAY_HIXL_RETURN_IF_ERROR(puller_.state());
  waiting_.insert(waiting);
  return Status::ok();
}

// Null if somebody else took it out.
std::shared_ptr<Job> ShmChannel::Impl::take(const std::shared_ptr<Waiting>& waiting) {
  waiting_.erase(waiting);
  return std::exchange(waiting->job, nullptr);
}

void ShmChannel::Impl::arrived(const std::shared_ptr<Waiting>& waiting, std::uint32_t segment, const Result<View>& view) {
  std::shared_ptr<Job> job;
  {
    const MutexLock lock(mutex_);
    if (view.is_ok()) {
      waiting->views[segment] = *view;
      if (--waiting->missing > 0) return;
    }
    job = take(waiting);
  }
  if (!job) return;
  if (view.is_ok()) {
    copy(*waiting, std::move(job));
  } else {
    job->end(view.status());
  }
}

void ShmChannel::Impl::copy(const Waiting& waiting, std::shared_ptr<Job> job) {
  const auto prepared = prepare(*job->share, waiting.segment_of, waiting.views, puller_);
  if (!prepared.is_ok()) return job->end(prepared.status());
  pull(std::move(job), (*prepared)->copies, (*prepared)->hold());
}

void ShmChannel::Impl::pull(std::shared_ptr<Job> job, const std::shared_ptr<const Copies>& copies, std::shared_ptr<const void> views) {
  auto mover = memory_mover(std::move(views), copies->bytes());
  puller_.pull(std::move(job), copies, std::move(mover));
}

// Those that are being copied ask for themselves.
void ShmChannel::Impl::heed_stops() {
  std::vector<std::shared_ptr<Job>> stopped;
  {
    const MutexLock lock(mutex_);
    const auto stopping = [](const auto& waiting) { return waiting->job->transfer->stopping(); };
    for (const auto& waiting : waiting_) {
      if (stopping(waiting)) stopped.push_back(std::exchange(waiting->job, nullptr));
    }
    std::erase_if(waiting_, [](const auto& waiting) { return !waiting->job; });
  }
  for (const auto& job : stopped) job->end(job->transfer->stop_reason());
}

void ShmChannel::Impl::close(const Status& why) {
  std::set<std::shared_ptr<Waiting>> ended;
  std::vector<std::shared_ptr<Job>> jobs;
  {
    const MutexLock lock(mutex_);
    puller_.close(why);
    ended.swap(waiting_);
    for (const auto& waiting : ended) jobs.push_back(std::exchange(waiting->job, nullptr));
  }
  mappings_->forget_all();
  for (const auto& job : jobs) job->end(puller_.state());
}

ShmChannel::ShmChannel(const Context& context, Port& port) : impl_(std::make_shared<Impl>(context, port)) {}

Status ShmChannel::can_read(RemoteMemory memory) const {
  if (memory == RemoteMemory::kSourceArena) return Status::ok();
  if (!is_host(memory)) return host_memory_only();
  return Status(Code::kNotAvailable, "the source is ordinary memory; memory from ray_hixl.empty() or Engine.empty() can be mapped");
}

void ShmChannel::submit(std::shared_ptr<Job> job) { impl_->submit(std::move(job)); }
bool ShmChannel::copy_now(const Share& share) { return impl_->copy_now(share); }
void ShmChannel::heed_stops() { impl_->heed_stops(); }
void ShmChannel::close(const Status& why) { impl_->close(why); }

void ShmChannel::on_notice(const control::Frame& notice) {
  if (notice.type != control::MessageType::kSegmentRetired) return;
  const Result<control::SegmentRetired> retired = control::decode_segment_retired(notice.body);
  if (retired.is_ok()) impl_->forget(retired->id);
}

}  // namespace ray_hixl::transport::shm
