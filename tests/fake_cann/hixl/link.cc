#include "hixl/link.h"

#include <algorithm>
#include <thread>

#include "hixl/slots.h"

namespace fake_hixl {
namespace {

using hixl::kFailed;
using hixl::kParamInvalid;
using hixl::kSuccess;

using Piece = Snapshot::Piece;

// Of the runtime: such codes come through as they are.
constexpr Status kNoDeviceMemory = 207018;
constexpr Status kStreamGone = 107003;  // which of them it is, is not known

// Cuts both sides of a descriptor where one of them goes on in another region.
void cut(const std::vector<Piece>& local, const std::vector<Piece>& remote, std::vector<Move>& moves) {
  std::size_t in_local = 0;
  std::size_t in_remote = 0;
  for (auto mine = local.begin(), theirs = remote.begin(); mine != local.end() && theirs != remote.end();) {
    const std::size_t length = std::min(mine->length - in_local, theirs->length - in_remote);
    moves.push_back({mine->region, mine->inside + in_local, theirs->region, theirs->inside + in_remote, length, false});
    if ((in_local += length) == mine->length) ++mine, in_local = 0;
    if ((in_remote += length) == theirs->length) ++theirs, in_remote = 0;
  }
  if (!moves.empty()) moves.back().ends_descriptor = true;
}

Status check_lengths(const std::vector<Region>& regions, const char* whose) {
  if (std::ranges::find(regions, std::size_t{0}, &Region::length) == regions.end()) return kSuccess;
  return fail(kParamInvalid, std::string(whose) + " a region of 0 bytes");
}

// A new link registers every local region again, however many there are.
Status check_local(const std::vector<Region>& regions) {
  const auto is_gone = [](const Region& region) { return !own_keys().is_valid(region.key); };
  if (std::ranges::any_of(regions, is_gone)) return fail(kFailed, "the engine has a region whose memory was freed");
  return check_lengths(regions, "the engine has");
}

// What the peer tells must be parsed, too: a text of at most 4 MiB, which is not modelled.
Status check_remote(const std::vector<Region>& regions) {
  if (regions.size() > kMostRegions) return fail(kParamInvalid, "the peer has more than 4096 regions");
  return check_lengths(regions, "the peer has");
}

// TCP, the peer's endpoints, TCP again, the choice of an endpoint, the peer's regions and the channel: each may take the whole time-out.
Status pass_stages(std::chrono::milliseconds timeout) {
  constexpr const char* kStages[] = {"the peer's endpoints", "the second socket", "the endpoint", "the peer's regions", "the channel"};
  const auto delay = stage_delay();
  if (delay.count() == 0) return kSuccess;
  for (const char* stage : kStages) {
    std::this_thread::sleep_for(std::min(delay, timeout));
    if (delay >= timeout) return fail(hixl::kTimeout, std::string("Connect: no answer in time: ") + stage);
  }
  return kSuccess;
}

Status report(Outcome outcome, const std::string& what) {
  if (outcome == Outcome::kDone) return kSuccess;
  return outcome == Outcome::kTimeout ? fail(hixl::kTimeout, what + ": no answer in time")
                                      : fail(kFailed, what + ": the peer is not there");
}

}  // namespace

Status Link::exchange(const Address& address, std::chrono::milliseconds timeout, Fd& socket, Welcome& welcome) {
  const std::string what = "Connect to " + remote_;
  if (self_.rules.times_stages) {
    if (const Status status = pass_stages(timeout); status != kSuccess) return status;
  }
  const Deadline deadline = std::chrono::steady_clock::now() + timeout;
  const auto delayed = std::chrono::steady_clock::now() + connect_delay(remote_);
  std::this_thread::sleep_until(std::min(delayed, deadline));
  if (delayed > deadline) return report(Outcome::kTimeout, what);
  Outcome outcome = connect_to(address, deadline, socket);
  if (outcome == Outcome::kDone) {
    outcome = send_message(socket.get(), encode({self_.rules.kind, self_.name, remote_, self_.nic_ip}), deadline);
  }
  std::string body;
  if (outcome == Outcome::kDone) outcome = receive_message(socket.get(), body, deadline);
  if (outcome != Outcome::kDone) return report(outcome, what);
  const auto decoded = decode_welcome(body);
  if (!decoded) return fail(kFailed, what + ": the peer is no FAKE HIXL");
  welcome = *decoded;
  return welcome.status == kSuccess ? kSuccess : fail(welcome.status, what + ": " + welcome.why);
}

Status Link::accept(const std::vector<Region>& local, const Welcome& welcome) {
  if (next_connect_is_refused()) return fail(kFailed, "the device's network card makes no endpoint: no completion queue is left");
  if (const Status status = check_local(local); status != kSuccess) return status;
  if (const Status status = check_remote(welcome.regions); status != kSuccess) return status;
  protocol_ = match_endpoints(self_.endpoints, welcome.endpoints);
  if (protocol_.empty()) return fail(kParamInvalid, "no endpoint of " + remote_ + " fits one of this engine");
  // Only the device's network card loops back.
  if (protocol_ == "hccs:device" && welcome.nic_ip == self_.nic_ip) return fail(kFailed, "HCCS does not link a device with itself");
  return kSuccess;
}

Status Link::connect(const Address& address, std::vector<Region> local, std::chrono::milliseconds timeout) {
  Fd socket;
  Welcome welcome;
  if (const Status status = exchange(address, timeout, socket, welcome); status != kSuccess) return status;
  if (const Status status = accept(local, welcome); status != kSuccess) return status;
  auto peer = Peer::open(std::move(socket), welcome);
  if (peer == nullptr) return fail(kFailed, "cannot reach the memory of " + remote_ + " (process " + std::to_string(welcome.pid) + ")");
  path_ = std::make_shared<const Path>(Path{Snapshot(std::move(local)), Snapshot(welcome.regions), std::move(peer)});
  worker_ = std::make_unique<Worker>(path_, self_.rules);
  return kSuccess;
}

// A request that ends between the abort and the end of the worker records the notify of a slot that is free, or another link's.
void Link::close() {
  for (InFlight& each : in_flight_) {
    if (each.request->lease() != nullptr) abort_slot(*each.request->lease());
    each.descriptors.reset();
  }
  in_flight_.clear();
  give_lease_back();
  worker_.reset();
  if (path_ != nullptr) path_->peer->hang_up();
  path_.reset();
}

Status Link::append(const hixl::TransferOpDesc& descriptor, std::vector<Move>& moves) {
  if (descriptor.len == 0 && !self_.rules.refuses_empty_descriptors) return kSuccess;
  if (descriptor.len == 0) return fail(kParamInvalid, "a descriptor of 0 bytes");
  const auto local = path_->local.find(descriptor.local_addr, descriptor.len);
  const auto remote = path_->remote.find(descriptor.remote_addr, descriptor.len);
  if (local.empty() || remote.empty()) {
    const std::string what = std::string(local.empty() ? "local" : "remote") + " memory was not registered when the link was connected";
    if (!self_.rules.unregistered_is_fatal) return fail(kParamInvalid, what);
    return fail(kFailed, "Can't find remoteBuffer by key: " + what);
  }
  const auto is_reached = [&](const Piece& piece, bool is_remote) {
    return reaches_memory(protocol_, piece.region->kind, is_remote, self_.soc);
  };
  if (!is_reached(local.front(), false) || !is_reached(remote.front(), true))
    return fail(kFailed, protocol_ + " does not reach host memory");
  cut(local, remote, moves);
  return kSuccess;
}

Status Link::resolve(const std::vector<hixl::TransferOpDesc>& descriptors, std::vector<Move>& moves) {
  for (const hixl::TransferOpDesc& descriptor : descriptors) {
    if (const Status status = append(descriptor, moves); status != kSuccess) return status;
  }
  return kSuccess;
}

// Neither failure breaks the link.
Status Link::prepare(std::size_t descriptors, std::unique_ptr<HugeBlock>& memory) {
  if (!self_.rules.uses_slots) return kSuccess;
  if (lease_ == nullptr) lease_ = take_slot(self_.device);
  if (lease_ == nullptr) return fail(hixl::kResourceExhausted, "all max_active_channels slots of the device are taken");
  memory = HugeBlock::take(self_.device, descriptors * sizeof(hixl::TransferOpDesc));
  if (memory == nullptr) {
    if (in_flight_.empty()) give_lease_back();
    return fail(kNoDeviceMemory, "the device has no memory for the descriptors of a request");
  }
  return lease_->is_aborted() ? fail(kStreamGone, "the link's slot was aborted: its stream is gone") : kSuccess;
}

Status Link::start(hixl::TransferOp op, const std::vector<hixl::TransferOpDesc>& descriptors, void* user_data,
                   std::shared_ptr<Request>& request) {
  if (worker_->is_broken()) return fail(kFailed, "the link to " + remote_ + " failed before: Disconnect and Connect");
  std::vector<Move> moves;
  if (const Status status = resolve(descriptors, moves); status != kSuccess) {
    worker_->fail_link(status);
    return status;
  }
  const Fate fate = next_fate();
  if (fate.call != kSuccess) {
    worker_->fail_link(fate.call);
    return fail(fate.call, "a fault was asked for");
  }
  std::unique_ptr<HugeBlock> memory;
  if (const Status status = prepare(descriptors.size(), memory); status != kSuccess) return status;
  request = std::make_shared<Request>(op, std::move(moves), fate, user_data, lease_);
  in_flight_.push_back({request, std::move(memory)});
  worker_->push(request);
  return kSuccess;
}

Status Link::run(hixl::TransferOp op, const std::vector<hixl::TransferOpDesc>& descriptors, Deadline deadline) {
  std::shared_ptr<Request> request;
  if (const Status status = start(op, descriptors, nullptr, request); status != kSuccess) return status;
  const bool ended = request->wait_until(deadline);
  if (!ended) {
    if (lease_ != nullptr) abort_slot(*lease_);
    worker_->abort();
  }
  retire(*request);
  if (!ended) return fail(hixl::kTimeout, "the transfer did not end in time; its bytes may still arrive");
  if (request->state() == Request::State::kCompleted) return kSuccess;
  return fail(request->code() == kSuccess ? kFailed : request->code(), "the transfer failed");
}

void Link::retire(const Request& request) {
  std::erase_if(in_flight_, [&](const InFlight& each) { return each.request.get() == &request; });
  if (in_flight_.empty()) give_lease_back();
}

void Link::give_lease_back() {
  if (lease_ != nullptr) give_slot_back(*lease_);
  lease_.reset();
}

}  // namespace fake_hixl
