// The engines of this process, by incarnation: what lets one read another's slots directly.
//
// Process-wide, because engines of one process know of each other only by their descriptors. Never destroyed: engines may end while the
// process exits. Empty in a forked child, to which the parent is another process. Any thread.
#pragma once

#include <memory>

#include "memory/slots.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"

namespace ray_hixl::transport::local {

// Listed for as long as it lives.
class Listing {
 public:
  Listing(const Incarnation& self, const memory::SlotTable& slots);
  ~Listing();
  Listing(const Listing&) = delete;
  Listing& operator=(const Listing&) = delete;

 private:
  const Incarnation self_;
};

[[nodiscard]] bool is_listed(const Incarnation& engine);
// The content of a slot of another engine of this process. kPeerGone if that engine ended.
[[nodiscard]] Result<std::shared_ptr<const memory::SlotContent>> pin(const Incarnation& engine, const Handle& handle);

// Is it still live? ok, or why not. What was read from its pinned content before the call is what the handle stands for.
[[nodiscard]] Status check_live(const Incarnation& engine, const Handle& handle);

}  // namespace ray_hixl::transport::local
