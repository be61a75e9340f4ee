#include "link/dialer.h"

#include <sys/epoll.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "net/connection.h"
#include "net/socket.h"

namespace ray_hixl::link {
namespace {

// A full queue empties as fast as its owner gets to it.
constexpr std::chrono::milliseconds kFirstPause{2};
constexpr std::chrono::milliseconds kLongestPause{100};
// An owner that hangs up without a word is either busy with strangers (and takes the next one) or another engine than the descriptor's.
constexpr int kMostHangUps = 4;
constexpr std::chrono::milliseconds kHangUpPause{20};

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
  Dial(net::Loop& loop, const control::EngineDescriptor& peer, const control::Hello& hello, Met met, Ways ways,
       std::function<void(Result<Dialed>)> done)
      : loop_(loop),
        peer_(peer),
        hello_(hello),
        met_(met),
        ways_(ways),
        handshake_(control::Handshake::client(hello, peer.key)),
        done_(std::move(done)) {}

  void start(std::string no_unix_socket, Deadline deadline) {
    no_unix_socket_ = std::move(no_unix_socket);
    timer_ = loop_.at(deadline, [self = shared_from_this()] {
      self->timer_ = 0;
      self->end(Status(Code::kConnectError, "no answer in time: " + self->how_far_));
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
    if (!watched.is_ok()) end_later(watched);
  }

  void failed_to_connect(const Status& why) {
    if (why.code() == Code::kNotAvailable) {
      how_far_ = why.message();
      pause_ = std::min(2 * pause_, kLongestPause);
      return connect_in(pause_);
    }
    const bool ran_out_here = why.code() == Code::kOutOfMemory;  // TCP would need a descriptor, too
    if (ran_out_here || ways_ == Ways::kUnixOnly) return end_later(why);
    const bool nobody_listens = why.code() == Code::kPeerGone;
    if (!no_unix_socket_.empty()) return end_later(nobody_listens ? nobody_at_the_port() : why);
    nobody_at_the_unix_socket_ = nobody_listens;
    no_unix_socket_ = "the peer's Unix socket cannot be reached (" + why.message() + ")";
    unix_socket_failed_ = true;
    connect_in(std::chrono::milliseconds(0));
  }

  // An engine listens for as long as it lives. At a Unix socket of its own name in this network namespace, or where it was met before, it
  // is that engine which does not any more; at a port of another host it may be one that never did.
  [[nodiscard]] Status nobody_at_the_port() const {
    if (nobody_at_the_unix_socket_ || met_ == Met::kBefore) {
      return {
          Code::kPeerGone,
          "nobody listens there any more: its process has ended, or closed it; make what you want of it again, in a process that lives"};
    }
    return {Code::kConnectError,
            "refused: its process has ended (make the object again), or a firewall rejects; else its address does not reach it from here "
            "(Options.host)"};
  }

  void connect_in(std::chrono::milliseconds pause) {
    pausing_ = loop_.at(Deadline::in(pause), [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self || !self->done_) return;
      self->pausing_ = 0;
      self->connect();
    });
  }

  void connected() {
    loop_.unwatch(connecting_.get());
    if (const Status status = net::finish_connect(connecting_); !status.is_ok()) {
      connecting_.reset();
      return failed_to_connect(status);
    }
    how_far_ = "it was reached, but did not finish the handshake";
    net::Connection::Callbacks callbacks;
    callbacks.on_bytes = [weak = weak_from_this()](std::span<const std::byte> bytes, const net::Arrival&) {
      const auto self = weak.lock();
      return self ? self->on_bytes(bytes) : bytes.size();
    };
    callbacks.on_closed = [weak = weak_from_this()](const Status&) {
      if (const auto self = weak.lock()) self->hung_up();
    };
    connection_.emplace(loop_, std::move(connecting_), control::Handshake::kLongest, std::move(callbacks));
    connection_->send(handshake_.take_output());
  }

  // Who has spoken refuses, or has died in the middle of it: then nobody listens there any more, which the next try shows.
  void hung_up() {
    connection_.reset();
    if (answered_ ? !std::exchange(has_refused_, true) : ++hang_ups_ < kMostHangUps) {
      answered_ = false;
      handshake_ = control::Handshake::client(hello_, peer_.key);
      return connect_in(hang_ups_ * kHangUpPause);
    }
    end(Status(Code::kConnectError, answered_ ? "it hung up during the handshake"
                                              : "it hung up without a word, " + std::to_string(hang_ups_) +
                                                    " times: it has more connections than it can serve, or is no engine of ray-hixl"));
  }

  std::size_t on_bytes(std::span<const std::byte> bytes) {
    answered_ = true;
    const std::size_t used = handshake_.on_bytes(bytes);
    if (auto output = handshake_.take_output(); !output.empty()) connection_->send(std::move(output));
    if (handshake_.state() == control::Handshake::State::kFailed) {
      end(handshake_.error());
    } else if (handshake_.state() == control::Handshake::State::kDone) {
      loop_.post([self = shared_from_this()] { self->succeed(); });  // the connection is in use up the stack
    }
    return used;
  }

  void succeed() {
    if (!done_ || !connection_ || !connection_->is_open()) return;
    auto [socket, received] = connection_->detach();
    if (!received.empty()) return end(Status(Code::kConnectError, "it spoke before it was asked"));
    end(Dialed{std::move(socket), no_unix_socket_.empty(), no_unix_socket_, unix_socket_failed_});
  }

  // So that `done` never runs within dial().
  void end_later(const Status& why) {
    loop_.post([self = shared_from_this(), why] { self->end(why); });
  }

  void end(Result<Dialed> result) {
    if (!done_) return;
    const auto self = shared_from_this();
    const auto done = std::exchange(done_, nullptr);
    for (const net::Loop::TimerId timer : {timer_, pausing_}) loop_.cancel(timer);
    if (connecting_) loop_.unwatch(connecting_.get());
    connecting_.reset();
    connection_.reset();
    done(result.is_ok() ? std::move(result) : Result<Dialed>(result.status().with_context("cannot connect to the " + peer_.name())));
  }

  net::Loop& loop_;
  const control::EngineDescriptor peer_;
  const control::Hello hello_;
  const Met met_;
  const Ways ways_;
  control::Handshake handshake_;
  std::function<void(Result<Dialed>)> done_;  // null once it ran
  std::string no_unix_socket_;
  bool unix_socket_failed_ = false;
  bool nobody_at_the_unix_socket_ = false;
  std::string how_far_ = "it was not reached";
  std::chrono::milliseconds pause_ = kFirstPause / 2;
  int hang_ups_ = 0;
  bool has_refused_ = false;  // after it had said something
  bool answered_ = false;     // it said something
  net::Loop::TimerId timer_ = 0;
  net::Loop::TimerId pausing_ = 0;
  Fd connecting_;
  std::optional<net::Connection> connection_;
};

}  // namespace

void dial(net::Loop& loop, const net::HostIdentity& self, const control::EngineDescriptor& peer, const control::Hello& hello,
          Deadline deadline, std::function<void(Result<Dialed>)> done, Met met, Ways ways) {
  std::make_shared<Dial>(loop, peer, hello, met, ways, std::move(done))->start(unix_refusal(self, peer), deadline);
}

}  // namespace ray_hixl::link
