// Connectors: the threads that make the calls which may block for as long as a peer is dead: connect and disconnect.
//
// One for each call that is under way, up to 64, so that a dead peer delays nobody but those who want that peer. One that has had nothing
// to do for some seconds ends, but for the last. Any thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/deadline.h"
#include "ray_hixl/status.h"

namespace ray_hixl::transport::hixl {

class Connectors {
 public:
  using Errand = std::function<void()>;
  static constexpr std::chrono::seconds kIdle{10};

  // `prepare` runs first in every thread: it sets the device. `idle`: until a thread ends.
  Connectors(std::string thread_name, std::function<void()> prepare, std::chrono::nanoseconds idle = kIdle);
  ~Connectors();  // REQUIRES: stop()
  Connectors(const Connectors&) = delete;
  Connectors& operator=(const Connectors&) = delete;

  // In order, as soon as one of the threads is free. Not ok, and it is dropped: kClosed after stop(); or no thread can be had and none
  // is there, and then no errand has ever run, since one thread stays until stop().
  [[nodiscard]] Status run(Errand errand);
  // Drops what has not begun and waits for the rest. False if that took longer: then the threads go on by themselves, and what their
  // errands use must stay for ever.
  [[nodiscard]] bool stop(Deadline deadline);

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace ray_hixl::transport::hixl
