// dial: connects to an engine and proves who is who. What every connection of a link starts with.
#pragma once

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
  std::string no_unix_socket;  // why it is not over a Unix socket; empty if it is
};

// Loop thread. `done` runs on the loop thread, exactly once, not before this returns: kConnectError says how far it came. A Unix socket is
// taken where both processes are on one host and in one network namespace; if it cannot be reached, TCP.
void dial(net::Loop& loop, const net::HostIdentity& self, const control::EngineDescriptor& peer, const control::Hello& hello,
          Deadline deadline, std::function<void(Result<Dialed>)> done);

}  // namespace ray_hixl::link
