#include "transport/stream/channel.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "transport/stream/reader.h"

namespace ray_hixl::transport::stream {
namespace {

constexpr std::size_t kMostConnections = 4;  // to one peer

}  // namespace

// Loop thread only.
struct StreamChannel::Impl : std::enable_shared_from_this<StreamChannel::Impl> {
  struct Queued {
    std::shared_ptr<Job> job;
    std::shared_ptr<const ReadRequest> request;
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
  void pump();
  void run(const std::shared_ptr<Reader>& reader, Queued queued, bool reused);
  void ended(const std::shared_ptr<Reader>& reader, const Queued& queued, bool reused, const Reader::End& end);
  void open(const std::shared_ptr<Job>& job);
  void opened(Fd socket);
  void not_opened(const std::shared_ptr<Job>& job, const Status& why);
  void heed_stops();
  void close(const Status& why);
};

// To who waits longest; it is idle only if nobody does.
void StreamChannel::Impl::offer(const std::shared_ptr<Reader>& reader, bool reused) {
  while (!queue.empty()) {
    Queued queued = std::move(queue.front());
    queue.pop_front();
    if (!queued.job->transfer->stopping()) return run(reader, std::move(queued), reused);
    queued.job->end(queued.job->transfer->stop_reason());
  }
  idle.push_back(reader);
}

// Who was stopped before he came here was not there to be told (heed_stops).
void StreamChannel::Impl::enqueue(Queued queued) {
  if (!closed.is_ok()) return queued.job->end(closed);
  if (queued.job->transfer->stopping()) return queued.job->end(queued.job->transfer->stop_reason());
  queue.push_back(std::move(queued));
  pump();
}

void StreamChannel::Impl::pump() {
  while (!queue.empty() && !idle.empty()) {
    const std::shared_ptr<Reader> reader = std::move(idle.back());
    idle.pop_back();
    offer(reader, true);
  }
  while (opening < queue.size() && busy.size() + idle.size() + opening < kMostConnections) open(queue[opening].job);
}

void StreamChannel::Impl::run(const std::shared_ptr<Reader>& reader, Queued queued, bool reused) {
  busy.push_back(reader);
  const auto job = queued.job;
  const auto request = queued.request;
  reader->start(job, request, [self = shared_from_this(), reader, queued = std::move(queued), reused](const Reader::End& end) {
    self->ended(reader, queued, reused, end);
  });
}

void StreamChannel::Impl::ended(const std::shared_ptr<Reader>& reader, const Queued& queued, bool reused, const Reader::End& end) {
  std::erase(busy, reader);
  // The owner may have closed connections that were idle for long: nothing was lost by that. Each try uses one of them up.
  const bool again = reused && end.untouched && !end.reusable && closed.is_ok() && !queued.job->transfer->stopping();
  if (again) queue.push_front(queued);
  if (end.reusable && closed.is_ok()) offer(reader, true);
  pump();
  if (again) return;
  if (end.inflow) return end.inflow->end(end.status);
  queued.job->end(end.status);  // last: it wakes threads that submit
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
  const auto waiting = std::ranges::find(queue, job, &Queued::job);
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
    if (queued.job->transfer->stopping()) {
      queued.job->end(queued.job->transfer->stop_reason());
    } else {
      queue.push_back(std::move(queued));
    }
  }
  const auto readers = busy;  // of which those that end take themselves away
  for (const auto& reader : readers) {
    if (const auto job = reader->job(); job && job->transfer->stopping()) reader->abandon(job->transfer->stop_reason());
  }
}

void StreamChannel::Impl::close(const Status& why) {
  if (!closed.is_ok()) return;
  closed = why;
  for (const Queued& queued : std::exchange(queue, {})) queued.job->end(why);
  const auto readers = busy;
  for (const auto& reader : readers) reader->abandon(why);
  idle.clear();
}

StreamChannel::StreamChannel(const Context& context, const Carrier& carrier, Port& port)
    : context_(context), carrier_(carrier), impl_(std::make_shared<Impl>(context, carrier, port)) {}

StreamChannel::~StreamChannel() { close(Status(Code::kClosed, "the link was closed")); }

void StreamChannel::submit(std::shared_ptr<Job> job) {
  auto request = std::make_shared<const ReadRequest>(*job);
  if (job->pieces.size() > kFewPieces) request = context_.reaper.off_loop(std::move(request));
  if (!request->status.is_ok()) return job->end(request->status);
  const bool posted = context_.loop.post([impl = impl_, job, request = std::move(request)] { impl->enqueue({job, request}); });
  if (!posted) job->end(Status(Code::kClosed, "the engine was closed"));
}

void StreamChannel::heed_stops() {
  context_.loop.post([impl = impl_] { impl->heed_stops(); });
}

void StreamChannel::close(const Status& why) {
  context_.loop.post([impl = impl_, why] { impl->close(why); });
}

}  // namespace ray_hixl::transport::stream
