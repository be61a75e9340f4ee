#include "engine/transports.h"

#include <algorithm>
#include <array>
#include <utility>

#include "ray_hixl/engine.h"
#include "transport/factories.h"

namespace ray_hixl {
namespace {

const TransportFactory* find_factory(std::string_view name) {
  const auto all = transport_factories();
  const auto found = std::find_if(all.begin(), all.end(), [&](const TransportFactory& f) { return control::kind_name(f.kind) == name; });
  return found == all.end() ? nullptr : &*found;
}

std::string list_reasons(const std::vector<std::pair<std::string, std::string>>& absent) {
  std::string text;
  for (const auto& [name, reason] : absent) text += (text.empty() ? "" : "; ") + name + ": " + reason;
  return text;
}

}  // namespace

std::span<const TransportFactory> transport_factories() {
  static const std::array<TransportFactory, control::kTransportKinds> kAll = {{
#define RAY_HIXL_TRANSPORT(name, kind, number, memory) \
  {control::TransportKind::k##kind, MemoryKind::k##memory, transport::name::probe, transport::name::create},
#include "base/transports.def"
  }};
  return kAll;
}

std::shared_ptr<device::Devices> choose_devices(const Options& options, memory::Reaper& reaper, std::shared_ptr<memory::Arena> source,
                                                std::function<void()> loaded) {
  for (const TransportFactory& factory : transport_factories()) {
    const bool is_allowed = std::ranges::find(options.transports, control::kind_name(factory.kind)) != options.transports.end();
    if (factory.memory != MemoryKind::kDevice || !is_allowed) continue;
    return transport::create_devices(options, reaper, std::move(source), std::move(loaded));
  }
  return device::no_devices(
      Status(Code::kNotAvailable, "NPU memory moves by hixl and staged, of which Options.transports allows neither; add one there"));
}

Result<ChosenTransports> choose_transports(const transport::Context& context) {
  ChosenTransports chosen;
  const std::vector<std::string>& allowed = context.options.transports;
  for (const std::string& name : allowed) {
    const TransportFactory* factory = find_factory(name);
    if (factory == nullptr) return Status(Code::kInvalidArgument, "unknown transport '" + name + "' in Options.transports");
    const Status probed = factory->memory == MemoryKind::kDevice ? Status::ok() : factory->probe();
    if (probed.is_ok()) {
      chosen.transports.push_back(factory->create(context));
    } else {
      chosen.absent.emplace_back(name, probed.message());
    }
  }
  for (const TransportFactory& factory : transport_factories()) {
    const std::string name(control::kind_name(factory.kind));
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
      chosen.absent.emplace_back(name, "Options.transports does not allow it; add it there to use it");
    }
  }
  if (chosen.transports.empty()) {
    return Status(Code::kNotAvailable, "no transport of Options.transports works on this machine: " + list_reasons(chosen.absent));
  }
  return chosen;
}

std::vector<TransportProbe> probe_transports() {
  std::vector<TransportProbe> probes;
  for (const TransportFactory& factory : transport_factories()) {
    const Status probed = factory.probe();
    probes.push_back({std::string(control::kind_name(factory.kind)), probed.is_ok(), probed.message()});
  }
  return probes;
}

}  // namespace ray_hixl
