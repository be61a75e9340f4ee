// The stream transport: see transport.cc for how it moves bytes.
#pragma once

#include <memory>

#include "transport/transport.h"

namespace ray_hixl::transport::stream {

// ok, or a sentence (kNotAvailable) why this machine cannot do it and what to do about it. Needs no engine.
[[nodiscard]] Status probe();
// REQUIRES: probe() is ok.
[[nodiscard]] std::unique_ptr<Transport> create(const Context& context);

}  // namespace ray_hixl::transport::stream
