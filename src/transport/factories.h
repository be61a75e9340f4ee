// What the folder of each transport defines: one pair of functions in a namespace of its name.
#pragma once

#include <memory>

#include "transport/transport.h"

#define RAY_HIXL_TRANSPORT(name, kind, number, memory)                                                                    \
  namespace ray_hixl::transport::name {                                                                                   \
  /* ok, or a sentence (kNotAvailable) why this machine cannot do it and what to do about it. Needs no engine. */         \
  [[nodiscard]] Status probe();                                                                                           \
  /* REQUIRES: probe() is ok, unless it moves device memory: then nothing of its runtime is touched before it is used. */ \
  [[nodiscard]] std::unique_ptr<Transport> create(const Context& context);                                                \
  }
#include "base/transports.def"
