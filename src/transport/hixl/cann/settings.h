// Settings: what HIXL's engine is told when it is started, in HIXL's own options.
#pragma once

#include <string>
#include <string_view>

#include "ray_hixl/options.h"
#include "ray_hixl/status.h"
#include "transport/hixl/cann/api.h"
#include "transport/hixl/cann/cann.h"
#include "transport/hixl/cann/ports.h"

namespace ray_hixl::transport::hixl {

// HCCL_INTRA_ROCE_ENABLE as HIXL reads it: 1, and everything else is no.
[[nodiscard]] bool roce_is_forced();

class Settings {
 public:
  // What these options mean to that library. kNotAvailable where it cannot do what one of them asks for, kInvalidArgument where the file of
  // hixl_local_comm_res is none.
  [[nodiscard]] static Result<Settings> of(const Cann& cann, const Options& options);
  [[nodiscard]] HixlOptions with(const Ports& ports) const;
  // Does HIXL take HCCS between two engines of one host that both have these settings? It takes it before RoCE, also where both are on one
  // device.
  [[nodiscard]] bool prefer_hccs() const;
  // Do they reach pinned host memory, of this side or `there`? kNotAvailable: HCCS, which does not (on A3: that of a peer). `peer`: the
  // other engine's name.
  [[nodiscard]] Status reach_host_memory(bool there, std::string_view peer) const;

 private:
  Settings(const Cann& cann, const Options& options)
      : client_server_(cann.client_server),
        has_hccs_(!cann.soc.starts_with("Ascend950")),
        is_a3_(cann.soc.starts_with("Ascend910_93")),
        options_(options) {}

  bool client_server_;
  bool has_hccs_;  // the chip
  bool is_a3_;
  Options options_;
  std::string comm_res_;
};

}  // namespace ray_hixl::transport::hixl
