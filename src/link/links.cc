#include "link/links.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/mutex.h"
#include "link/dialer.h"

namespace ray_hixl::link {
namespace {

constexpr std::size_t kMostMet = 4096;

// Would dialling one be dialling the other? An incarnation is no secret, so it alone says nothing: a descriptor with another key or address
// must neither profit from a good one nor stand in its way.
bool same_dial(const control::EngineDescriptor& a, const control::EngineDescriptor& b) {
  return control::equal(a.key, b.key) && control::encode(a) == control::encode(b);
}

}  // namespace

struct Links::Impl : std::enable_shared_from_this<Links::Impl> {
  struct Waiter {
    Opened opened;
    net::Loop::TimerId timer = 0;
  };
  // A link on its way up. Loop thread only.
  struct Opening {
    control::EngineDescriptor peer;
    std::shared_ptr<Link> improves;  // the link that it is to replace; nobody waits for such an opening
    std::map<std::uint64_t, Waiter> waiters;
    std::shared_ptr<Link> link;  // once it is authenticated
    bool broke_off = false;      // one that was authenticated did, before it was up
  };
  using Openings = std::multimap<Incarnation, std::shared_ptr<Opening>>;
  using UpLinks = std::multimap<Incarnation, std::shared_ptr<Link>>;

  Impl(const transport::Context& the_context, const std::vector<std::unique_ptr<transport::Transport>>& the_transports)
      : context(the_context), transports(the_transports) {}

  const transport::Context& context;
  const std::vector<std::unique_ptr<transport::Transport>>& transports;

  Openings openings;              // loop thread only
  std::set<Incarnation> met;      // to which there was a link; loop thread only
  std::uint64_t next_waiter = 1;  // loop thread only

  Mutex mutex;
  UpLinks up RAY_HIXL_GUARDED_BY(mutex);
  Status closed RAY_HIXL_GUARDED_BY(mutex);  // ok until close_all

  [[nodiscard]] std::shared_ptr<Link> proved(const control::EngineDescriptor& peer) const RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] Result<std::shared_ptr<Link>> find(const control::EngineDescriptor& peer);
  [[nodiscard]] std::shared_ptr<Opening> find_opening(const control::EngineDescriptor& peer) const;
  [[nodiscard]] bool is_open(const Opening& opening) const;
  [[nodiscard]] bool remove(const Opening& opening);
  void join(const control::EngineDescriptor& peer, Deadline deadline, Opened opened);
  void start(const std::shared_ptr<Opening>& opening, Deadline deadline);
  void authenticated(const std::shared_ptr<Opening>& opening, Deadline deadline, Result<Dialed> dialed);
  void came_up(const std::shared_ptr<Opening>& opening, Deadline deadline, const Status& status);
  void finished(Opening& opening, const Status& status);
  [[nodiscard]] Result<std::shared_ptr<Link>> install(const std::shared_ptr<Link>& link);
  void improve(const control::EngineDescriptor& peer);
  void forget_lost(const Incarnation& incarnation);
  void give_up_waiting(Opening& opening, std::uint64_t id);
  void shut(const Status& why);
};

// The link that is up to whoever proved this key; null if there is none.
std::shared_ptr<Link> Links::Impl::proved(const control::EngineDescriptor& peer) const {
  const auto [first, last] = up.equal_range(peer.incarnation);
  const auto it = std::find_if(first, last, [&](const auto& entry) {
    const Link& link = *entry.second;
    return control::equal(link.peer().descriptor.key, peer.key) && !link.is_retired() && link.is_up();
  });
  return it == last ? nullptr : it->second;
}

// Not ok after close_all.
Result<std::shared_ptr<Link>> Links::Impl::find(const control::EngineDescriptor& peer) {
  const MutexLock lock(mutex);
  if (!closed.is_ok()) return closed;
  return std::shared_ptr<Link>(proved(peer));
}

std::shared_ptr<Links::Impl::Opening> Links::Impl::find_opening(const control::EngineDescriptor& peer) const {
  const auto [first, last] = openings.equal_range(peer.incarnation);
  const auto it =
      std::find_if(first, last, [&](const auto& entry) { return !entry.second->improves && same_dial(entry.second->peer, peer); });
  return it == last ? nullptr : it->second;
}

bool Links::Impl::is_open(const Opening& opening) const {
  const auto [first, last] = openings.equal_range(opening.peer.incarnation);
  return std::any_of(first, last, [&](const auto& entry) { return entry.second.get() == &opening; });
}

// False if it ended before.
bool Links::Impl::remove(const Opening& opening) {
  const auto [first, last] = openings.equal_range(opening.peer.incarnation);
  const auto it = std::find_if(first, last, [&](const auto& entry) { return entry.second.get() == &opening; });
  if (it == last) return false;
  openings.erase(it);
  return true;
}

void Links::Impl::join(const control::EngineDescriptor& peer, Deadline deadline, Opened opened) {
  Result<std::shared_ptr<Link>> link = find(peer);
  if (!link.is_ok() || *link) return opened(std::move(link));
  std::shared_ptr<Opening> opening = find_opening(peer);
  const bool first = !opening;
  if (first) {
    opening = std::make_shared<Opening>(Opening{peer, nullptr, {}, nullptr});
    openings.emplace(peer.incarnation, opening);
  }
  const std::uint64_t id = next_waiter++;
  Waiter waiter{std::move(opened)};
  waiter.timer = context.loop.at(deadline, [weak = weak_from_this(), opening, id] {
    if (const auto impl = weak.lock()) impl->give_up_waiting(*opening, id);
  });
  opening->waiters.emplace(id, std::move(waiter));
  if (first) start(opening, deadline);
}

// The opening itself may take as long as the options say, whoever waits for it.
void Links::Impl::start(const std::shared_ptr<Opening>& opening, Deadline deadline) {
  const Deadline usual = Deadline::in(seconds_to_duration(context.options.connect_timeout_s));
  control::Hello hello;
  hello.purpose = control::Purpose::kControl;
  hello.client = context.self;
  hello.server = opening->peer.incarnation;
  const Deadline later = usual.when() > deadline.when() ? usual : deadline;
  dial(
      context.loop, context.process, opening->peer, hello, later,
      [weak = weak_from_this(), opening, later](Result<Dialed> dialed) {
        if (const auto impl = weak.lock()) impl->authenticated(opening, later, std::move(dialed));
      },
      met.contains(opening->peer.incarnation) ? Met::kBefore : Met::kNever, opening->improves ? Ways::kUnixOnly : Ways::kAll);
}

void Links::Impl::authenticated(const std::shared_ptr<Opening>& opening, Deadline deadline, Result<Dialed> dialed) {
  if (!dialed.is_ok()) return finished(*opening, dialed.status());
  if (!is_open(*opening)) return;                      // closed meanwhile
  if (met.size() == kMostMet) met.erase(met.begin());  // incarnations are random: any of them
  met.insert(opening->peer.incarnation);
  Link::Callbacks callbacks;
  callbacks.ready = [weak = weak_from_this(), opening, deadline](const Status& status) {
    if (const auto impl = weak.lock()) impl->came_up(opening, deadline, status);
  };
  callbacks.gone = [weak = weak_from_this(), incarnation = opening->peer.incarnation] {
    if (const auto impl = weak.lock()) impl->forget_lost(incarnation);
  };
  callbacks.improve = [weak = weak_from_this(), peer = opening->peer] {
    if (const auto impl = weak.lock()) impl->improve(peer);
  };
  opening->link = Link::start(context, transports, opening->peer, *std::move(dialed), std::move(callbacks));
  context.loop.at(deadline, [weak = std::weak_ptr<Link>(opening->link)] {
    const auto link = weak.lock();
    if (link && !link->is_ready()) link->close(Status(Code::kConnectError, "it authenticated itself, but sent no welcome"));
  });
}

// Or did not. Who breaks off has died mostly, which shows as nobody listens any more: it is dialled once again.
void Links::Impl::came_up(const std::shared_ptr<Opening>& opening, Deadline deadline, const Status& status) {
  const bool again = status.code() == Code::kPeerGone && !opening->improves && !std::exchange(opening->broke_off, true);
  if (!again || !is_open(*opening)) return finished(*opening, status);
  opening->link = nullptr;
  start(opening, deadline);
}

// The link is up, or cannot be: tells everyone who still waits.
void Links::Impl::finished(Opening& opening, const Status& status) {
  if (!remove(opening)) return;
  const std::shared_ptr<Link> link = std::exchange(opening.link, nullptr);
  const std::shared_ptr<Link> improves = std::exchange(opening.improves, nullptr);
  // What breaks off once it was dialled is a connection that did not come up, whatever the connection itself calls that.
  const bool known = status.code() == Code::kClosed || (status.code() == Code::kPeerGone && !link);
  Result<std::shared_ptr<Link>> result =
      status.is_ok() ? install(link) : Status(known ? status.code() : Code::kConnectError, status.message());
  if (link && (!result.is_ok() || *result != link)) link->retire();
  if (improves && !improves->is_retired()) improves->not_improved();
  for (auto& [id, waiter] : std::exchange(opening.waiters, {})) {
    context.loop.cancel(waiter.timer);
    waiter.opened(result);
  }
}

// Gives the one to use from now on. There may be another one: over another address of the same engine, or one that this one is to replace.
Result<std::shared_ptr<Link>> Links::Impl::install(const std::shared_ptr<Link>& link) {
  std::shared_ptr<Link> replaced;
  {
    const MutexLock lock(mutex);
    if (!closed.is_ok()) return closed;
    replaced = proved(link->peer().descriptor);
    if (replaced && replaced->shortfalls() <= link->shortfalls()) return std::shared_ptr<Link>(replaced);
    up.emplace(link->peer().descriptor.incarnation, link);
  }
  if (replaced) replaced->retire();
  return std::shared_ptr<Link>(link);
}

// A link of this peer is used and falls short of what it could be. Transfers that it carries end on it.
void Links::Impl::improve(const control::EngineDescriptor& peer) {
  std::shared_ptr<Link> worse;
  {
    const MutexLock lock(mutex);
    if (!closed.is_ok()) return;
    worse = proved(peer);
  }
  if (!worse || worse->shortfalls() == 0) return;
  const auto opening = std::make_shared<Opening>(Opening{peer, worse, {}, nullptr});
  openings.emplace(peer.incarnation, opening);
  start(opening, Deadline::in(seconds_to_duration(context.options.connect_timeout_s)));
}

void Links::Impl::forget_lost(const Incarnation& incarnation) {
  std::vector<std::shared_ptr<Link>> lost;  // dropped after the lock
  const MutexLock lock(mutex);
  for (auto [it, last] = up.equal_range(incarnation); it != last;) {
    if (it->second->is_up()) {
      ++it;
    } else {
      lost.push_back(std::move(it->second));
      it = up.erase(it);
    }
  }
}

void Links::Impl::give_up_waiting(Opening& opening, std::uint64_t id) {
  auto node = opening.waiters.extract(id);
  if (node.empty()) return;
  node.mapped().opened(Status(Code::kConnectError, "cannot connect to the " + opening.peer.name() + " in time: it was " +
                                                       (opening.link ? "authenticated, but its engine does not answer" : "not reached") +
                                                       ". It may be stopped or overloaded; else check the address"));
}

void Links::Impl::shut(const Status& why) {
  while (!openings.empty()) {
    const std::shared_ptr<Opening> opening = openings.begin()->second;
    finished(*opening, why);
  }
  UpLinks links;
  {
    const MutexLock lock(mutex);
    links.swap(up);
  }
  for (const auto& [incarnation, link] : links) link->close(why);
}

Links::Links(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports)
    : impl_(std::make_shared<Impl>(context, transports)) {}

Links::~Links() { close_all(Status(Code::kClosed, "the engine was closed")); }

Result<std::shared_ptr<Link>> Links::find(const control::EngineDescriptor& peer) { return impl_->find(peer); }

void Links::open(const control::EngineDescriptor& peer, Deadline deadline, Opened opened) {
  Result<std::shared_ptr<Link>> link = impl_->find(peer);
  if (!link.is_ok() || *link) return opened(std::move(link));
  const bool posted = impl_->context.loop.post([impl = impl_, peer, deadline, opened] { impl->join(peer, deadline, opened); });
  if (!posted) opened(Status(Code::kClosed, "the engine was closed"));
}

void Links::close_all(const Status& why) {
  {
    const MutexLock lock(impl_->mutex);
    if (!impl_->closed.is_ok()) return;
    impl_->closed = why;
  }
  Mutex mutex;
  Condition done;
  bool shut = false;
  const auto finish = [&] {
    const MutexLock lock(mutex);
    shut = true;
    done.notify_one();
  };
  // The second task runs after the links' own closing, which the first one posts.
  const bool posted = impl_->context.loop.post([&] {
    impl_->shut(why);
    if (!impl_->context.loop.post(finish)) finish();
  });
  if (!posted) return;
  MutexLock lock(mutex);
  while (!shut) done.wait(lock);
}

}  // namespace ray_hixl::link
