#include "link/dialer.h"

#include <sys/epoll.h>

#include <memory>
#include <optional>

#include "net/connection.h"
#include "net/socket.h"

namespace ray_hixl::link {
namespace {

// Why there is no Unix socket to try; empty if there is one.
std::string unix_refusal(const net::HostIdentity& self, const control::EngineDescriptor& peer) {
  if (peer.boot_id != self.boot_id) return "the peer is on another host";
  if (peer.network_namespace != self.network_namespace) return "the peer is in another network namespace (another container)";
  if (peer.unix_name.empty()) return "the peer's descriptor names no Unix socket";
  return {};
}

// Owned by its timer, which the loop holds until the dial ended (or the loop).
class Dial : public std::enable_shared_from_this<Dial> {
 public:
  Dial(net::Loop& loop, const control::EngineDescriptor& peer, const control::Hello& hello, std::function<void(Result<Dialed>)> done)
      : loop_(loop), peer_(peer), handshake_(control::Handshake::client(hello, peer.key)), done_(std::move(done)) {}

  void start(std::string no_unix_socket, Deadline deadline) {
    no_unix_socket_ = std::move(no_unix_socket);
    timer_ = loop_.at(deadline, [self = shared_from_this()] {
      self->timer_ = 0;
      self->end(
          Status(Code::kConnectError, std::string("no answer in time: ") +
                                          (self->connection_ ? "it was reached, but did not finish the handshake" : "it was not reached")));
    });
    connect();
  }

 private:
  void connect() {
    const bool over_unix = no_unix_socket_.empty();
    Result<Fd> socket = over_unix ? net::start_connect_unix(peer_.unix_name) : net::start_connect_tcp({peer_.tcp_host, peer_.tcp_port});
    if (!socket.is_ok()) return failed_to_connect(socket.status());
    connecting_ = *std::move(socket);
    const Status watched = loop_.watch(connecting_.get(), EPOLLOUT, [self = shared_from_this()](std::uint32_t) { self->connected(); });
    if (!watched.is_ok()) end(watched);
  }

  // From the loop, so that `done` never runs within dial().
  void failed_to_connect(const Status& why) {
    loop_.post([self = shared_from_this(), why] {
      if (!self->done_) return;
      if (!self->no_unix_socket_.empty()) return self->end(why);
      self->no_unix_socket_ = "the peer's Unix socket cannot be reached (" + why.message() + ")";
      self->connect();
    });
  }

  void connected() {
    loop_.unwatch(connecting_.get());
    if (const Status status = net::finish_connect(connecting_); !status.is_ok()) {
      connecting_.reset();
      return failed_to_connect(status);
    }
    net::Connection::Callbacks callbacks;
    callbacks.on_bytes = [weak = weak_from_this()](std::span<const std::byte> bytes, const net::Arrival&) {
      const auto self = weak.lock();
      return self ? self->on_bytes(bytes) : bytes.size();
    };
    callbacks.on_closed = [weak = weak_from_this()](const Status&) {
      if (const auto self = weak.lock()) {
        self->end(Status(Code::kConnectError, "it hung up during the handshake: it was restarted, or the descriptor is not its own"));
      }
    };
    connection_.emplace(loop_, std::move(connecting_), control::Handshake::kLongest, std::move(callbacks));
    connection_->send(handshake_.take_output());
  }

  std::size_t on_bytes(std::span<const std::byte> bytes) {
    const std::size_t used = handshake_.on_bytes(bytes);
    if (auto output = handshake_.take_output(); !output.empty()) connection_->send(std::move(output));
    if (handshake_.state() == control::Handshake::State::kFailed) {
      end(handshake_.error());
    } else if (handshake_.state() == control::Handshake::State::kDone && !finishing_) {
      finishing_ = true;
      loop_.post([self = shared_from_this()] { self->succeed(); });  // the connection is in use up the stack
    }
    return used;
  }

  void succeed() {
    if (!done_ || !connection_ || !connection_->is_open()) return;
    auto [socket, received] = connection_->detach();
    if (!received.empty()) return end(Status(Code::kConnectError, "it spoke before it was asked"));
    end(Dialed{std::move(socket), no_unix_socket_.empty(), no_unix_socket_});
  }

  void end(Result<Dialed> result) {
    if (!done_) return;
    const auto self = shared_from_this();
    const auto done = std::exchange(done_, nullptr);
    if (timer_ != 0) loop_.cancel(timer_);
    if (connecting_) loop_.unwatch(connecting_.get());
    connecting_.reset();
    connection_.reset();
    done(result.is_ok() ? std::move(result) : Result<Dialed>(result.status().with_context("cannot connect to the " + peer_.name())));
  }

  net::Loop& loop_;
  const control::EngineDescriptor peer_;
  control::Handshake handshake_;
  std::function<void(Result<Dialed>)> done_;  // null once it ran
  std::string no_unix_socket_;
  net::Loop::TimerId timer_ = 0;
  Fd connecting_;
  std::optional<net::Connection> connection_;
  bool finishing_ = false;
};

}  // namespace

void dial(net::Loop& loop, const net::HostIdentity& self, const control::EngineDescriptor& peer, const control::Hello& hello,
          Deadline deadline, std::function<void(Result<Dialed>)> done) {
  std::make_shared<Dial>(loop, peer, hello, std::move(done))->start(unix_refusal(self, peer), deadline);
}

}  // namespace ray_hixl::link
