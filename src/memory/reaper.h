// Reaper: the thread on which owners of memory are dropped.
//
// An owner may be a Python object whose destruction takes the GIL. No engine thread may ever wait for the GIL, so owners end here.
#pragma once

#include <functional>
#include <memory>

namespace ray_hixl::memory {

class Reaper {
 public:
  Reaper();
  ~Reaper();  // stop()
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  // Drops this reference on the reaper thread, which starts at the first call. Any thread; never blocks on what the owner's destructor
  // does. After stop() the reference is dropped in the caller; in a forked child it is leaked on purpose.
  void drop(std::shared_ptr<const void> owner);
  // drop() as a function that may outlive the reaper.
  [[nodiscard]] std::function<void(std::shared_ptr<const void>)> dropper();
  // The same owner behind a pointer whose last copy, wherever it dies, is dropped here. REQUIRES: the reaper outlives it, or was stopped.
  [[nodiscard]] std::shared_ptr<const void> adopt(std::shared_ptr<const void> owner);
  // The same object behind a pointer whose last copy, where it dies on an event loop (base/thread.h), is dropped here; elsewhere it is
  // dropped on the spot. For what takes long to let go: mappings, lists of a million pieces. REQUIRES: as adopt().
  template <class T>
  [[nodiscard]] std::shared_ptr<T> off_loop(std::shared_ptr<T> object) {
    T* const address = object.get();
    return {address, [impl = impl_, kept = std::shared_ptr<const void>(std::move(object))](T*) mutable { let_go(*impl, std::move(kept)); }};
  }
  // Drops everything that waits and joins the thread. Idempotent. Not from the reaper thread. Callers that hold the GIL release it first.
  void stop();
  // Is this the reaper thread? Then stop() must be left to another one.
  [[nodiscard]] bool on_reaper() const;

 private:
  struct Impl;
  static void let_go(Impl& impl, std::shared_ptr<const void> object);
  std::shared_ptr<Impl> impl_;  // shared with adopted pointers, so that they may die late
};

}  // namespace ray_hixl::memory
