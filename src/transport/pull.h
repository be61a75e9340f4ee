// Puller: carries out a channel's jobs by copying, on the copy pool. What local, shm and cma share; they differ in the mover.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "control/kinds.h"
#include "memory/copy_pool.h"
#include "ray_hixl/status.h"
#include "transport/copies.h"
#include "transport/counters.h"
#include "transport/job.h"
#include "transport/mover.h"

namespace ray_hixl::transport {

// Any thread. Jobs under way may outlive it, but not the pool and the counters.
class Puller {
 public:
  // `copy_cost`: see Copies.
  Puller(memory::CopyPool& pool, Counters& counters, control::TransportKind kind, std::uint64_t copy_cost = Copies::kCopyCost);

  // Joined, and cut for the pool. Where they are of a plan that is read often, their share may keep them.
  [[nodiscard]] std::shared_ptr<const Copies> cut(std::vector<Copy> copies) const;
  // Moves the parts of `copies`: a small job in the calling thread, a larger one on the pool. The first error ends it; so does, at its next
  // part, a transfer that is stopping (job->done gets the stop_reason()) or close(). Counts the bytes of each part that was moved. Never
  // blocks otherwise.
  void pull(std::shared_ptr<Job> job, std::shared_ptr<const Copies> copies, std::shared_ptr<Mover> mover);
  // Moves it in the calling thread, and counts nothing. False if it is not little, the puller was closed, or the mover fails.
  [[nodiscard]] bool copy_now(const Copies& copies, Mover& mover) const;
  // Every job ends with `why`, the first one given; later ones, too. Returns at once.
  void close(const Status& why);
  // ok until close(); then why.
  [[nodiscard]] Status state() const;

 private:
  struct State;
  class Work;
  const std::shared_ptr<State> state_;  // shared with jobs under way
};

}  // namespace ray_hixl::transport
