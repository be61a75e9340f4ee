#include "transport/stream/channel.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "transport/fetched.h"
#include "transport/stream/read_request.h"
#include "transport/stream/reader.h"

namespace ray_hixl::transport::stream {
namespace {

constexpr std::size_t kMostConnections = 4;  // to one peer

}  // namespace

// Loop thread only.
struct StreamChannel::Impl : std::enable_shared_from_this<StreamChannel::Impl> {
  // Of one job.
  struct Queued {
    std::shared_ptr<const ReadRequest> request;
    bool may_share = false;  // a request with others
    [[nodiscard]] const std::shared_ptr<Job>& job() const { return request->jobs().front(); }
  };

  Impl(const Context& the_context, const Carrier& the_carrier, Port& the_port)
      : context(the_context), carrier(the_carrier), port(the_port) {}

  const Context& context;
  const Carrier& carrier;
  Port& port;
  std::deque<Queued> queue;
  std::vector<std::shared_ptr<Reader>> busy;
  std::vector<std::shared_ptr<Reader>> idle;
  std::size_t opening = 0;
  Status closed;  // ok until close()

  void offer(const std::shared_ptr<Reader>& reader, bool reused);
  void enqueue(Queued queued);
  void put_back(const std::shared_ptr<const ReadRequest>& request, bool may_share);
  [[nodiscard]] bool drop_stopped();
  [[nodiscard]] std::shared_ptr<const ReadRequest> take();
  void pump();
  void run(const std::shared_ptr<Reader>& reader, std::shared_ptr<const ReadRequest> request, bool reused);
  void ended(const std::shared_ptr<Reader>& reader, const std::shared_ptr<const ReadRequest>& request, bool reused, const Reader::End& end);
  void open(const std::shared_ptr<Job>& job);
  void opened(Fd socket);
  void not_opened(const std::shared_ptr<Job>& job, const Status& why);
  void count(const Job& job) const;
  void heed_stops();
  void close(const Status& why);
};

// To who waits longest; it is idle only if nobody does.
void StreamChannel::Impl::offer(const std::shared_ptr<Reader>& reader, bool reused) {
  if (auto request = take()) {
    run(reader, std::move(request), reused);
  } else {
    idle.push_back(reader);
  }
}

// Is nobody left?
bool StreamChannel::Impl::drop_stopped() {
  while (!queue.empty() && queue.front().job()->transfer->stopping()) {
    const std::shared_ptr<Job> job = queue.front().job();
    queue.pop_front();
    job->end(job->transfer->stop_reason());
  }
  return queue.empty();
}

// What is asked for next: who waits longest, and small ones right behind. Null if nobody waits.
std::shared_ptr<const ReadRequest> StreamChannel::Impl::take() {
  if (drop_stopped()) return nullptr;
  const std::shared_ptr<const ReadRequest> first = queue.front().request;
  bool may_share = queue.front().may_share;
  std::vector<std::shared_ptr<Job>> jobs;
  std::uint64_t bytes = 0;
  std::size_t pieces = 0;
  do {
    jobs.push_back(queue.front().job());
    bytes += queue.front().request->bytes();
    pieces += queue.front().request->pieces().size();
    queue.pop_front();
    may_share = may_share && !drop_stopped() && queue.front().may_share &&
                bytes + queue.front().request->bytes() <= ReadRequest::kMostBytesTogether &&
                pieces + queue.front().request->pieces().size() <= ReadRequest::kMostPiecesTogether;
  } while (may_share);
  return jobs.size() == 1 ? first : std::make_shared<const ReadRequest>(std::move(jobs));
}

// Who was stopped before he came here was not there to be told (heed_stops).
void StreamChannel::Impl::enqueue(Queued queued) {
  if (!closed.is_ok()) return queued.job()->end(closed);
  if (queued.job()->transfer->stopping()) return queued.job()->end(queued.job()->transfer->stop_reason());
  queue.push_back(std::move(queued));
  pump();
}

// Each of its jobs is asked for anew, before all others, unless it was stopped.
void StreamChannel::Impl::put_back(const std::shared_ptr<const ReadRequest>& request, bool may_share) {
  const std::vector<std::shared_ptr<Job>>& jobs = request->jobs();
  for (auto job = jobs.rbegin(); job != jobs.rend(); ++job) {
    if ((*job)->transfer->stopping()) {
      (*job)->end((*job)->transfer->stop_reason());
    } else {
      queue.push_front({jobs.size() == 1 ? request : std::make_shared<const ReadRequest>(std::vector{*job}), may_share});
    }
  }
}

void StreamChannel::Impl::pump() {
  while (!queue.empty() && !idle.empty()) {
    const std::shared_ptr<Reader> reader = std::move(idle.back());
    idle.pop_back();
    offer(reader, true);
  }
  while (opening < queue.size() && busy.size() + idle.size() + opening < kMostConnections) open(queue[opening].job());
}

void StreamChannel::Impl::run(const std::shared_ptr<Reader>& reader, std::shared_ptr<const ReadRequest> request, bool reused) {
  busy.push_back(reader);
  reader->start(
      request, [self = shared_from_this(), reader, request, reused](const Reader::End& end) { self->ended(reader, request, reused, end); });
}

void StreamChannel::Impl::ended(const std::shared_ptr<Reader>& reader, const std::shared_ptr<const ReadRequest>& request, bool reused,
                                const Reader::End& end) {
  std::erase(busy, reader);
  // The owner may have closed connections that were idle for long: nothing was lost by that. Each try uses one of them up.
  const bool again = reused && end.untouched && !end.reusable && closed.is_ok();
  // Something is wrong with one of several: the others must not suffer for it.
  const bool apart = request->jobs().size() > 1 && !end.status.is_ok() && end.status.code() != Code::kPeerGone && closed.is_ok();
  if (again || apart) put_back(request, again && !apart);
  if (end.reusable && closed.is_ok()) offer(reader, true);
  pump();
  if (again || apart) return;
  if (end.inflow) return end.inflow->end(end.status);
  for (const auto& job : request->jobs()) {
    if (end.status.is_ok() && request->jobs().size() > 1) count(*job);
    job->end(end.status);  // last: it wakes threads that submit
  }
}

void StreamChannel::Impl::count(const Job& job) const {
  std::uint64_t bytes = 0;
  for (const Piece& piece : job.pieces()) bytes += piece.length;
  count_fetched(*job.transfer, context.counters, carrier.kind, bytes);
}

// For this job's sake, though another one may be the first to use it.
void StreamChannel::Impl::open(const std::shared_ptr<Job>& job) {
  ++opening;
  const Deadline deadline = Deadline::in(seconds_to_duration(context.options.connect_timeout_s)).sooner(job->transfer->deadline());
  port.open_connection(carrier.kind, deadline, [self = shared_from_this(), weak = std::weak_ptr(job)](Result<Fd> socket) {
    --self->opening;
    if (!self->closed.is_ok()) return;
    if (socket.is_ok()) {
      self->opened(*std::move(socket));
    } else {
      self->not_opened(weak.lock(), socket.status());
    }
  });
}

void StreamChannel::Impl::opened(Fd socket) {
  offer(std::make_shared<Reader>(context, carrier, std::move(socket)), false);
  pump();
}

// Fails the job it was opened for, if that still waits; the others try for themselves.
void StreamChannel::Impl::not_opened(const std::shared_ptr<Job>& job, const Status& why) {
  const auto waiting = std::ranges::find_if(queue, [&](const Queued& queued) { return queued.job() == job; });
  if (job && waiting != queue.end()) {
    queue.erase(waiting);
    job->end(why);
  }
  pump();
}

void StreamChannel::Impl::heed_stops() {
  std::deque<Queued> waiting;
  waiting.swap(queue);
  for (Queued& queued : waiting) {
    if (queued.job()->transfer->stopping()) {
      queued.job()->end(queued.job()->transfer->stop_reason());
    } else {
      queue.push_back(std::move(queued));
    }
  }
  const auto readers = busy;  // of which those that end take themselves away
  for (const auto& reader : readers) {
    const Status stopped = reader->request() ? reader->request()->stopped() : Status::ok();
    if (!stopped.is_ok()) reader->abandon(stopped);
  }
}

void StreamChannel::Impl::close(const Status& why) {
  if (!closed.is_ok()) return;
  closed = why;
  for (const Queued& queued : std::exchange(queue, {})) queued.job()->end(why);
  const auto readers = busy;
  for (const auto& reader : readers) reader->abandon(why);
  idle.clear();
}

StreamChannel::StreamChannel(const Context& context, const Carrier& carrier, Port& port)
    : context_(context), carrier_(carrier), impl_(std::make_shared<Impl>(context, carrier, port)) {}

StreamChannel::~StreamChannel() { close(Status(Code::kClosed, "the link was closed")); }

void StreamChannel::submit(std::shared_ptr<Job> job) {
  auto request = std::make_shared<const ReadRequest>(std::vector{job});
  if (job->pieces().size() > kFewPieces) request = context_.reaper.off_loop(std::move(request));
  if (!request->status().is_ok()) return job->end(request->status());
  const bool may_share = !carrier_.open_inflow;
  const bool posted = context_.loop.post([impl = impl_, request = std::move(request), may_share] { impl->enqueue({request, may_share}); });
  if (!posted) job->end(Status(Code::kClosed, "the engine was closed"));
}

void StreamChannel::heed_stops() {
  context_.loop.post([impl = impl_] { impl->heed_stops(); });
}

void StreamChannel::close(const Status& why) {
  context_.loop.post([impl = impl_, why] { impl->close(why); });
}

}  // namespace ray_hixl::transport::stream
