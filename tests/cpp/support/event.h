// Event: something that happens once, and that tests wait for with a deadline.
#pragma once

#include <chrono>
#include <future>

namespace ray_hixl::test {

class Event {
 public:
  void set() { promise_.set_value(); }
  // False if it does not happen in time, which no passing test waits for.
  [[nodiscard]] bool wait() const { return future_.wait_for(std::chrono::seconds(20)) == std::future_status::ready; }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_ = promise_.get_future().share();
};

}  // namespace ray_hixl::test
