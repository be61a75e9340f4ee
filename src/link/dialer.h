// dial: connects to an engine and proves who is who. What every connection of a link starts with.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/fd.h"
#include "control/descriptor.h"
#include "control/handshake.h"
#include "net/identity.h"
#include "net/loop.h"
#include "ray_hixl/status.h"

namespace ray_hixl::link {

// An authenticated connection.
struct Dialed {
  Fd socket;
  bool over_unix_socket = false;
  std::string no_unix_socket;       // why it is not over a Unix socket; empty if it is
  bool unix_socket_failed = false;  // there should be one, but it could not be reached: it may be later
};

// What this process knows of the engine before it dials.
enum class Met : std::uint8_t {
  kNever,
  kBefore,  // it had a link to this very incarnation: whoever listens nowhere any more has ended
};

enum class Ways : std::uint8_t {
  kAll,       // the Unix socket where both processes are on one host and in one network namespace; TCP if it cannot be reached
  kUnixOnly,  // for who has a connection over TCP already
};

// Loop thread. `done` runs on the loop thread, exactly once, not before this returns: kConnectError says how far it came; kPeerGone: the
// engine has ended. What passes is waited for until the deadline: a full queue of the owner's, and a few times an owner that hangs up
// before it said anything, as a busy one does.
void dial(net::Loop& loop, const net::HostIdentity& self, const control::EngineDescriptor& peer, const control::Hello& hello,
          Deadline deadline, std::function<void(Result<Dialed>)> done, Met met, Ways ways = Ways::kAll);

}  // namespace ray_hixl::link
