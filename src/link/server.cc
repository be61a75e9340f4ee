#include "link/server.h"

#include <sys/epoll.h>

#include <map>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "base/random.h"
#include "control/handshake.h"
#include "link/session.h"
#include "net/connection.h"
#include "net/socket.h"

namespace ray_hixl::link {
namespace {

constexpr std::size_t kMostGreetings = 1024;
constexpr std::chrono::milliseconds kAcceptPause{100};  // when there are no file descriptors left

std::string random_name() {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::array<std::byte, 16> random{};
  fill_random(random);
  std::string name = "ray-hixl-";
  for (const std::byte byte : random) {
    name += kDigits[std::to_integer<unsigned>(byte) >> 4];
    name += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return name;
}

}  // namespace

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  // A connection whose handshake is not finished.
  struct Greeting {
    explicit Greeting(control::Handshake&& the_handshake) : handshake(std::move(the_handshake)) {}
    control::Handshake handshake;
    std::optional<net::Connection> connection;
    net::Loop::TimerId timer = 0;
    bool finishing = false;
  };

  Impl(const transport::Context& the_context, const std::vector<std::unique_ptr<transport::Transport>>& the_transports)
      : context(the_context), transports(the_transports) {}

  const transport::Context& context;
  const std::vector<std::unique_ptr<transport::Transport>>& transports;
  control::EngineDescriptor descriptor;
  Fd unix_listener;
  Fd tcp_listener;

  // Loop thread only.
  std::map<std::uint64_t, Greeting> greetings;
  std::map<std::uint64_t, std::unique_ptr<Session>> sessions;
  std::uint64_t next_id = 1;
  bool closed = false;

  Mutex closing;  // serialises close()
  bool close_began RAY_HIXL_GUARDED_BY(closing) = false;

  [[nodiscard]] Status listen();
  void watch(const Fd& listener);
  void accept_all(const Fd& listener);
  void greet(Fd socket);
  std::size_t on_bytes(std::uint64_t id, std::span<const std::byte> bytes);
  void refuse(std::uint64_t id);
  void admit(std::uint64_t id);
  void forget_greeting(std::uint64_t id);
  void open_session(Fd socket);
  void shut();
};

Status Server::Impl::listen() {
  descriptor.boot_id = context.process.boot_id;
  descriptor.pid_namespace = context.process.pid_namespace;
  descriptor.network_namespace = context.process.network_namespace;
  descriptor.pid = context.process.pid;
  descriptor.incarnation = context.self;
  descriptor.unix_name = random_name();
  Result<Fd> listener = net::listen_unix(descriptor.unix_name);
  if (!listener.is_ok()) return listener.status();
  unix_listener = *std::move(listener);
  listener = net::listen_tcp(context.options.host);
  if (!listener.is_ok()) return listener.status().with_context("option host");
  tcp_listener = *std::move(listener);
  const Result<std::uint16_t> port = net::local_port(tcp_listener);
  if (!port.is_ok()) return port.status();
  descriptor.tcp_host = context.options.host;
  descriptor.tcp_port = *port;
  return Status::ok();
}

void Server::Impl::watch(const Fd& listener) {
  const Status watched = context.loop.watch(listener.get(), EPOLLIN, [weak = weak_from_this(), &listener](std::uint32_t) {
    if (const auto impl = weak.lock()) impl->accept_all(listener);
  });
  if (!watched.is_ok()) closed = true;
}

void Server::Impl::accept_all(const Fd& listener) {
  while (!closed) {
    Result<std::optional<Fd>> accepted = net::accept_connection(listener);
    if (!accepted.is_ok()) {
      // The waiting connection would wake the loop again and again.
      context.loop.unwatch(listener.get());
      context.loop.at(Deadline::in(kAcceptPause), [weak = weak_from_this(), &listener] {
        const auto impl = weak.lock();
        if (impl && !impl->closed) impl->watch(listener);
      });
      return;
    }
    if (!*accepted) return;
    if (greetings.size() >= kMostGreetings) continue;  // hangs up
    greet(**std::move(accepted));
  }
}

void Server::Impl::greet(Fd socket) {
  const std::uint64_t id = next_id++;
  Greeting& greeting = greetings.try_emplace(id, control::Handshake::server(context.self, descriptor.key)).first->second;
  const auto weak = weak_from_this();
  greeting.timer = context.loop.at(Deadline::in(seconds_to_duration(context.options.connect_timeout_s)), [weak, id] {
    if (const auto impl = weak.lock()) impl->refuse(id);
  });
  net::Connection::Callbacks callbacks;
  callbacks.on_bytes = [weak, id](std::span<const std::byte> bytes, const net::Arrival&) {
    const auto impl = weak.lock();
    return impl ? impl->on_bytes(id, bytes) : bytes.size();
  };
  callbacks.on_closed = [weak, id](const Status&) {
    if (const auto impl = weak.lock()) impl->refuse(id);
  };
  greeting.connection.emplace(context.loop, std::move(socket), control::Handshake::kLongest, std::move(callbacks));
}

std::size_t Server::Impl::on_bytes(std::uint64_t id, std::span<const std::byte> bytes) {
  const auto it = greetings.find(id);
  if (it == greetings.end()) return bytes.size();
  Greeting& greeting = it->second;
  const std::size_t used = greeting.handshake.on_bytes(bytes);
  if (auto output = greeting.handshake.take_output(); !output.empty()) greeting.connection->send(std::move(output));
  if (greeting.finishing) return used;
  const auto state = greeting.handshake.state();
  if (state != control::Handshake::State::kDone && state != control::Handshake::State::kFailed) return used;
  greeting.finishing = true;
  greeting.connection->pause_reading();                     // what follows is for whoever gets the connection
  context.loop.post([weak = weak_from_this(), id, state] {  // the connection is in use up the stack
    const auto impl = weak.lock();
    if (!impl) return;
    if (state == control::Handshake::State::kDone) {
      impl->admit(id);
    } else {
      impl->refuse(id);
    }
  });
  return used;
}

void Server::Impl::refuse(std::uint64_t id) {
  if (!greetings.contains(id)) return;
  context.counters.handshakes_refused.fetch_add(1, std::memory_order_relaxed);
  forget_greeting(id);
}

void Server::Impl::forget_greeting(std::uint64_t id) {
  auto node = greetings.extract(id);
  context.loop.cancel(node.mapped().timer);
}

void Server::Impl::admit(std::uint64_t id) {
  const auto it = greetings.find(id);
  if (it == greetings.end() || !it->second.connection->is_open()) return;
  const control::Hello hello = it->second.handshake.hello();
  auto [socket, received] = it->second.connection->detach();
  forget_greeting(id);
  if (hello.purpose == control::Purpose::kControl) {
    if (received.empty()) open_session(std::move(socket));  // readers wait for the welcome
    return;
  }
  for (const auto& transport : transports) {
    if (transport->kind() == hello.transport) return transport->accept(std::move(socket), std::move(received));
  }
}

void Server::Impl::open_session(Fd socket) {
  const std::uint64_t id = next_id++;
  if (!net::is_unix(socket)) (void)net::set_dead_peer_timeout(socket, context.options.stall_timeout_s);
  context.counters.sessions.fetch_add(1, std::memory_order_relaxed);
  sessions.emplace(id, std::make_unique<Session>(context, transports, std::move(socket), [weak = weak_from_this(), id] {
                     const auto impl = weak.lock();
                     if (!impl || impl->sessions.erase(id) == 0) return;
                     impl->context.counters.sessions.fetch_sub(1, std::memory_order_relaxed);
                   }));
}

void Server::Impl::shut() {
  closed = true;
  context.loop.unwatch(unix_listener.get());
  context.loop.unwatch(tcp_listener.get());
  unix_listener.reset();
  tcp_listener.reset();
  while (!greetings.empty()) forget_greeting(greetings.begin()->first);
  context.counters.sessions.fetch_sub(sessions.size(), std::memory_order_relaxed);
  sessions.clear();
}

Result<std::unique_ptr<Server>> Server::create(const transport::Context& context, const control::Key& key,
                                               const std::vector<std::unique_ptr<transport::Transport>>& transports) {
  auto impl = std::make_shared<Impl>(context, transports);
  impl->descriptor.key = key;
  RAY_HIXL_RETURN_IF_ERROR(impl->listen());
  context.loop.post([impl] {
    impl->watch(impl->unix_listener);
    impl->watch(impl->tcp_listener);
  });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() { close(); }

const control::EngineDescriptor& Server::descriptor() const { return impl_->descriptor; }

void Server::segment_retired(std::uint32_t id) {
  impl_->context.loop.post([weak = std::weak_ptr(impl_), id] {
    const auto impl = weak.lock();
    if (!impl) return;
    for (const auto& [number, session] : impl->sessions) session->segment_retired(id);
  });
}

void Server::close() {
  const MutexLock once(impl_->closing);
  if (std::exchange(impl_->close_began, true)) return;
  Mutex mutex;
  Condition done;
  bool shut = false;
  const bool posted = impl_->context.loop.post([&] {
    impl_->shut();
    const MutexLock lock(mutex);
    shut = true;
    done.notify_one();
  });
  if (!posted) return;
  MutexLock lock(mutex);
  while (!shut) done.wait(lock);
}

}  // namespace ray_hixl::link
