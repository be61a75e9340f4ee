// Greeter: takes connections in and shakes hands. Until that is done the other side is a stranger, who may be anybody.
//
// Strangers cost little and never stand in the way of those who know the key: a handshake has connect_timeout_s, buffers no more than its
// longest message, and at most most_greetings() of them are unfinished. When they are, or when the process is out of descriptors, the
// newcomer is taken in all the same, and the oldest stranger has to go: first of those who have not named this engine's incarnation, which
// nobody knows who has no descriptor. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "control/descriptor.h"
#include "control/handshake.h"
#include "net/connection.h"
#include "transport/transport.h"

namespace ray_hixl::link {

// A quarter of the descriptors that this process may have, at least 16 and at most 1024.
[[nodiscard]] std::size_t most_greetings();

class Greeter : public std::enable_shared_from_this<Greeter> {
 public:
  // Somebody who proved to know the key, and what came right behind the proof.
  using Admit = std::function<void(const control::Hello& hello, Fd socket, std::vector<std::byte> received)>;

  // `self`: whom strangers want to reach. All arguments outlive it.
  Greeter(const transport::Context& context, const control::EngineDescriptor& self, Admit admit);
  Greeter(const Greeter&) = delete;
  Greeter& operator=(const Greeter&) = delete;

  // Accepts from `listener`, which outlives the greeter, until close(); as soon as the kernel has the memory to watch it.
  void watch(const Fd& listener);
  // Hangs up on every stranger, and accepts no more.
  void close();

 private:
  struct Greeting {
    explicit Greeting(control::Handshake&& the_handshake) : handshake(std::move(the_handshake)) {}
    control::Handshake handshake;
    std::optional<net::Connection> connection;
    net::Loop::TimerId timer = 0;
    bool finishing = false;
  };
  using Greetings = std::map<std::uint64_t, Greeting>;  // oldest first

  void accept_some(const Fd& listener);
  void pause(const Fd& listener);
  void watch_later(const Fd& listener);
  [[nodiscard]] bool make_room();
  void greet(Fd socket);
  std::size_t on_bytes(std::uint64_t id, std::span<const std::byte> bytes);
  void finish(std::uint64_t id);
  void refuse(std::uint64_t id);
  void forget(Greetings::iterator greeting);

  const transport::Context& context_;
  const control::EngineDescriptor& self_;
  const Admit admit_;
  const std::size_t most_;
  Greetings greetings_;
  std::uint64_t next_id_ = 1;
  std::vector<const Fd*> listeners_;
  bool told_ = false;  // that a listener could not be watched
  bool closed_ = false;
};

}  // namespace ray_hixl::link
