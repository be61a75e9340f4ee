// EngineImpl: everything an engine owns, and the order in which it starts and ends. What Engine, Region, Peer and Objects stand on.
//
// Shared by every Engine and Peer handle. Nothing that runs on a thread of the engine holds it. When the last pointer goes without close()
// before, it is closed on a thread made for that, because closing joins threads and the last pointer may die anywhere: on the reaper, or
// in a thread that holds Python's GIL. In a forked child it is leaked on purpose: threads and sockets are the parent's.
// Any thread may call any method.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "device/devices.h"
#include "engine/at_exit.h"
#include "link/links.h"
#include "link/server.h"
#include "memory/arena.h"
#include "memory/copy_pool.h"
#include "memory/reaper.h"
#include "memory/slots.h"
#include "net/loop.h"
#include "ray_hixl/engine.h"
#include "transport/counters.h"
#include "transport/transfer_state.h"
#include "transport/transport.h"

namespace ray_hixl {

// A timeout that a caller gave; a negative one counts as zero.
[[nodiscard]] inline Deadline deadline_in(std::chrono::nanoseconds timeout) {
  return Deadline::in(timeout < std::chrono::nanoseconds::zero() ? std::chrono::nanoseconds::zero() : timeout);
}

// Not ok where no time is left before the peer is asked for anything, which says nothing of the peer.
[[nodiscard]] Status check_time(Deadline deadline, const control::EngineDescriptor& peer);

class EngineImpl : public std::enable_shared_from_this<EngineImpl> {
 public:
  [[nodiscard]] static Result<std::shared_ptr<EngineImpl>> create(const Options& options);
  EngineImpl(const EngineImpl&) = delete;
  EngineImpl& operator=(const EngineImpl&) = delete;

  // kClosed after close() and in a forked child. Asked first by every call.
  [[nodiscard]] Status check() const;
  // Nothing may be touched there: memory is a copy, threads and generations are the parent's.
  [[nodiscard]] bool in_child() const noexcept { return guard_.in_child(); }
  // See Engine::close(). A concurrent second call waits for the first. On a thread of the engine itself it only starts closing.
  void close();

  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] const Incarnation& self() const { return context_->self; }
  [[nodiscard]] const Bytes& descriptor() const { return descriptor_; }
  [[nodiscard]] Stats stats() const;

  [[nodiscard]] memory::Reaper& reaper() { return reaper_; }
  [[nodiscard]] memory::SlotTable& slots() { return *slots_; }
  [[nodiscard]] memory::Arena& source_arena() { return *source_; }
  [[nodiscard]] memory::Arena& landing_arena() { return *landing_; }
  [[nodiscard]] memory::CopyPool& copy_pool() { return *pool_; }
  [[nodiscard]] device::Devices& devices() { return *devices_; }
  [[nodiscard]] link::Links& links() { return *links_; }
  // The link to that peer, opened if there is none; waits for it.
  [[nodiscard]] Result<std::shared_ptr<link::Link>> open_link(const control::EngineDescriptor& peer, Deadline deadline);
  // Transports that this engine runs without -> why.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& absent_transports() const { return absent_; }

  // A slot for a region or an object. On failure the content's owner goes to the reaper.
  enum class SlotUse { kRegion, kObject };
  [[nodiscard]] Result<Handle> publish_slot(memory::SlotContent content, SlotUse use);
  // False if it was not live; without effect in a forked child.
  bool retire_slot(const Handle& handle, SlotUse use);

  // A transfer that is counted as started now and as ended when it ends. `explain` (may be null) turns a failure into the one to report.
  [[nodiscard]] std::shared_ptr<transport::TransferState> new_transfer(Deadline deadline,
                                                                       transport::TransferState::Settle explain = nullptr);

 private:
  explicit EngineImpl(const Options& options);
  ~EngineImpl();
  static void let_go(EngineImpl* engine) noexcept;
  // On a thread made for that. REQUIRES: the loop runs.
  void close_elsewhere(const std::function<void()>& closing) noexcept;
  [[nodiscard]] Status start();
  [[nodiscard]] Status start_memory_and_threads();
  [[nodiscard]] Status start_transports();
  [[nodiscard]] Status start_network();
  [[nodiscard]] bool on_own_thread() const;
  [[nodiscard]] bool stopped();
  void stop() RAY_HIXL_REQUIRES(close_mutex_);
  void give_back_when_idle(memory::Arena& arena);
  void look_for_idleness(memory::Arena& arena);
  void shut_down_transports();
  [[nodiscard]] std::atomic<std::uint64_t>& live_count(SlotUse use) { return use == SlotUse::kRegion ? regions_ : objects_; }

  const Running running_{*this};
  const Options options_;
  const ProcessGuard guard_;
  memory::Reaper reaper_;
  std::unique_ptr<memory::SlotTable> slots_;
  std::shared_ptr<memory::Arena> source_;   // shared with its blocks, which may outlive the engine
  std::shared_ptr<memory::Arena> landing_;  // likewise
  std::unique_ptr<net::Loop> loop_;
  std::unique_ptr<net::Processes> processes_;
  std::unique_ptr<memory::CopyPool> pool_;
  std::shared_ptr<transport::Counters> counters_;  // shared with transfers, whose handles may outlive the engine
  std::optional<transport::Context> context_;
  std::shared_ptr<device::Devices> devices_;  // shared with transports
  std::vector<std::unique_ptr<transport::Transport>> transports_;
  std::vector<std::pair<std::string, std::string>> absent_;
  std::unique_ptr<link::Server> server_;
  std::unique_ptr<link::Links> links_;
  Bytes descriptor_;

  std::atomic<std::uint64_t> regions_{0};
  std::atomic<std::uint64_t> objects_{0};
  std::atomic<std::uint64_t> objects_published_{0};

  std::atomic<bool> closed_{false};
  Mutex close_mutex_;  // held while closing, so that a second call waits for the end of the first
  bool stopped_ RAY_HIXL_GUARDED_BY(close_mutex_) = false;
};

}  // namespace ray_hixl
