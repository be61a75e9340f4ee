// Connectors: the threads that make the calls which may block for as long as a peer is dead: connect and disconnect.
//
// At most four, started when they are needed, so that a dead peer delays nobody but those who want that peer. Any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/deadline.h"
#include "ray_hixl/status.h"

namespace ray_hixl::transport::hixl {

class Connectors {
 public:
  using Errand = std::function<void()>;

  // `prepare` runs first in every thread: it sets the device.
  Connectors(std::string thread_name, std::function<void()> prepare);
  ~Connectors();  // REQUIRES: stop()
  Connectors(const Connectors&) = delete;
  Connectors& operator=(const Connectors&) = delete;

  // In order, as soon as one of the threads is free. After stop() it is dropped. Not ok, and it is dropped, if no thread can be had and
  // none is there: then no errand has ever run, since threads stay until stop().
  [[nodiscard]] Status run(Errand errand);
  // Drops what has not begun and waits for the rest. False if that took longer: then the threads go on by themselves, and what their
  // errands use must stay for ever.
  [[nodiscard]] bool stop(Deadline deadline);

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace ray_hixl::transport::hixl
