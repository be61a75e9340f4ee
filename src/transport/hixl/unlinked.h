// Unlinked: pairs of devices that HIXL did not link a moment ago. Who has another way does not wait for that again.
#pragma once

#include <map>
#include <string>

#include "base/deadline.h"
#include "base/mutex.h"
#include "ray_hixl/status.h"
#include "transport/hixl/route.h"

namespace ray_hixl::transport::hixl {

// For messages.
[[nodiscard]] std::string names_of(const Ends& ends);

// Any thread may call any method.
class Unlinked {
 public:
  // Remembered until then, unless something is already. False where it was so before.
  bool add(const Ends& ends, const Status& why, Deadline until);
  // They are linked. False where nothing else was known.
  bool remove(const Ends& ends);
  // What was added, as long as it is remembered; else ok.
  [[nodiscard]] Status find(const Ends& ends) const;
  // The same of any pair, with its name; `of_hosts`: also where only host memory is not reached.
  [[nodiscard]] Status any(bool of_hosts) const;

 private:
  struct Entry {
    Deadline until;
    Status why;
  };
  mutable Mutex mutex_;
  std::map<Ends, Entry> pairs_ RAY_HIXL_GUARDED_BY(mutex_);
};

}  // namespace ray_hixl::transport::hixl
