#include "hixl/request.h"

namespace fake_hixl {

void Request::finish(State state, Status code) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kWaiting) return;
  state_ = state;
  code_ = code;
  ended_.notify_all();
}

Request::State Request::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

Status Request::code() const {
  const std::lock_guard lock(mutex_);
  return code_;
}

bool Request::wait_until(Deadline deadline) {
  std::unique_lock lock(mutex_);
  return ended_.wait_until(lock, deadline, [this] { return state_ != State::kWaiting; });
}

}  // namespace fake_hixl
