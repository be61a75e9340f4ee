// Locator: what this engine knows of where a peer keeps its device memory, and how HIXL reaches it. Asks once for each and remembers, until
// the peer recalls it.
//
// Any thread; answers come in the caller's thread if they are known, else on the loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "control/messages.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "transport/transport.h"

namespace ray_hixl::transport::hixl {

class Locator : public std::enable_shared_from_this<Locator> {
 public:
  using Ranges = std::shared_ptr<const control::Located>;
  using Located = std::function<void(Result<Ranges>)>;
  using Description = std::shared_ptr<const control::DeviceDescription>;
  using Described = std::function<void(Result<Description>)>;

  // The peer wants an engine for itself: links to it are to be taken down; `done` once they are. Loop thread.
  using Recalled = std::function<void(const std::string& engine, std::function<void()> done)>;

  Locator(Port& port, Recalled recalled) : port_(port), recalled_(std::move(recalled)) {}

  // The parts of a slot that lie in device memory.
  void locate(const Handle& handle, Located answer);
  // The peer's engine on one of its devices.
  void describe(std::int32_t device, Described answer);
  // It is asked for again, unless another one is known by now.
  void forget(std::int32_t device, const Description& description);
  // HIXL refuses to link to it: does the peer replace it?
  using Noted = std::function<void(bool is_replaced)>;
  void cannot_link(std::int32_t device, const Description& description, Noted answer);
  [[nodiscard]] Port& port() const { return port_; }

 private:
  void described(std::int32_t device, Result<Reply> reply);
  void await_recall(std::int32_t device, const Description& description);

  Port& port_;
  const Recalled recalled_;
  Mutex mutex_;
  std::unordered_map<Handle, Ranges> located_ RAY_HIXL_GUARDED_BY(mutex_);
  std::map<std::int32_t, Description> described_ RAY_HIXL_GUARDED_BY(mutex_);
  std::map<std::int32_t, std::vector<Described>> asked_ RAY_HIXL_GUARDED_BY(mutex_);
};

}  // namespace ray_hixl::transport::hixl
