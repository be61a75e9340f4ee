// The explicit list of transports, and the choice of those that an engine runs with.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "control/kinds.h"
#include "ray_hixl/status.h"
#include "transport/hixl/devices.h"
#include "transport/transport.h"

namespace ray_hixl {

// One row per transport of this build.
struct TransportFactory {
  control::TransportKind kind{};
  Status (*probe)() = nullptr;
  std::unique_ptr<transport::Transport> (*create)(const transport::Context& context,
                                                  std::shared_ptr<transport::hixl::Devices> devices) = nullptr;
};
[[nodiscard]] std::span<const TransportFactory> transport_factories();

struct ChosenTransports {
  std::vector<std::unique_ptr<transport::Transport>> transports;  // in the order of options.transports
  std::vector<std::pair<std::string, std::string>> absent;        // every other transport -> a sentence why
};
// Makes those that the options allow and this machine can do; hixl without asking, since that would load CANN. Without any: kNotAvailable
// with every reason.
[[nodiscard]] Result<ChosenTransports> choose_transports(const transport::Context& context,
                                                         const std::shared_ptr<transport::hixl::Devices>& devices);

}  // namespace ray_hixl
