// Resolver: where the owner keeps the bytes of its slots. Asks once per slot and remembers what is used often.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "control/messages.h"
#include "memory/copy_pool.h"
#include "memory/reaper.h"
#include "ray_hixl/status.h"
#include "transport/transport.h"

namespace ray_hixl::link {

// Bytes of an answer that describes many tensors: copying and decoding it, and letting it go, is not for the loop.
inline constexpr std::size_t kLargeAnswer = std::size_t{64} << 10;

// A slot's ranges in the owner's memory. Immutable, but for what was found out.
struct Resolution {
  std::vector<control::RemoteRange> ranges;      // none is empty
  std::vector<std::uint64_t> starts;             // of each range in the slot's byte space
  std::vector<control::RemoteSegment> segments;  // by base address
  std::uint64_t length = 0;
  mutable std::atomic<bool> is_owners_only{false};  // what is ordinary memory otherwise

  explicit Resolution(control::Resolved resolved);
  [[nodiscard]] std::size_t bytes() const;  // that it takes itself, about
  [[nodiscard]] transport::RemoteMemory memory_at(std::uint64_t address) const;
};

using Resolutions = std::vector<std::shared_ptr<const Resolution>>;  // by source of a plan

// Any thread may call any method. What plans in use were resolved to is kept by them (transport::Plan::kept); here is what one-time plans
// have in common, up to some megabytes.
class Resolver : public std::enable_shared_from_this<Resolver> {
 public:
  using Answer = std::function<void(Result<std::shared_ptr<const Resolution>>)>;
  static constexpr std::size_t kMostBytes = std::size_t{32} << 20;  // remembered

  // REQUIRES: `port` may be used while somebody resolves; `pool` and `reaper` outlive it.
  Resolver(transport::Port& port, memory::CopyPool& pool, memory::Reaper& reaper) : port_(port), pool_(pool), reaper_(reaper) {}

  // Answers at once in the caller's thread if it is remembered, else when the owner did: on the loop thread, or, where there is much to
  // decode, on a copy thread. `who` wants to know: once that
  // is gone, `answer` may be dropped without a call, so that askers who gave up do not add up while an owner hangs.
  void resolve(const Handle& handle, std::weak_ptr<const void> who, Answer answer);
  // What is remembered; null if the owner has to be asked.
  [[nodiscard]] std::shared_ptr<const Resolution> remembered(const Handle& handle);
  // The owner no longer has it.
  void forget(const Handle& handle);

 private:
  struct Entry {
    Handle handle;
    std::shared_ptr<const Resolution> resolution;
  };
  struct Asker {
    std::weak_ptr<const void> who;
    Answer answer;
  };

  [[nodiscard]] std::shared_ptr<const Resolution> recall(const Handle& handle) RAY_HIXL_REQUIRES(mutex_);
  void ask(const Handle& handle);
  void replied(const Handle& handle, Result<transport::Reply> reply);
  void answered(const Handle& handle, Result<transport::Reply> reply);
  void remember(const Handle& handle, const std::shared_ptr<const Resolution>& resolution) RAY_HIXL_REQUIRES(mutex_);

  transport::Port& port_;
  memory::CopyPool& pool_;
  memory::Reaper& reaper_;
  Mutex mutex_;
  std::list<Entry> recent_ RAY_HIXL_GUARDED_BY(mutex_);  // most recently used first
  std::unordered_map<Handle, std::list<Entry>::iterator> remembered_ RAY_HIXL_GUARDED_BY(mutex_);
  std::unordered_map<Handle, std::vector<Asker>> asked_ RAY_HIXL_GUARDED_BY(mutex_);
  std::size_t bytes_ RAY_HIXL_GUARDED_BY(mutex_) = 0;  // in what is remembered
};

}  // namespace ray_hixl::link
