#include "link/links.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include "link/dialer.h"
#include "link/peer_link.h"

namespace ray_hixl::link {

struct Links::Impl : std::enable_shared_from_this<Links::Impl> {
  struct Waiter {
    Opened opened;
    net::Loop::TimerId timer = 0;
  };
  // A link on its way up. Loop thread only.
  struct Opening {
    std::map<std::uint64_t, Waiter> waiters;
    std::shared_ptr<PeerLink> link;  // once it is authenticated
  };

  Impl(const transport::Context& the_context, const std::vector<std::unique_ptr<transport::Transport>>& the_transports)
      : context(the_context), transports(the_transports) {}

  const transport::Context& context;
  const std::vector<std::unique_ptr<transport::Transport>>& transports;

  std::map<Incarnation, Opening> openings;  // loop thread only
  std::uint64_t next_waiter = 1;            // loop thread only

  std::mutex mutex;
  std::map<Incarnation, std::shared_ptr<PeerLink>> up;  // guarded by mutex
  Status closed;                                        // guarded by mutex; ok until close_all

  [[nodiscard]] Result<std::shared_ptr<Link>> find(const Incarnation& incarnation);
  void join(const control::EngineDescriptor& peer, Deadline deadline, Opened opened);
  void start(const control::EngineDescriptor& peer, Deadline deadline);
  void authenticated(const control::EngineDescriptor& peer, Deadline deadline, Result<Dialed> dialed);
  void finished(const Incarnation& incarnation, const Status& status);
  void give_up_waiting(const control::EngineDescriptor& peer, std::uint64_t id);
  void shut(const Status& why);
};

// The link that is up; null if there is none; not ok after close_all.
Result<std::shared_ptr<Link>> Links::Impl::find(const Incarnation& incarnation) {
  const std::lock_guard lock(mutex);
  if (!closed.is_ok()) return closed;
  const auto it = up.find(incarnation);
  if (it == up.end() || !it->second->state().is_ok()) return std::shared_ptr<Link>();
  return std::shared_ptr<Link>(it->second);
}

void Links::Impl::join(const control::EngineDescriptor& peer, Deadline deadline, Opened opened) {
  Result<std::shared_ptr<Link>> link = find(peer.incarnation);
  if (!link.is_ok() || *link) return opened(std::move(link));
  const bool first = !openings.contains(peer.incarnation);
  const std::uint64_t id = next_waiter++;
  Waiter waiter{std::move(opened)};
  waiter.timer = context.loop.at(deadline, [weak = weak_from_this(), peer, id] {
    if (const auto impl = weak.lock()) impl->give_up_waiting(peer, id);
  });
  openings[peer.incarnation].waiters.emplace(id, std::move(waiter));
  if (first) start(peer, deadline);
}

// The opening itself may take as long as the options say, whoever waits for it.
void Links::Impl::start(const control::EngineDescriptor& peer, Deadline deadline) {
  const Deadline usual = Deadline::in(seconds_to_duration(context.options.connect_timeout_s));
  control::Hello hello;
  hello.purpose = control::Purpose::kControl;
  hello.client = context.self;
  hello.server = peer.incarnation;
  const Deadline later = usual.when() > deadline.when() ? usual : deadline;
  dial(context.loop, context.process, peer, hello, later, [weak = weak_from_this(), peer, later](Result<Dialed> dialed) {
    if (const auto impl = weak.lock()) impl->authenticated(peer, later, std::move(dialed));
  });
}

void Links::Impl::authenticated(const control::EngineDescriptor& peer, Deadline deadline, Result<Dialed> dialed) {
  if (!dialed.is_ok()) return finished(peer.incarnation, dialed.status());
  const auto it = openings.find(peer.incarnation);
  if (it == openings.end()) return;  // closed meanwhile
  it->second.link = PeerLink::start(
      context, transports, peer, *std::move(dialed),
      [weak = weak_from_this(), incarnation = peer.incarnation](const Status& status) {
        if (const auto impl = weak.lock()) impl->finished(incarnation, status);
      },
      [weak = weak_from_this(), incarnation = peer.incarnation] {
        const auto impl = weak.lock();
        if (!impl) return;
        const std::lock_guard lock(impl->mutex);
        impl->up.erase(incarnation);
      });
  context.loop.at(deadline, [weak = std::weak_ptr<PeerLink>(it->second.link)] {
    const auto link = weak.lock();
    if (link && !link->is_ready()) link->close(Status(Code::kConnectError, "it authenticated itself, but sent no welcome"));
  });
}

// The link is up, or cannot be: tells everyone who still waits.
void Links::Impl::finished(const Incarnation& incarnation, const Status& status) {
  auto node = openings.extract(incarnation);
  if (node.empty()) return;
  Opening& opening = node.mapped();
  Result<std::shared_ptr<Link>> result =
      status.is_ok() ? Result<std::shared_ptr<Link>>(opening.link)
                     : Status(status.code() == Code::kClosed ? Code::kClosed : Code::kConnectError, status.message());
  if (status.is_ok()) {
    const std::lock_guard lock(mutex);
    if (closed.is_ok()) {
      up[incarnation] = opening.link;
    } else {
      result = closed;
    }
  }
  if (!result.is_ok() && opening.link) opening.link->close(result.status());
  for (auto& [id, waiter] : opening.waiters) {
    context.loop.cancel(waiter.timer);
    waiter.opened(result);
  }
}

void Links::Impl::give_up_waiting(const control::EngineDescriptor& peer, std::uint64_t id) {
  const auto it = openings.find(peer.incarnation);
  if (it == openings.end()) return;
  auto node = it->second.waiters.extract(id);
  if (node.empty()) return;
  node.mapped().opened(Status(Code::kConnectError, "cannot connect to the " + peer.name() + " in time: it was " +
                                                       (it->second.link ? "authenticated, but its engine does not answer" : "not reached") +
                                                       ". It may be stopped or overloaded; else check the address"));
}

void Links::Impl::shut(const Status& why) {
  while (!openings.empty()) finished(openings.begin()->first, why);
  std::map<Incarnation, std::shared_ptr<PeerLink>> links;
  {
    const std::lock_guard lock(mutex);
    links.swap(up);
  }
  for (const auto& [incarnation, link] : links) link->close(why);
}

Links::Links(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports)
    : impl_(std::make_shared<Impl>(context, transports)) {}

Links::~Links() { close_all(Status(Code::kClosed, "the engine was closed")); }

void Links::open(const control::EngineDescriptor& peer, Deadline deadline, Opened opened) {
  Result<std::shared_ptr<Link>> link = impl_->find(peer.incarnation);
  if (!link.is_ok() || *link) return opened(std::move(link));
  const bool posted = impl_->context.loop.post([impl = impl_, peer, deadline, opened] { impl->join(peer, deadline, opened); });
  if (!posted) opened(Status(Code::kClosed, "the engine was closed"));
}

void Links::close_all(const Status& why) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (!impl_->closed.is_ok()) return;
    impl_->closed = why;
  }
  std::mutex mutex;
  std::condition_variable done;
  bool shut = false;
  const auto finish = [&] {
    const std::lock_guard lock(mutex);
    shut = true;
    done.notify_one();
  };
  // The second task runs after the links' own closing, which the first one posts.
  const bool posted = impl_->context.loop.post([&] {
    impl_->shut(why);
    if (!impl_->context.loop.post(finish)) finish();
  });
  if (!posted) return;
  std::unique_lock lock(mutex);
  done.wait(lock, [&] { return shut; });
}

}  // namespace ray_hixl::link
