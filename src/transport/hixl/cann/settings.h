// Settings: what HIXL's engine is told when it is started, in HIXL's own options.
#pragma once

#include <string>

#include "ray_hixl/options.h"
#include "ray_hixl/status.h"
#include "transport/hixl/cann/api.h"
#include "transport/hixl/cann/cann.h"
#include "transport/hixl/cann/ports.h"

namespace ray_hixl::transport::hixl {

class Settings {
 public:
  // What these options mean to that library. kNotAvailable where it cannot do what one of them asks for, kInvalidArgument where the file of
  // hixl_local_comm_res is none.
  [[nodiscard]] static Result<Settings> of(const Cann& cann, const Options& options);
  [[nodiscard]] HixlOptions with(const Ports& ports) const;

 private:
  Settings(bool client_server, const Options& options) : client_server_(client_server), options_(options) {}

  bool client_server_;
  Options options_;
  std::string comm_res_;
};

}  // namespace ray_hixl::transport::hixl
