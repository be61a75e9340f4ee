#include "link/greeter.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "net/socket.h"

namespace ray_hixl::link {
namespace {

constexpr std::size_t kMostAcceptsATurn = 32;           // then those who are already here have their turn
constexpr std::chrono::milliseconds kAcceptPause{100};  // when there are no descriptors, and no stranger has one, or no watch

}  // namespace

std::size_t most_greetings() {
  constexpr rlim_t kLeast = 16;
  constexpr rlim_t kMost = 1024;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kLeast;
  return static_cast<std::size_t>(std::clamp(limit.rlim_cur / 4, kLeast, kMost));
}

Greeter::Greeter(const transport::Context& context, const control::EngineDescriptor& self, Admit admit)
    : context_(context), self_(self), admit_(std::move(admit)), most_(most_greetings()) {}

void Greeter::watch(const Fd& listener) {
  const Status watched = context_.loop.watch(listener.get(), EPOLLIN, [weak = weak_from_this(), &listener](std::uint32_t) {
    if (const auto greeter = weak.lock()) greeter->accept_some(listener);
  });
  if (watched.is_ok()) return listeners_.push_back(&listener);
  if (!std::exchange(told_, true)) {
    log(LogLevel::kWarning, "an engine hears of no new connections for now, and tries again: " + watched.message());
  }
  watch_later(listener);
}

void Greeter::accept_some(const Fd& listener) {
  for (std::size_t accepted = 0; accepted < kMostAcceptsATurn && !closed_; ++accepted) {
    Result<std::optional<Fd>> socket = net::accept_connection(listener);
    if (!socket.is_ok()) {
      if (!make_room()) return pause(listener);
      continue;
    }
    if (!*socket) return;
    if (greetings_.size() >= most_) (void)make_room();
    greet(**std::move(socket));
  }
}

// The waiting connection would wake the loop again and again.
void Greeter::pause(const Fd& listener) {
  context_.loop.unwatch(listener.get());
  std::erase(listeners_, &listener);
  watch_later(listener);
}

void Greeter::watch_later(const Fd& listener) {
  context_.loop.at(Deadline::in(kAcceptPause), [weak = weak_from_this(), &listener] {
    const auto greeter = weak.lock();
    if (greeter && !greeter->closed_) greeter->watch(listener);
  });
}

// False if there is no stranger to send away.
bool Greeter::make_room() {
  const auto oldest = [this](auto may_go) { return std::ranges::find_if(greetings_, may_go); };
  auto it = oldest([](const auto& entry) { return entry.second.handshake.state() == control::Handshake::State::kAwaitHello; });
  if (it == greetings_.end()) it = oldest([](const auto& entry) { return !entry.second.finishing; });
  if (it == greetings_.end()) return false;
  refuse(it->first);
  return true;
}

void Greeter::greet(Fd socket) {
  const std::uint64_t id = next_id_++;
  Greeting& greeting = greetings_.try_emplace(id, control::Handshake::server(context_.self, self_.key)).first->second;
  const auto weak = weak_from_this();
  greeting.timer = context_.loop.at(Deadline::in(seconds_to_duration(context_.options.connect_timeout_s)), [weak, id] {
    if (const auto greeter = weak.lock()) greeter->refuse(id);
  });
  net::Connection::Callbacks callbacks;
  callbacks.on_bytes = [weak, id](std::span<const std::byte> bytes, const net::Arrival&) {
    const auto greeter = weak.lock();
    return greeter ? greeter->on_bytes(id, bytes) : bytes.size();
  };
  callbacks.on_closed = [weak, id](const Status&) {
    if (const auto greeter = weak.lock()) greeter->refuse(id);
  };
  greeting.connection.emplace(context_.loop, std::move(socket), control::Handshake::kLongest, std::move(callbacks));
}

std::size_t Greeter::on_bytes(std::uint64_t id, std::span<const std::byte> bytes) {
  const auto it = greetings_.find(id);
  if (it == greetings_.end()) return bytes.size();
  Greeting& greeting = it->second;
  const std::size_t used = greeting.handshake.on_bytes(bytes);
  if (auto output = greeting.handshake.take_output(); !output.empty()) greeting.connection->send(std::move(output));
  const auto state = greeting.handshake.state();
  if (greeting.finishing || (state != control::Handshake::State::kDone && state != control::Handshake::State::kFailed)) return used;
  greeting.finishing = true;
  greeting.connection->pause_reading();               // what follows is for whoever gets the connection
  context_.loop.post([weak = weak_from_this(), id] {  // the connection is in use up the stack
    if (const auto greeter = weak.lock()) greeter->finish(id);
  });
  return used;
}

void Greeter::finish(std::uint64_t id) {
  const auto it = greetings_.find(id);
  if (it == greetings_.end()) return;
  Greeting& greeting = it->second;
  if (greeting.handshake.state() != control::Handshake::State::kDone || !greeting.connection->is_open()) return refuse(id);
  const control::Hello hello = greeting.handshake.hello();
  auto [socket, received] = greeting.connection->detach();
  forget(it);
  admit_(hello, std::move(socket), std::move(received));
}

void Greeter::refuse(std::uint64_t id) {
  const auto it = greetings_.find(id);
  if (it == greetings_.end()) return;
  context_.counters.handshakes_refused.fetch_add(1, std::memory_order_relaxed);
  forget(it);
}

void Greeter::forget(Greetings::iterator greeting) {
  context_.loop.cancel(greeting->second.timer);
  greetings_.erase(greeting);
}

void Greeter::close() {
  closed_ = true;
  for (const Fd* listener : listeners_) context_.loop.unwatch(listener->get());
  listeners_.clear();
  while (!greetings_.empty()) forget(greetings_.begin());
}

}  // namespace ray_hixl::link
