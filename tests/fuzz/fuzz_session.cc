// Fuzz target: an owner that serves what a reader with the right key sends it, over real sockets: the session's requests, the stream's data
// connections, and the server that admits both.
//
// An input is two bytes of settings and then what is sent once the handshake is done. Where it names the slot of docs/protocol.md's
// examples it means the one that is published here, whose key nobody could guess. Beyond "no crash": the owner answers with whole frames,
// each to a request that was sent, nothing more often than it was asked; it never tells its key; and it serves the next reader.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/random.h"
#include "control/handshake.h"
#include "control/messages.h"
#include "link/server.h"
#include "memory/copy_pool.h"
#include "net/socket.h"
#include "require.h"
#include "transport/factories.h"

namespace ray_hixl {
namespace {

using Bytes = std::vector<std::byte>;
using control::Purpose;

// What an engine is made of, as far as others reach it.
class Owner {
 public:
  static Owner& get() {
    static Owner& instance = *new Owner;
    return instance;
  }

  [[nodiscard]] const control::EngineDescriptor& descriptor() const { return server_->descriptor(); }
  [[nodiscard]] const Handle& published() const { return handle_; }

 private:
  Owner() {
    transports_.push_back(transport::shm::create(context_));
    transports_.push_back(transport::stream::create(context_));
    transports_.push_back(transport::staged::create(context_));
    control::Key key;
    fill_random(key);
    server_ = std::move(link::Server::create(context_, key, transports_)).value();
    const auto block = source_->allocate(std::uint64_t{64} << 10).value();
    memory::SlotContent content;
    content.ranges = {{ordinary_.data(), ordinary_.size()}, {block->address, block->length}, {ordinary_.data(), 0}};
    content.owner = block;
    handle_ = slots_->publish(std::move(content)).value();
  }

  Options options_;
  std::unique_ptr<net::Loop> loop_ = std::move(net::Loop::create("hixl-loop")).value();
  net::Processes processes_{*loop_};
  memory::Reaper reaper_;
  std::unique_ptr<memory::SlotTable> slots_ = std::move(memory::SlotTable::create(reaper_)).value();
  std::shared_ptr<memory::Arena> source_ = memory::Arena::create(memory::ArenaKind::kSource, 0);
  memory::CopyPool pool_{1};
  transport::Counters counters_;
  Incarnation self_ = {std::byte{1}};
  transport::Context context_{self_,
                              net::this_process().value(),
                              options_,
                              *loop_,
                              processes_,
                              *slots_,
                              *source_,
                              pool_,
                              reaper_,
                              counters_,
                              device::no_devices(Status(Code::kNotAvailable, "no NPU here"))};
  std::vector<std::unique_ptr<transport::Transport>> transports_;
  std::unique_ptr<link::Server> server_;
  std::array<std::byte, 4096> ordinary_{};
  Handle handle_;
};

// For as long as it takes: a hang is libFuzzer's to find.
bool wait_for(const Fd& socket, short events) {
  pollfd one{socket.get(), events, 0};
  return ::poll(&one, 1, -1) == 1;
}

// Appends what has come. False once the other side has closed.
bool receive(const Fd& socket, Bytes& received) {
  std::array<std::byte, 65536> buffer;
  const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
  if (got > 0) received.insert(received.end(), buffer.begin(), buffer.begin() + got);
  return got > 0 || (got < 0 && errno == EAGAIN);
}

Fd connect(bool tcp) {
  const control::EngineDescriptor& owner = Owner::get().descriptor();
  Result<Fd> socket = tcp ? net::start_connect_tcp({owner.tcp_host, owner.tcp_port}) : net::start_connect_unix(owner.unix_name);
  require(socket.is_ok() && wait_for(*socket, POLLOUT) && net::finish_connect(*socket).is_ok(), "the owner accepts the next reader");
  return *std::move(socket);
}

// Gives what the owner sent behind the handshake.
Bytes shake_hands(const Fd& socket, const control::Hello& hello) {
  control::Handshake side = control::Handshake::client(hello, Owner::get().descriptor().key);
  Bytes received;
  while (true) {
    const Bytes output = side.take_output();
    require(output.empty() || ::send(socket.get(), output.data(), output.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(output.size()),
            "a handshake fits into a socket's buffer");
    if (side.state() == control::Handshake::State::kDone) return received;
    require(wait_for(socket, POLLIN) && receive(socket, received), "the owner answers a handshake");
    const std::size_t used = side.on_bytes(received);
    received.erase(received.begin(), received.begin() + static_cast<std::ptrdiff_t>(used));
    require(side.state() != control::Handshake::State::kFailed, "the owner is who it should be");
  }
}

// Sends everything, in pieces of that size, and gives what came until the owner closed.
Bytes talk(const Fd& socket, ByteView sent, std::size_t piece, Bytes received) {
  bool is_shut = false;
  while (true) {
    if (sent.empty() && !is_shut) {
      ::shutdown(socket.get(), SHUT_WR);
      is_shut = true;
    }
    const bool sending = !sent.empty();
    require(wait_for(socket, static_cast<short>(POLLIN | (sending ? POLLOUT : 0))), "the owner goes on or hangs up");
    if (sending) {
      const ssize_t taken = ::send(socket.get(), sent.data(), std::min(sent.size(), piece), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (taken > 0) sent = sent.subspan(static_cast<std::size_t>(taken));
      if (taken < 0 && errno != EAGAIN) sent = {};  // it hung up: there may be answers to read
    }
    if (!receive(socket, received)) return received;
  }
}

// What the fuzzer wrote for the slot of the documentation's examples becomes the live one.
void name_the_published(std::span<std::byte> bytes) {
  const auto write = [](const Handle& handle) {
    std::array<std::byte, 20> out;
    std::memcpy(out.data(), &handle.slot, 4);
    std::memcpy(out.data() + 4, &handle.generation, 8);
    std::memcpy(out.data() + 12, &handle.key, 8);
    return out;
  };
  const auto example = write({7, 3, 0x1122334455667788});
  const auto live = write(Owner::get().published());
  for (auto at = bytes.begin(); (at = std::search(at, bytes.end(), example.begin(), example.end())) != bytes.end();) {
    at = std::copy(live.begin(), live.end(), at);
  }
}

// How often each request was asked for.
std::map<std::uint64_t, std::size_t> requests_in(ByteView sent) {
  std::map<std::uint64_t, std::size_t> asked;
  while (true) {
    const Result<std::optional<control::Frame>> frame = control::next_frame(sent);
    if (!frame.is_ok() || !*frame) return asked;
    ++asked[(*frame)->request];
    sent = sent.subspan((*frame)->bytes.size());
  }
}

void check_answers(ByteView received, std::map<std::uint64_t, std::size_t> asked, bool is_data) {
  while (true) {
    const Result<std::optional<control::Frame>> frame = control::next_frame(received);
    require(frame.is_ok(), "the owner sends frames");
    if (!*frame) return;  // the last one may be cut short
    const auto& [type, request, descriptors, bytes, body] = **frame;
    require(control::is_known(type), "the owner sends what this version knows");
    received = received.subspan(bytes.size());
    if (type == control::MessageType::kReading) {
      const std::uint64_t payload = control::decode_reading(body).value().bytes;
      received = received.subspan(static_cast<std::size_t>(std::min<std::uint64_t>(payload, received.size())));
      continue;  // the read's end answers it
    }
    if (request == 0) {
      require(!is_data && (type == control::MessageType::kWelcome || type == control::MessageType::kSegmentRetired), "it is a notice");
      continue;
    }
    require(asked[request]-- > 0, "an answer is to a request, and each has one");
  }
}

void serve(std::uint8_t settings, std::size_t piece, Bytes sent) {
  const Owner& owner = Owner::get();
  name_the_published(sent);
  control::Hello hello;
  const bool is_data = (settings & 1) != 0;
  hello.purpose = is_data ? Purpose::kData : Purpose::kControl;
  hello.transport = control::TransportKind::kStream;
  hello.client.fill(std::byte{2});
  hello.server = owner.descriptor().incarnation;
  const Fd socket = connect(settings >> 4 == 15);
  const Bytes received = talk(socket, sent, piece, shake_hands(socket, hello));
  check_answers(received, requests_in(sent), is_data);
  const auto& key = owner.descriptor().key;
  require(std::search(received.begin(), received.end(), key.begin(), key.end()) == received.end(), "the key is never told");
}

}  // namespace
}  // namespace ray_hixl

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return -1;
  const std::size_t piece = (data[0] & 4) != 0 ? std::size_t{1} + data[1] : size;
  const auto sent = std::as_bytes(std::span(data, size).subspan(2));
  ray_hixl::serve(data[0], piece, {sent.begin(), sent.end()});
  return 0;
}
