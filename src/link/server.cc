#include "link/server.h"

#include <map>
#include <utility>

#include "base/mutex.h"
#include "base/random.h"
#include "link/greeter.h"
#include "link/session.h"
#include "net/socket.h"

namespace ray_hixl::link {
namespace {

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
  Impl(const transport::Context& the_context, const std::vector<std::unique_ptr<transport::Transport>>& the_transports)
      : context(the_context), transports(the_transports) {}

  const transport::Context& context;
  const std::vector<std::unique_ptr<transport::Transport>>& transports;
  control::EngineDescriptor descriptor;
  Fd unix_listener;
  Fd tcp_listener;

  // Loop thread only.
  std::shared_ptr<Greeter> greeter;
  std::map<std::uint64_t, std::shared_ptr<Session>> sessions;
  std::uint64_t next_id = 1;

  Mutex closing;  // serialises close()
  bool close_began RAY_HIXL_GUARDED_BY(closing) = false;

  [[nodiscard]] Status listen();
  void start();
  void admit(const control::Hello& hello, Fd socket, std::vector<std::byte> received);
  void open_session(const control::Hello& hello, Fd socket);
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

void Server::Impl::start() {
  greeter = std::make_shared<Greeter>(context, descriptor, [this](const control::Hello& hello, Fd socket, std::vector<std::byte> received) {
    admit(hello, std::move(socket), std::move(received));
  });
  greeter->watch(unix_listener);
  greeter->watch(tcp_listener);
}

void Server::Impl::admit(const control::Hello& hello, Fd socket, std::vector<std::byte> received) {
  if (hello.purpose == control::Purpose::kControl) {
    if (received.empty()) open_session(hello, std::move(socket));  // readers wait for the welcome
    return;
  }
  for (const auto& transport : transports) {
    if (transport->kind() == hello.transport) return transport->accept(std::move(socket), std::move(received));
  }
}

void Server::Impl::open_session(const control::Hello& hello, Fd socket) {
  const std::uint64_t id = next_id++;
  if (!net::is_unix(socket)) (void)net::set_dead_peer_timeout(socket, context.options.stall_timeout_s);
  context.counters.sessions.fetch_add(1, std::memory_order_relaxed);
  sessions.emplace(id, Session::start(context, transports, hello, std::move(socket), [weak = weak_from_this(), id] {
                     const auto impl = weak.lock();
                     if (!impl || impl->sessions.erase(id) == 0) return;
                     impl->context.counters.sessions.fetch_sub(1, std::memory_order_relaxed);
                   }));
}

void Server::Impl::shut() {
  greeter->close();
  greeter.reset();
  unix_listener.reset();
  tcp_listener.reset();
  context.counters.sessions.fetch_sub(sessions.size(), std::memory_order_relaxed);
  sessions.clear();
}

Result<std::unique_ptr<Server>> Server::create(const transport::Context& context, const control::Key& key,
                                               const std::vector<std::unique_ptr<transport::Transport>>& transports) {
  auto impl = std::make_shared<Impl>(context, transports);
  impl->descriptor.key = key;
  RAY_HIXL_RETURN_IF_ERROR(impl->listen());
  context.loop.post([impl] { impl->start(); });
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
