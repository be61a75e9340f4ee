#include "hixl/notify.h"

#include "hixl/counters.h"
#include "hixl/request.h"

namespace fake_hixl {

bool Notify::wait(std::shared_ptr<Request> request) {
  const std::lock_guard lock(mutex_);
  if (request->lease()->is_aborted()) return false;
  if (is_recorded_) {
    is_recorded_ = false;
    count_early_completion();
    request->finish(Request::State::kCompleted, hixl::kSuccess);
  } else {
    waiting_.push_back(std::move(request));
  }
  return true;
}

void Notify::record(const Request& by) {
  const std::lock_guard lock(mutex_);
  if (by.lease()->is_aborted()) count_stray_record();
  if (waiting_.empty()) {
    is_recorded_ = true;
    return;
  }
  const std::shared_ptr<Request> request = std::move(waiting_.front());
  waiting_.pop_front();
  if (request.get() != &by && request->state() == Request::State::kWaiting) count_early_completion();
  request->finish(Request::State::kCompleted, hixl::kSuccess);
}

void Notify::cancel(const Request& request) {
  const std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [&](const auto& each) { return each.get() == &request; });
}

void Notify::abort() {
  const std::lock_guard lock(mutex_);
  waiting_.clear();
  is_recorded_ = false;
}

bool Notify::is_recorded() {
  const std::lock_guard lock(mutex_);
  return is_recorded_;
}

}  // namespace fake_hixl
