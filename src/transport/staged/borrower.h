// Borrower: the reader's half of staged where the owner's segments can be mapped: asks for a few parts ahead, copies each out of the
// mapping to its place, host memory or a device's, and gives it back. What a part brings counts only if it was still lent after it was
// copied: see lender.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "transport/transport.h"

namespace ray_hixl::transport::staged {

class Borrower {
 public:
  // Takes a job that the owner does not lend all of, from its beginning. Nothing writes for it. Loop thread.
  using Otherwise = std::function<void(std::shared_ptr<Job> job)>;

  // `parts`: how many the owner lends at a time. `context` and `port` outlive the jobs.
  Borrower(const Context& context, Port& port, std::uint32_t parts, Otherwise otherwise);
  ~Borrower();
  Borrower(const Borrower&) = delete;
  Borrower& operator=(const Borrower&) = delete;

  // As a channel's. REQUIRES: all of the job's bytes lie in devices of the owner.
  void submit(std::shared_ptr<Job> job);
  void heed_stops();
  void close(const Status& why);
  void forget(std::uint32_t segment);

 private:
  struct Borrowing;
  struct Impl;
  const std::shared_ptr<Impl> impl_;  // shared with tasks and answers that are to come
};

}  // namespace ray_hixl::transport::staged
