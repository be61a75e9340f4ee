// The end of the process: it closes every engine, so that no thread of one runs while exit() takes libraries down.
//
// exit() calls the exit functions of libraries in one thread while the others go on. libcrypto's, for one, frees what it keeps for each
// thread, and a thread that computed a MAC frees the same when it ends; and a peer that greets later finds no HMAC any more.
#pragma once

#include <functional>
#include <memory>

#include "ray_hixl/status.h"

namespace ray_hixl {

class EngineImpl;

// That an engine has threads, or may have them. Its first member, so that it goes last.
class Running {
 public:
  explicit Running(const EngineImpl& engine);
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  // From here on the end of the process closes it; until then it waits for it. kClosed if that has begun: whoever starts it closes it.
  [[nodiscard]] Status started(const std::shared_ptr<EngineImpl>& engine) const;

 private:
  const EngineImpl& engine_;
};

// Runs `closing`, which closes an engine, and destroys it, on a thread made for that: "hixl-close". False where no thread can be had.
[[nodiscard]] bool close_in_background(std::function<void()> closing);

// Closes the engines of this process, and waits until none of their threads runs: for half a minute at most, also for those that others
// start or close (where threads can be had; else they are closed one after the other). None is made any more. exit() calls it, before the
// exit functions of the libraries that engines use; whoever knows of the end earlier does, too. Only the first call does anything, and none
// on a thread of an engine, which would wait for itself.
void end_engines();
// kClosed once that was called.
[[nodiscard]] Status check_not_ending();
// Has exit() call it before the exit functions of what was loaded until now, too.
void end_engines_before_what_is_loaded();

}  // namespace ray_hixl
