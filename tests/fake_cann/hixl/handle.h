// What a hixl::Hixl object points to, and the rules of calling it.
#pragma once

#include <memory>
#include <mutex>

#include "hixl/engine.h"

namespace hixl {

struct Handle {
  std::mutex mutex;
  std::shared_ptr<fake_hixl::Engine> engine;  // guarded by mutex, as below; null before Initialize and after Finalize
  int calls = 0;                              // that are under way
  bool is_exclusive = false;                  // Initialize or Finalize is under way
};

}  // namespace hixl

namespace fake_hixl {

enum class NeedsContext : bool { kNo, kYes };

// Counts a call while it lives, and ends a strict process that calls as nobody may.
class Call {
 public:
  Call(hixl::Handle& handle, const char* name, NeedsContext needs);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Null if the object is not initialised; then `status()` says so.
  [[nodiscard]] Engine* engine() const { return engine_.get(); }
  [[nodiscard]] Status not_initialised() const;

 private:
  hixl::Handle& handle_;
  const char* const name_;
  std::shared_ptr<Engine> engine_;
};

// The same for Initialize and Finalize, which must be alone.
class ExclusiveCall {
 public:
  ExclusiveCall(hixl::Handle& handle, const char* name);
  ~ExclusiveCall();
  ExclusiveCall(const ExclusiveCall&) = delete;
  ExclusiveCall& operator=(const ExclusiveCall&) = delete;

 private:
  hixl::Handle& handle_;
};

}  // namespace fake_hixl
