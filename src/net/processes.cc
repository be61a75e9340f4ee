#include "net/processes.h"

#include <sys/epoll.h>

#include <utility>

#include "net/socket.h"

namespace ray_hixl::net {

struct WatchedProcess::State : std::enable_shared_from_this<State> {
  State(Loop& the_loop, ProcessWatch the_watch) : loop(the_loop), watch(std::move(the_watch)) {}

  Loop& loop;
  ProcessWatch watch;
  // Loop thread only.
  bool watching = false;
  std::map<std::uint64_t, std::function<void()>> callbacks;  // by subscription
  std::uint64_t next = 1;

  Status start();
  void died();
  void stop();
};

Status WatchedProcess::State::start() {
  Status status = loop.watch(watch.fd(), EPOLLIN, [weak = weak_from_this()](std::uint32_t) {
    if (const auto state = weak.lock()) state->died();
  });
  watching = status.is_ok();
  return status;
}

// Each callback may end its own subscription and others.
void WatchedProcess::State::died() {
  const auto self = shared_from_this();
  stop();
  while (!callbacks.empty()) {
    const auto node = callbacks.extract(callbacks.begin());
    node.mapped()();
  }
}

void WatchedProcess::State::stop() {
  if (std::exchange(watching, false)) loop.unwatch(watch.fd());
}

WatchedProcess::WatchedProcess(Loop& loop, std::uint32_t pid, ProcessWatch watch)
    : loop_(loop), pid_(pid), state_(std::make_shared<State>(loop, std::move(watch))) {}

Status WatchedProcess::start() { return state_->start(); }

WatchedProcess::~WatchedProcess() {
  if (loop_.on_loop()) {
    state_->stop();
  } else {
    loop_.post([state = state_] { state->stop(); });  // the descriptor stays open until then
  }
}

bool WatchedProcess::alive() const { return state_->watch.alive(); }

WatchedProcess::Subscription WatchedProcess::on_death(std::function<void()> died) {
  const std::uint64_t id = state_->next++;
  state_->callbacks.emplace(id, std::move(died));
  if (!state_->watching) {  // it ended before
    loop_.post([weak = std::weak_ptr(state_)] {
      if (const auto state = weak.lock()) state->died();
    });
  }
  return {static_cast<const void*>(state_.get()), [weak = std::weak_ptr(state_), id](const void*) {
            if (const auto state = weak.lock()) state->callbacks.erase(id);
          }};
}

Result<std::shared_ptr<WatchedProcess>> Processes::watch(std::uint32_t pid) { return share(pid, ProcessWatch::open(pid)); }

Result<std::shared_ptr<WatchedProcess>> Processes::watch_peer(const Fd& socket) {
  const Result<PeerProcess> peer = peer_process(socket);
  if (!peer.is_ok()) return peer.status();
  if (peer->pid == 0) return Status(Code::kNotAvailable, "the peer's process is in a pid namespace that this one does not see");
  return share(peer->pid, ProcessWatch::open_peer(socket, peer->pid));
}

// Two processes that are alive have two pids, so one that is alive is the known one if that is alive, too.
Result<std::shared_ptr<WatchedProcess>> Processes::share(std::uint32_t pid, Result<ProcessWatch> watch) {
  if (!watch.is_ok()) return watch.status();
  if (!watch->alive()) return Status(Code::kPeerGone, "process " + std::to_string(pid) + " has ended");
  std::erase_if(known_, [](const auto& known) { return known.second.expired(); });
  std::weak_ptr<WatchedProcess>& known = known_[pid];
  if (const auto process = known.lock(); process && process->alive()) return process;
  auto process = std::make_shared<WatchedProcess>(loop_, pid, *std::move(watch));
  const Status started = process->start();  // fails where the kernel has no memory for a watch, or the user has too many
  if (!started.is_ok()) return Status(Code::kOutOfMemory, started.message());
  known = process;
  return process;
}

}  // namespace ray_hixl::net
