// Puller: carries out a channel's jobs by copying, on the copy pool. What local, shm and cma share; they differ in the mover.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "control/kinds.h"
#include "memory/copy_pool.h"
#include "ray_hixl/status.h"
#include "transport/counters.h"
#include "transport/job.h"

namespace ray_hixl::transport {

// One contiguous copy. `from` is an address in the space that the mover reads: this process, or the owner's.
struct Copy {
  std::byte* to = nullptr;
  std::uint64_t from = 0;
  std::uint64_t length = 0;
};

// Moves some copies, all of them or an error. Called from several threads at once.
class Mover {
 public:
  virtual ~Mover() = default;
  [[nodiscard]] virtual Status move(std::span<const Copy> copies) = 0;
};

// Copies within this process. Keeps `holds` (pins, mappings) for as long as it may copy.
[[nodiscard]] std::shared_ptr<Mover> memcpy_mover(std::shared_ptr<const void> holds);

// Any thread. Jobs under way may outlive it, but not the pool and the counters.
class Puller {
 public:
  Puller(memory::CopyPool& pool, Counters& counters, control::TransportKind kind);

  // Cuts `copies` into parts of about a millisecond and moves them: a small job in the calling thread, a larger one on the pool. The first
  // error ends it; so does, at its next part, a transfer that is stopping (job->done gets the stop_reason()) or close(). Counts the bytes
  // of each part that was moved. Never blocks otherwise.
  void pull(std::shared_ptr<Job> job, std::span<const Copy> copies, std::shared_ptr<Mover> mover);
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
