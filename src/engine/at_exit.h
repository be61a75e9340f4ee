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

// Closes an engine on a thread made for that, "hixl-close". False where no thread can be had.
[[nodiscard]] bool close_in_background(const std::function<void()>& closing);

// Closes the engines of this process and waits for those that are being started or closed by others, for half a minute at most. None is
// made any more. exit() calls it; whoever knows of the end earlier may, too. Idempotent. On a thread of an engine it does not wait for
// that.
void end_engines();
// kClosed once that was called.
[[nodiscard]] Status check_not_ending();

}  // namespace ray_hixl
