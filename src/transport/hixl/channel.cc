#include "transport/hixl/channel.h"

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "transport/hixl/delivery.h"

namespace ray_hixl::transport::hixl {

class HixlChannel::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(const Context& context, std::shared_ptr<Npus> npus, const PeerView& peer, Port& port)
      : npus_(std::move(npus)),
        shared_(std::make_shared<DeliveryContext>(DeliveryContext{
            context, *npus_, peer,
            std::make_shared<Locator>(
                port, [kept = npus_](const std::string& engine, std::function<void()> done) { take_down(*kept, engine, std::move(done)); }),
            peer.same_pid_namespace && peer.welcome.pid == context.process.pid, [this] { return state(); }})) {}

  // Within this process the runtime copies.
  [[nodiscard]] Status usable() const { return shared_->same_process ? npus_->usable() : npus_->can_link(); }
  [[nodiscard]] Status moves_pinned() const {
    if (shared_->same_process) return Status(Code::kNotAvailable, "within a process host memory is copied");
    return npus_->can_link();
  }
  [[nodiscard]] Status unlinked(bool of_hosts) const { return shared_->unlinked->any(of_hosts); }
  void submit(std::shared_ptr<Job> job);
  void heed_stops();
  void close(const Status& why);

 private:
  using Deliveries = std::set<std::shared_ptr<Delivery>>;
  static void take_down(const Npus& npus, const std::string& engine, std::function<void()> done);
  [[nodiscard]] Deliveries deliveries();
  [[nodiscard]] Status state();
  void forget(const Delivery& ended);

  const std::shared_ptr<Npus> npus_;
  const std::shared_ptr<const DeliveryContext> shared_;
  Mutex mutex_;
  Deliveries deliveries_ RAY_HIXL_GUARDED_BY(mutex_);
  Status closed_ RAY_HIXL_GUARDED_BY(mutex_);
};

void HixlChannel::Impl::submit(std::shared_ptr<Job> job) {
  Status closed;
  std::shared_ptr<Delivery> delivery;
  {
    const MutexLock lock(mutex_);
    closed = closed_;
    if (closed.is_ok()) {
      delivery =
          std::make_shared<Delivery>(shared_, this, job, [self = shared_from_this()](const Delivery& ended) { self->forget(ended); });
      deliveries_.insert(delivery);
    }
  }
  if (!closed.is_ok()) return job->end(closed);
  job.reset();
  delivery->start();
}

// The links of all NPUs here to an engine of the peer's; `done` when the last one is down.
void HixlChannel::Impl::take_down(const Npus& npus, const std::string& engine, std::function<void()> done) {
  const std::shared_ptr<void> when_last_is_down(nullptr, [done = std::move(done)](void*) { done(); });
  for (const auto& npu : npus.all_started()) npu->driver().recall(engine, [when_last_is_down] {});
}

void HixlChannel::Impl::forget(const Delivery& ended) {
  const MutexLock lock(mutex_);
  std::erase_if(deliveries_, [&](const auto& each) { return each.get() == &ended; });
}

Status HixlChannel::Impl::state() {
  const MutexLock lock(mutex_);
  return closed_;
}

HixlChannel::Impl::Deliveries HixlChannel::Impl::deliveries() {
  const MutexLock lock(mutex_);
  return deliveries_;
}

void HixlChannel::Impl::heed_stops() {
  bool moving = false;
  for (const auto& delivery : deliveries()) {
    if (!delivery->stopping()) continue;
    delivery->end_if_still(delivery->transfer()->stop_reason());
    moving = true;
  }
  if (!moving) return;
  for (const auto& npu : npus_->all_started()) npu->driver().heed_stops();
}

void HixlChannel::Impl::close(const Status& why) {
  {
    const MutexLock lock(mutex_);
    if (!closed_.is_ok()) return;
    closed_ = why;
  }
  for (const auto& delivery : deliveries()) {
    delivery->end_if_still(why);
    delivery->transfer()->request_stop(why);  // ends it in time, too, if HIXL does not let go of the rest
  }
  for (const auto& npu : npus_->all_started()) npu->driver().abandon(this, why);
}

HixlChannel::HixlChannel(const Context& context, const std::shared_ptr<Npus>& npus, const PeerView& peer, Port& port)
    : impl_(std::make_shared<Impl>(context, npus, peer, port)) {}

HixlChannel::~HixlChannel() = default;

Status HixlChannel::can_read(RemoteMemory memory) const {
  if (memory == RemoteMemory::kDevice) return impl_->usable();
  if (memory == RemoteMemory::kPinned) return impl_->moves_pinned();
  return Status(Code::kNotAvailable,
                is_host(memory) ? "it moves device memory, and host memory that is pinned on both sides; the others move host memory"
                                : "it moves between device memory and host memory that is pinned; staged moves any");
}

Status HixlChannel::reads_now(RemoteMemory memory) const {
  const Status can = can_read(memory);
  return can.is_ok() ? impl_->unlinked(memory == RemoteMemory::kPinned) : can;
}

void HixlChannel::submit(std::shared_ptr<Job> job) { impl_->submit(std::move(job)); }
void HixlChannel::heed_stops() { impl_->heed_stops(); }
void HixlChannel::close(const Status& why) { impl_->close(why); }

}  // namespace ray_hixl::transport::hixl
