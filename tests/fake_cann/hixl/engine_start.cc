// Initialize.
#include <sys/prctl.h>

#include <csignal>

#include "hixl/engine.h"
#include "hixl/engines.h"
#include "runtime/acl.h"
#include "runtime/fake_cann.h"

namespace fake_hixl {
namespace {

using hixl::kFailed;
using hixl::kParamInvalid;
using hixl::kSuccess;

// 9.1's HixlEngine takes the port of the card when its first channel is made; CommEngine is not known to have changed.
bool listens_at_once(Kind kind) { return kind == Kind::kCommEngine || flavour() != Flavour::k91; }

Status open_nic(const Options& options, int device, Nic& nic) {
  const bool is_needed = options.kind == Kind::kCommEngine
                             ? options.soc != Soc::k950
                             : needs_device_ip(options.soc, options.comm_res, options.resources.protocol_desc);
  const Status status = find_nic(device, is_needed, nic);
  if (status != kSuccess || !listens_at_once(options.kind)) return status;
  return listen_at_nic(options.soc, flavour(), options.resources.listen_port, nic);
}

}  // namespace

Status Engine::create(const std::string& name, const OptionMap& given, std::shared_ptr<Engine>& engine) {
  const auto address = parse_address(name);
  if (!address) return fail(kParamInvalid, "'" + name + "' is no ip:port");
  const char* soc_name = aclrtGetSocName();
  Options options;
  Status status = parse_options(given, soc_name == nullptr ? "" : soc_name, flavour(), options);
  if (status != kSuccess) return status;
  if (const std::string why = next_initialize_failure(); !why.empty()) return fail(kFailed, "Initialize: " + why);
  Self self{rules_of(options.kind, flavour()), options.soc, name, fake_cann_current_physical_device(), "", {}};
  if (options.kind == Kind::kCommEngine) self.rules.most_channels = static_cast<std::size_t>(options.resources.max_channel);
  status = find_endpoints(options.soc, options.comm_res, options.resources.protocol_desc, address->ip, self.endpoints);
  Nic nic;
  if (status == kSuccess) status = open_nic(options, self.device, nic);
  std::unique_ptr<DeviceHold> hold;
  if (status == kSuccess && self.rules.uses_slots) status = DeviceHold::take(self.device, options.resources.max_active_channels, hold);
  if (status != kSuccess) return status;
  Fd listening;
  if (address->port > 0 && !(listening = listen_at(*address)).is_open()) {
    if (hold != nullptr) leave_behind(std::move(hold));
    return fail(kFailed, "cannot listen at " + name);
  }
  (void)std::signal(SIGPIPE, SIG_IGN);             // of the whole process, as the real one does
  ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0);  // peers read our host memory, also where Yama restricts that
  self.nic_ip = nic.ip;
  engine.reset(new Engine(std::move(self), options, std::move(hold), std::move(nic)));
  if (listening.is_open()) {
    engine->listener_ =
        std::make_unique<Listener>(std::move(listening), engine->self_.rules.names_are_identities,
                                   [it = engine.get()](const Hello& hello, std::size_t links) { return it->greet(hello, links); });
  }
  add_engine(engine.get());
  return kSuccess;
}

}  // namespace fake_hixl
