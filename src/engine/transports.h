// The transports of this build, and the choice of those that an engine runs with.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "control/kinds.h"
#include "device/devices.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "transport/transport.h"

namespace ray_hixl {

// One row of base/transports.def, with what the transport's folder defines.
struct TransportFactory {
  control::TransportKind kind{};
  MemoryKind memory{};  // what it moves
  Status (*probe)() = nullptr;
  std::unique_ptr<transport::Transport> (*create)(const transport::Context& context) = nullptr;
};
[[nodiscard]] std::span<const TransportFactory> transport_factories();

struct ChosenTransports {
  std::vector<std::unique_ptr<transport::Transport>> transports;  // in the order of options.transports
  std::vector<std::pair<std::string, std::string>> absent;        // every other transport -> a sentence why
};
// The NPUs of an engine; none where the options do not allow what moves their memory.
[[nodiscard]] std::shared_ptr<device::Devices> choose_devices(const Options& options, memory::Reaper& reaper,
                                                              std::shared_ptr<memory::Arena> source, std::function<void()> loaded);
// Makes those that the options allow and this machine can do; those of device memory without asking, since that would load the device's
// libraries. Without any: kNotAvailable with every reason.
[[nodiscard]] Result<ChosenTransports> choose_transports(const transport::Context& context);

}  // namespace ray_hixl
