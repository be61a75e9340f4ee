// How a driver replaces an engine that cannot be trusted any more.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "transport/hixl/driver/driver.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::chrono::milliseconds kRenewPause{250};  // after a failure, doubled with each
constexpr std::chrono::milliseconds kLongestRenewPause{5000};
constexpr int kMostFailedRenewals = 3;  // from then on nobody waits for the next one

}  // namespace

void Driver::taint() {
  if (closing_ || tainted_) return;
  tainted_ = true;
  recalled_ = !setup_.recall;
  begin_quiet();
  if (recalled_) return;
  setup_.recall(true, [this](bool) { post([this] { recalled_ = true; }); });
}

void Driver::replace() {
  if (closing_) return;
  unlinkable_ = true;
  taint();
}

// Readers first: while they are asked, and where one does not answer, links here go on.
void Driver::ask_for_room() {
  if (asking_ || quieting_ || closing_ || !hixl_) return;
  asking_ = true;
  const auto answered = [this](bool all) {
    post([this, all] {
      asking_ = false;
      if (quieting_ || closing_) return;
      if (!all) return setup_.reopen();
      recalled_ = true;
      begin_quiet();
    });
  };
  if (setup_.recall) return setup_.recall(false, answered);
  answered(true);
}

void Driver::begin_quiet() {
  quieting_ = true;
  quiet_by_ = Deadline::in(setup_.stall_timeout);
}

bool Driver::is_quiet() const {
  return closing_ || !std::ranges::any_of(remotes_, [](const auto& each) { return each.second->is_busy(); });
}

// Once every link is down.
void Driver::advance_renewal() {
  if (!quieting_ || renewing_ || closing_) return;
  if (!tainted_ && quiet_by_->passed()) return end_renewal();  // somebody needs longer: another time
  if (has_links() || !recalled_) return;
  const bool is_dirty = std::ranges::any_of(remotes_, [](const auto& each) { return each.second->is_dirty(); });
  if (hixl_ && !is_dirty && !unlinkable_) {  // or all requests have ended after all
    if (link_down_) link_down_();
    return end_renewal();
  }
  if (renew_after_ && !renew_after_->passed()) return;
  if (failed_renewals_ >= kMostFailedRenewals && remotes_.empty() && deferred_.empty()) return;  // nobody wants it just now
  renew();
}

void Driver::renew() {
  renewing_ = true;
  const auto old = std::make_shared<std::unique_ptr<Hixl>>(std::move(hixl_));
  const Status taken = connectors_.run([this, old] {
    const auto fresh = std::make_shared<Result<std::unique_ptr<Hixl>>>(setup_.renew(std::move(*old)));
    post([this, fresh] { renewed(std::move(*fresh)); });
  });
  if (taken.is_ok()) return;
  hixl_ = std::move(*old);
  renewing_ = false;
  renew_after_ = Deadline::in(kRenewPause);
}

void Driver::renewed(Result<std::unique_ptr<Hixl>> hixl) {
  renewing_ = false;
  if (hixl.is_ok()) {
    hixl_ = *std::move(hixl);
    counters_.renewals.fetch_add(1, std::memory_order_relaxed);
    return end_renewal();
  }
  const auto pause = kRenewPause * (1 << std::min(failed_renewals_, 10));
  renew_after_ = Deadline::in(std::min<std::chrono::milliseconds>(pause, kLongestRenewPause));
  let_go_of_dirty();
  if (++failed_renewals_ < kMostFailedRenewals) return;
  const Status why = hixl.status().with_context("HIXL on " + device::npu_name(setup_.device) + " had to be started anew, and cannot be");
  for (const auto& [name, remote] : remotes_) remote->end_waiting(why);
  for (const HixlTask& task : std::exchange(deferred_, {})) task(why);
  if (setup_.reopen) setup_.reopen();  // to be told that there is none
}

// The engine that they may have been used by is gone, or never was.
void Driver::let_go_of_dirty() {
  for (const auto& [name, remote] : remotes_) {
    if (remote->is_dirty()) remote->engine_is_gone();
  }
}

void Driver::end_renewal() {
  quieting_ = false;
  tainted_ = false;
  unlinkable_ = false;
  failed_renewals_ = 0;
  quiet_by_.reset();
  renew_after_.reset();
  if (setup_.reopen) setup_.reopen();
  let_go_of_dirty();
  for (const auto& [name, remote] : remotes_) remote->advance();  // moves have waited for this
  for (const HixlTask& task : std::exchange(deferred_, {})) task(hixl_.get());
}

void Driver::with_hixl(HixlTask task) {
  if (hixl_ || !has_hixl_) return task(hixl_.get());
  if (closing_ || !quieting_) return task(closed());
  deferred_.push_back(std::move(task));
}

}  // namespace ray_hixl::transport::hixl
