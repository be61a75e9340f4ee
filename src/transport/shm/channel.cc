#include "transport/shm/channel.h"

#include <algorithm>
#include <utility>

#include "base/mutex.h"

namespace ray_hixl::transport::shm {

namespace {

// What is copied for a share, as long as its segments are mapped; a segment that its owner gave back is let go of, whoever still has this.
struct Prepared {
  std::vector<std::weak_ptr<const memory::SegmentView>> views;
  std::shared_ptr<const Copies> copies;
};

// Keeps the views. Null if one was let go of.
std::shared_ptr<const void> hold(const Prepared& prepared) {
  if (prepared.views.size() == 1) return prepared.views.front().lock();
  auto views = std::make_shared<std::vector<View>>();
  views->reserve(prepared.views.size());
  for (const auto& view : prepared.views) {
    views->push_back(view.lock());
    if (!views->back()) return nullptr;
  }
  return views;
}

}  // namespace

// A job that waits for segments which are not mapped yet. Guarded by the channel's mutex; whoever takes the job out ends it.
struct ShmChannel::Waiting {
  std::shared_ptr<Job> job;             // null once it was taken out
  std::vector<std::size_t> segment_of;  // each piece's segment, an index into the job's
  std::map<std::uint32_t, View> views;  // by id
  std::size_t missing = 0;              // views
};

namespace {

using Segments = std::vector<control::RemoteSegment>;

// The segments' indices in the order of their addresses, for find_segments().
std::vector<std::size_t> by_address(const Segments& segments) {
  std::vector<std::size_t> order(segments.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](std::size_t i) { return segments[i].base; });
  return order;
}

bool holds(const control::RemoteSegment& segment, const Piece& piece) {
  return piece.address >= segment.base && piece.address - segment.base <= segment.length &&
         piece.length <= segment.length - (piece.address - segment.base);
}

// The index of the segment that holds all of each piece.
Result<std::vector<std::size_t>> find_segments(const Job& job) {
  const std::vector<std::size_t> order = by_address(job.share->segments);
  std::vector<std::size_t> found;
  found.reserve(job.pieces().size());
  for (const Piece& piece : job.pieces()) {
    const auto behind = std::ranges::upper_bound(order, piece.address, {}, [&](std::size_t i) { return job.share->segments[i].base; });
    if (behind == order.begin() || !holds(job.share->segments[*(behind - 1)], piece)) {
      return Status(Code::kInternal, "memory outside of the peer's source arena was to be read by shm");
    }
    found.push_back(*(behind - 1));
  }
  return found;
}

}  // namespace

class ShmChannel::Impl : public std::enable_shared_from_this<ShmChannel::Impl> {
 public:
  Impl(const Context& context, Port& port)
      : mappings_(std::make_shared<Mappings>(port, context.copy_pool, context.reaper)),
        puller_(context.copy_pool, context.counters, control::TransportKind::kShm) {}

  void submit(std::shared_ptr<Job> job);
  [[nodiscard]] bool copy_now(const Share& share, TransferState& transfer) const;
  void heed_stops();
  void forget(std::uint32_t segment) { mappings_->forget(segment); }
  void close(const Status& why);

 private:
  [[nodiscard]] Status add(const std::shared_ptr<Waiting>& waiting);
  void arrived(const std::shared_ptr<Waiting>& waiting, std::uint32_t segment, const Result<View>& view);
  std::shared_ptr<Job> take(const std::shared_ptr<Waiting>& waiting) RAY_HIXL_REQUIRES(mutex_);
  void copy(const Waiting& waiting, std::shared_ptr<Job> job);
  void pull(std::shared_ptr<Job> job, const std::shared_ptr<const Copies>& copies, std::shared_ptr<const void> views);

  const std::shared_ptr<Mappings> mappings_;
  Puller puller_;
  Mutex mutex_;
  std::set<std::shared_ptr<Waiting>> waiting_ RAY_HIXL_GUARDED_BY(mutex_);
};

void ShmChannel::Impl::submit(std::shared_ptr<Job> job) {
  if (const auto prepared = std::static_pointer_cast<const Prepared>(job->share->kept.get())) {
    if (const auto views = hold(*prepared)) return pull(std::move(job), prepared->copies, views);
  }
  Result<std::vector<std::size_t>> segment_of = find_segments(*job);
  if (!segment_of.is_ok()) return job->end(segment_of.status());
  std::set<std::uint32_t> needed;
  for (const std::size_t index : *segment_of) needed.insert(job->share->segments[index].id);
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

bool ShmChannel::Impl::copy_now(const Share& share, TransferState& transfer) const {
  const auto prepared = std::static_pointer_cast<const Prepared>(share.kept.get());
  auto views = prepared ? hold(*prepared) : nullptr;
  if (!views) return false;
  CacheMover mover(std::move(views));
  return puller_.copy_now(transfer, *prepared->copies, mover);
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
  for (const std::size_t index : waiting.segment_of) {
    const control::RemoteSegment& segment = job->share->segments[index];
    if (waiting.views.at(segment.id)->length() == segment.length) continue;
    return job->end(Status(Code::kInternal, "the peer's segment has another length than the peer said"));
  }
  std::vector<Copy> copies;
  copies.reserve(job->pieces().size());
  for (std::size_t i = 0; i < job->pieces().size(); ++i) {
    const Piece& piece = job->pieces()[i];
    const control::RemoteSegment& segment = job->share->segments[waiting.segment_of[i]];
    const std::byte* const base = waiting.views.at(segment.id)->base();
    copies.push_back({piece.local, reinterpret_cast<std::uint64_t>(base + (piece.address - segment.base)), piece.length});
  }
  const auto prepared = std::make_shared<Prepared>();
  for (const auto& [id, view] : waiting.views) prepared->views.push_back(view);
  prepared->copies = puller_.cut(std::move(copies));
  if (!job->plan->once) job->share->kept.set(prepared);
  pull(std::move(job), prepared->copies, hold(*prepared));
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
bool ShmChannel::copy_now(const Share& share, TransferState& transfer) { return impl_->copy_now(share, transfer); }
void ShmChannel::heed_stops() { impl_->heed_stops(); }
void ShmChannel::close(const Status& why) { impl_->close(why); }

void ShmChannel::on_notice(const control::Frame& notice) {
  if (notice.type != control::MessageType::kSegmentRetired) return;
  const Result<control::SegmentRetired> retired = control::decode_segment_retired(notice.body);
  if (retired.is_ok()) impl_->forget(retired->id);
}

}  // namespace ray_hixl::transport::shm
