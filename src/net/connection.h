// Connection: bytes (and descriptors) over one connected socket, without blocking. It knows nothing of messages.
//
// It takes descriptors only where it was told to: elsewhere the kernel closes what a peer passes, before this process has it.
// Loop thread only. Callbacks run on the loop thread; each may close the connection. After close(), or after on_closed ran, no callback
// runs any more. Destroying a connection closes it without a callback.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/fd.h"
#include "net/loop.h"

namespace ray_hixl::net {

// What one piece brought.
struct Arrival {
  std::size_t fresh = 0;  // how many of the bytes shown are new; 0 when they are only shown again
  std::vector<Fd> fds;    // sent along with a byte of this piece
  bool fds_lost = false;  // there were more, but this process is out of descriptors
};

class Connection {
 public:
  struct Callbacks {
    // Bytes arrived. Gives how many it consumed; the rest is kept and shown again in front of what arrives next, or when reading goes on.
    // It must consume all or wait for at most `longest_message` bytes.
    std::function<std::size_t(std::span<const std::byte> bytes, Arrival arrival)> on_bytes;
    // The other side closed, or an error: kPeerGone with the reason. Runs at most once, never within a call of the connection's owner.
    std::function<void(Status)> on_closed;
    // The socket took some of what was queued. Never within a call of the connection's owner.
    std::function<void()> on_sent;
  };
  enum class Passing : std::uint8_t { kRefused, kAccepted };  // of descriptors, to this side

  // Watches `socket` at once. `longest_message` bounds the buffered input; a sender that exceeds it is closed.
  Connection(Loop& loop, Fd socket, std::size_t longest_message, Callbacks callbacks, Passing passing = Passing::kRefused);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Queues and writes what the socket takes. `fds` go with the first byte (Unix only). Bytes of one send stay together. More than
  // `longest_backlog` bytes that the peer does not read close the connection.
  void send(std::vector<std::byte> bytes, std::vector<Fd> fds = {});
  static constexpr std::size_t kLongestBacklog = std::size_t{64} << 20;
  [[nodiscard]] std::size_t queued() const;  // bytes that the socket did not take yet
  // What was shown and not consumed is the beginning of a message of so many bytes: nothing behind it is read before it is there, so that
  // take_bytes() gives it alone. Within on_bytes.
  void expect(std::size_t bytes);
  // The bytes that on_bytes was shown, for its owner to keep; they count as consumed. Within on_bytes.
  [[nodiscard]] std::vector<std::byte> take_bytes();
  // Stops and goes on reading, so that a peer that sends more than is wanted has to wait. What was read and not consumed is shown again
  // when reading goes on, from the loop. That the peer hung up is told meanwhile, too, unless it only stopped sending.
  void pause_reading();
  void resume_reading();
  // Stops watching and gives the socket away, with input that was read but not consumed. REQUIRES: nothing is queued for sending.
  [[nodiscard]] std::pair<Fd, std::vector<std::byte>> detach();
  void close();
  [[nodiscard]] bool is_open() const;
  [[nodiscard]] const Fd& socket() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with a callback that is running, so that it may destroy the Connection
};

}  // namespace ray_hixl::net
