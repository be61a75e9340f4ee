// Links: every link of an engine, by the remote incarnation and the key that it proved. At most one for each; dialling is single flight for
// callers with equal descriptors. A descriptor with another key or address neither gets a good one's link nor stands in its way.
//
// A link that a shortage made worse than it could be (TCP though there is a Unix socket, no generation table, no watch over the process) is
// replaced later: while it is used, another one is made in the background, after pauses of one second to ten minutes.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/deadline.h"
#include "control/descriptor.h"
#include "link/link.h"
#include "ray_hixl/status.h"
#include "transport/transport.h"

namespace ray_hixl::link {

class Links {
 public:
  using Opened = std::function<void(Result<std::shared_ptr<Link>>)>;

  // `transports`: allowed ones in order of preference. All arguments outlive it.
  Links(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports);
  ~Links();
  Links(const Links&) = delete;
  Links& operator=(const Links&) = delete;

  // The link that is up to who proved the descriptor's key; null if there is none. kClosed after close_all().
  [[nodiscard]] Result<std::shared_ptr<Link>> find(const control::EngineDescriptor& peer);
  // The link that is up, at once in the caller's thread; else joins or starts an opening and calls on the loop thread. Every caller has its
  // own deadline: kConnectError says how far it came; kPeerGone: that engine has ended. Unix socket first where both are on one host and
  // network namespace, then TCP.
  void open(const control::EngineDescriptor& peer, Deadline deadline, Opened opened);
  // Ends every opening and link with `why`, and refuses new ones. Any thread but the loop's: waits until the loop let go of them.
  void close_all(const Status& why);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ray_hixl::link
