// Starting HIXL's engine on a device: its options, its ports, and what to do where it does not start.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "ray_hixl/options.h"
#include "ray_hixl/status.h"
#include "transport/hixl/cann/cann.h"
#include "transport/hixl/cann/hixl.h"

namespace ray_hixl::transport::hixl {

// What both sides of a link must agree on, which the library itself would answer with a timeout: the kind of engine, what HIXL reads of the
// environment, in the sense in which it reads it, the endpoints that it is told to make, and its version, since it refuses messages of
// another size, which differs between them.
[[nodiscard]] std::string fingerprint(const Cann& cann, const Options& options);
// Do two of them agree? A version that CANN's installation does not tell agrees with any.
[[nodiscard]] bool agree(std::string_view fingerprint, std::string_view other);

// Does HIXL's engine take its port on the device's NIC only when the first link is made, as 9.1's does, and not when it is started?
[[nodiscard]] bool listens_late(const Cann& cann);

struct Started {
  std::unique_ptr<Hixl> hixl;
  std::string name;  // "ip:port": what peers connect to
};
// With ports of options.hixl_ports. Where one of them was the cause, or nobody says what it was, a new object tries others, 4 times in all:
// HIXL keeps what a failed start took. Any other cause ends it at once. The error has the code, what else the runtime said, and what to do
// about that. REQUIRES: the thread's device is set.
[[nodiscard]] Result<Started> start(const Cann& cann, const Options& options);

}  // namespace ray_hixl::transport::hixl
