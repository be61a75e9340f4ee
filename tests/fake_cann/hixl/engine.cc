#include "hixl/engine.h"

#include <unistd.h>

#include <cstdlib>
#include <thread>
#include <utility>

#include "hixl/engines.h"
#include "hixl/faults.h"
#include "runtime/fake_cann.h"

namespace fake_hixl {
namespace {

using hixl::kFailed;
using hixl::kParamInvalid;
using hixl::kSuccess;

// The environment is read at Connect, as the real one does.
bool is_within(const char* variable, long least, long most) {
  const char* text = std::getenv(variable);
  return text == nullptr || (std::atol(text) >= least && std::atol(text) <= most);
}

std::mutex& connect_mutex() {
  static std::mutex& instance = *new std::mutex;
  return instance;
}

int whole_seconds(int timeout_ms) { return static_cast<int>((static_cast<long>(timeout_ms) + 999) / 1000 * 1000); }

Welcome refuse(Status status, const std::string& why) {
  Welcome welcome;
  welcome.status = status;
  welcome.why = why;
  return welcome;
}

}  // namespace

Engine::Engine(Self self, const Options& options, std::unique_ptr<DeviceHold> hold, Nic nic)
    : self_(std::move(self)),
      options_(options),
      hold_(std::move(hold)),
      nic_(std::move(nic)),
      regions_(self_.rules, self_.soc, self_.device, self_.endpoints),
      requests_(self_.rules.numbers_requests),
      connect_pool_(std::make_unique<ConnectPool>(
          ConnectPool::Verbs{[this](const std::string& remote, int timeout_ms) { return connect(remote, timeout_ms); },
                             [this](const std::string& remote) { return close(remote); }},
          options.resources.connect_threads, options.resources.connect_queue)) {}

Engine::~Engine() { finalize(); }

void Engine::finalize() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(is_finalized_, true)) return;
  }
  remove_engine(this);
  connect_pool_.reset();
  listener_.reset();
  while (true) {
    std::shared_ptr<Link> link;
    {
      const std::lock_guard lock(mutex_);
      if (links_.empty()) break;
      link = links_.begin()->second;
    }
    const std::lock_guard lock(link->mutex());
    (void)close(link);
  }
  hold_.reset();
}

Welcome Engine::greet(const Hello& hello, std::size_t inbound_links) {
  const Rules& rules = self_.rules;
  if (hello.kind != rules.kind) return refuse(kFailed, "the peer runs the other engine");
  if (rules.names_are_identities && hello.server != self_.name) return refuse(kFailed, "its name is " + self_.name);
  if (rules.refuses_same_device && hello.nic_ip == self_.nic_ip) return refuse(kParamInvalid, "both engines are on one device");
  if (rules.most_channels > 0 && links() + inbound_links >= rules.most_channels) {
    return refuse(hixl::kResourceExhausted, "it has no channel left");
  }
  if (!nic_.listener.is_open()) {  // 9.1 did not do so before: nothing says that the port is taken until somebody connects
    const Status status = listen_at_nic(self_.soc, flavour(), options_.resources.listen_port, nic_);
    if (status != kSuccess) return refuse(status, "it cannot make a channel: a port of its network card is taken");
  }
  Welcome welcome;
  welcome.pid = ::getpid();
  welcome.keys_fd = own_keys_fd();
  welcome.nic_ip = self_.nic_ip;
  welcome.endpoints = self_.endpoints;
  welcome.regions = regions_.list();
  for (const Region& region : welcome.regions) {
    if (region.device >= 0) welcome.heaps[region.device] = fake_cann_heap_fd(region.device);
  }
  return welcome;
}

Status Engine::add_region(const hixl::MemDesc& memory, hixl::MemType kind, hixl::MemHandle& handle) {
  return regions_.add(memory, kind, handle);
}

Status Engine::remove_region(hixl::MemHandle handle) {
  if (self_.rules.guards_deregistration && links() > 0) return fail(kFailed, "DeregisterMem: all links must be disconnected before");
  regions_.remove(handle);
  return kSuccess;
}

Status Engine::connect(const std::string& remote, int timeout_ms) {
  const auto address = parse_address(remote);
  if (!address || address->port == 0) return fail(kParamInvalid, "Connect to '" + remote + "', which is no ip:port");
  if (remote == self_.name) return fail(kParamInvalid, "Connect to the engine itself");
  if (!is_within("HCCL_RDMA_TIMEOUT", 5, 20) || !is_within("HCCL_RDMA_RETRY_CNT", 1, 7)) {
    return fail(kParamInvalid, "HCCL_RDMA_TIMEOUT or HCCL_RDMA_RETRY_CNT is out of range");
  }
  std::unique_lock<std::mutex> turn;
  if (self_.rules.serialises_connect) {
    turn = std::unique_lock(connect_mutex());
    timeout_ms = whole_seconds(timeout_ms);
  }
  const auto link = std::make_shared<Link>(self_, remote);
  const std::lock_guard connecting(link->mutex());
  {
    const std::lock_guard lock(mutex_);
    if (is_finalized_) return fail(kFailed, "Connect after Finalize");
    if (links_.contains(remote)) return fail(hixl::kAlreadyConnected, "Connect to " + remote + ": there is a link, dead or alive");
    if (self_.rules.most_channels > 0 && links_.size() + inbound_links() >= self_.rules.most_channels) {
      return fail(hixl::kResourceExhausted, "the engine has no channel left");
    }
    links_[remote] = link;
  }
  const Status status = link->connect(*address, regions_.list(), std::chrono::milliseconds(timeout_ms));
  if (status != kSuccess) forget(link);
  return status;
}

std::shared_ptr<Link> Engine::find(const std::string& remote) {
  const std::lock_guard lock(mutex_);
  const auto found = links_.find(remote);
  return found == links_.end() ? nullptr : found->second;
}

void Engine::forget(const std::shared_ptr<Link>& link) {
  const std::lock_guard lock(mutex_);
  const auto found = links_.find(link->remote());
  if (found != links_.end() && found->second == link) links_.erase(found);
}

// REQUIRES: the link's mutex is held.
Status Engine::close(const std::shared_ptr<Link>& link) {
  const bool was_connected = link->is_connected();
  link->close();
  requests_.drop(*link, !self_.rules.forgets_on_disconnect);
  forget(link);
  return was_connected ? kSuccess : fail(hixl::kNotConnected, "Disconnect of " + link->remote() + ", which is not connected");
}

// Waits for a Connect or a synchronous transfer that is under way.
Status Engine::close(const std::string& remote) {
  const auto link = find(remote);
  if (link == nullptr) return fail(hixl::kNotConnected, "Disconnect of " + remote + ", which is not connected");
  const std::lock_guard lock(link->mutex());
  std::this_thread::sleep_for(disconnect_delay(remote));
  return close(link);
}

Status Engine::disconnect(const std::string& remote) {
  const Status status = close(remote);
  connect_pool_->forget(remote);
  return status;
}

std::size_t Engine::links() {
  const std::lock_guard lock(mutex_);
  return links_.size();
}

}  // namespace fake_hixl
