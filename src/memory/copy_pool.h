// CopyPool: the few threads that copy. They start at the first work and sleep when there is none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "ray_hixl/status.h"

namespace ray_hixl::memory {

// Work in parts that may run at once, on any pool thread. A part should take about a millisecond, so that cancelling and deadlines, which
// the work itself checks at the start of each part, are prompt.
class CopyWork {
 public:
  virtual ~CopyWork() = default;
  [[nodiscard]] virtual std::size_t parts() const = 0;
  // False: nothing is left to do. Parts that were not begun yet are not run then, so that a work that is stopped does not wait for its turn
  // part by part.
  virtual bool run(std::size_t part) = 0;
  // After the last part returned, exactly once, on the pool thread that ran it. No thread touches the work afterwards.
  virtual void finished() = 0;
};

class CopyPool {
 public:
  // threads: 0 = one per core, at most 4.
  explicit CopyPool(std::uint32_t threads);
  ~CopyPool();  // stop()
  CopyPool(const CopyPool&) = delete;
  CopyPool& operator=(const CopyPool&) = delete;

  // Any thread. Works take turns part by part, so that a small one does not wait for a large one. Work without parts is finished in the
  // caller. Where it fails the work was not taken and finished() is not called: kClosed after stop() and in a forked child, kOutOfMemory if
  // the system gives no thread at all.
  [[nodiscard]] Status submit(std::shared_ptr<CopyWork> work);
  // The same for work in one part.
  [[nodiscard]] Status run(std::function<void()> task);
  // Finishes what was submitted (works see their stop flags), joins. Idempotent. Not from a pool thread.
  void stop();
  [[nodiscard]] std::uint32_t threads() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ray_hixl::memory
