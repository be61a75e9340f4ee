// FlightHost: what a transfer needs of its link.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "link/path.h"
#include "link/resolver.h"
#include "memory/reaper.h"
#include "net/loop.h"
#include "transport/counters.h"

namespace ray_hixl::link {

// Any thread may call what is not marked; callbacks run on any thread, with no lock held.
class FlightHost {
 public:
  virtual ~FlightHost() = default;

  [[nodiscard]] virtual const Paths& paths() const = 0;
  // The channel for such memory; null if there is none, and no_path() says why.
  [[nodiscard]] virtual const Candidate* choose(transport::RemoteMemory memory) const = 0;
  // The one after `first`, where that turned out not to; null if there is none.
  [[nodiscard]] virtual const Candidate* choose_after(const Candidate& first, transport::RemoteMemory memory) const = 0;
  [[nodiscard]] virtual Status no_path(transport::RemoteMemory memory) const = 0;
  [[nodiscard]] virtual std::string peer_name() const = 0;
  [[nodiscard]] virtual transport::Counters& counters() const = 0;

  // ok while the link is up; then why it is not.
  [[nodiscard]] virtual Status state() const = 0;
  // The same, and looks at the peer's process itself, which may have ended a moment ago.
  [[nodiscard]] virtual Status check_alive() const = 0;
  // Are the owner's generations mapped here? Otherwise the owner itself has to say whether a slot is live.
  [[nodiscard]] virtual bool shows_generations() const = 0;
  // REQUIRES: shows_generations().
  [[nodiscard]] virtual bool is_live(const Handle& handle) const = 0;
  // Asks the owner whether all of them are live: ok, or why not.
  virtual void ask_live(const std::vector<Handle>& handles, std::function<void(Status)> answer) = 0;
  [[nodiscard]] virtual Resolver& resolver() = 0;

  [[nodiscard]] virtual bool on_loop() const = 0;
  // Runs what takes long on another thread than the loop's. Not ok, and why, if it will not run.
  [[nodiscard]] virtual Status run(std::function<void()> work) = 0;
  // Lets go of what takes long to let go of.
  [[nodiscard]] virtual memory::Reaper& reaper() = 0;
  // Runs `task` on the loop thread; dropped if the engine is closing.
  virtual void post(std::function<void()> task) = 0;
  // Loop thread.
  [[nodiscard]] virtual net::Loop::TimerId at(Deadline deadline, std::function<void()> task) = 0;
  virtual void cancel(net::Loop::TimerId timer) = 0;
};

}  // namespace ray_hixl::link
