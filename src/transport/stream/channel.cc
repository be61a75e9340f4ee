#include "transport/stream/channel.h"

#include <algorithm>
#include <deque>
#include <list>
#include <utility>

#include "transport/stream/reader.h"

namespace ray_hixl::transport::stream {
namespace {

constexpr std::size_t kMostConnections = 4;  // to one peer

void end_job(const std::shared_ptr<Job>& job, const Status& status) { std::exchange(job->done, nullptr)(status); }

}  // namespace

// Loop thread only.
struct StreamChannel::Impl : std::enable_shared_from_this<StreamChannel::Impl> {
  struct Queued {
    std::shared_ptr<Job> job;
    std::shared_ptr<const ReadRequest> request;
    bool retried = false;  // its connection turned out dead once
  };

  Impl(const Context& the_context, Port& the_port) : context(the_context), port(the_port) {}

  const Context& context;
  Port& port;
  std::deque<Queued> queue;
  std::list<Reader> idle;
  std::list<Reader> busy;
  std::size_t opening = 0;
  Status closed;  // ok until close()

  void enqueue(std::shared_ptr<Job> job, std::shared_ptr<const ReadRequest> request);
  void pump();
  void run(std::list<Reader>::iterator reader, Queued queued, bool reused);
  void ended(std::list<Reader>::iterator reader, Queued queued, bool reused, const Reader::End& end);
  void open(const std::shared_ptr<Job>& job);
  void opened(Fd socket);
  void not_opened(const std::shared_ptr<Job>& job, const Status& why);
  void heed_stops();
  void close(const Status& why);
};

void StreamChannel::Impl::enqueue(std::shared_ptr<Job> job, std::shared_ptr<const ReadRequest> request) {
  if (!closed.is_ok()) return end_job(job, closed);
  queue.push_back({std::move(job), std::move(request)});
  pump();
}

void StreamChannel::Impl::pump() {
  while (!queue.empty() && !idle.empty()) {
    Queued queued = std::move(queue.front());
    queue.pop_front();
    busy.splice(busy.begin(), idle, idle.begin());
    run(busy.begin(), std::move(queued), true);
  }
  while (opening < queue.size() && busy.size() + idle.size() + opening < kMostConnections) open(queue[opening].job);
}

void StreamChannel::Impl::run(std::list<Reader>::iterator reader, Queued queued, bool reused) {
  if (queued.job->transfer->stopping()) {
    idle.splice(idle.begin(), busy, reader);
    return end_job(queued.job, queued.job->transfer->stop_reason());
  }
  const auto job = queued.job;
  const auto request = queued.request;
  reader->start(job, request, [self = shared_from_this(), reader, queued = std::move(queued), reused](const Reader::End& end) {
    self->ended(reader, queued, reused, end);
  });
}

void StreamChannel::Impl::ended(std::list<Reader>::iterator reader, Queued queued, bool reused, const Reader::End& end) {
  if (end.reusable && closed.is_ok()) {
    idle.splice(idle.begin(), busy, reader);
  } else {
    // The reader's own method is running.
    auto dead = std::make_shared<std::list<Reader>>();
    dead->splice(dead->begin(), busy, reader);
    context.loop.post([dead] { dead->clear(); });
  }
  // The owner may have closed a connection that was idle for long: nothing was lost by that.
  if (reused && end.untouched && !end.reusable && !queued.retried && closed.is_ok() && !queued.job->transfer->stopping()) {
    queued.retried = true;
    queue.push_front(std::move(queued));
  } else {
    end_job(queued.job, end.status);
  }
  pump();
}

// For this job's sake, though another one may be the first to use it.
void StreamChannel::Impl::open(const std::shared_ptr<Job>& job) {
  ++opening;
  const Deadline deadline = Deadline::in(seconds_to_duration(context.options.connect_timeout_s)).sooner(job->transfer->deadline());
  port.open_connection(control::TransportKind::kStream, deadline,
                       [self = shared_from_this(), weak = std::weak_ptr(job)](Result<Fd> socket) {
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
  if (queue.empty()) {
    idle.emplace_back(context, std::move(socket));
    return;
  }
  Queued queued = std::move(queue.front());
  queue.pop_front();
  busy.emplace_front(context, std::move(socket));
  run(busy.begin(), std::move(queued), false);
  pump();
}

// Fails the job it was opened for, if that still waits; the others try for themselves.
void StreamChannel::Impl::not_opened(const std::shared_ptr<Job>& job, const Status& why) {
  const auto waiting = std::ranges::find(queue, job, &Queued::job);
  if (job && waiting != queue.end()) {
    queue.erase(waiting);
    end_job(job, why);
  }
  pump();
}

void StreamChannel::Impl::heed_stops() {
  std::deque<Queued> waiting;
  waiting.swap(queue);
  for (Queued& queued : waiting) {
    if (queued.job->transfer->stopping()) {
      end_job(queued.job, queued.job->transfer->stop_reason());
    } else {
      queue.push_back(std::move(queued));
    }
  }
  for (auto reader = busy.begin(); reader != busy.end();) {
    const auto next = std::next(reader);
    if (const auto job = reader->job(); job && job->transfer->stopping()) reader->abandon(job->transfer->stop_reason());
    reader = next;
  }
}

void StreamChannel::Impl::close(const Status& why) {
  if (!closed.is_ok()) return;
  closed = why;
  for (const Queued& queued : std::exchange(queue, {})) end_job(queued.job, why);
  while (!busy.empty() && busy.front().job()) busy.front().abandon(why);
  idle.clear();
}

StreamChannel::StreamChannel(const Context& context, Port& port) : context_(context), impl_(std::make_shared<Impl>(context, port)) {}

StreamChannel::~StreamChannel() { close(Status(Code::kClosed, "the link was closed")); }

void StreamChannel::submit(std::shared_ptr<Job> job) {
  auto request = std::make_shared<const ReadRequest>(*job);
  if (job->pieces.size() > kFewPieces) request = context_.reaper.off_loop(std::move(request));
  if (!request->status.is_ok()) return end_job(job, request->status);
  const bool posted = context_.loop.post([impl = impl_, job, request = std::move(request)] { impl->enqueue(job, request); });
  if (!posted) end_job(job, Status(Code::kClosed, "the engine was closed"));
}

void StreamChannel::heed_stops() {
  context_.loop.post([impl = impl_] { impl->heed_stops(); });
}

void StreamChannel::close(const Status& why) {
  context_.loop.post([impl = impl_, why] { impl->close(why); });
}

}  // namespace ray_hixl::transport::stream
