#include "transport/hixl/readers.h"

#include <algorithm>
#include <utility>

#include "control/messages.h"
#include "transport/hixl/cann/start.h"

namespace ray_hixl::transport::hixl {

void Readers::describe(std::int32_t device, Responder responder) {
  const auto npu = npus_.started(device);
  if (!npu) return std::move(responder).fail(Status(Code::kInvalidRegion, "nothing is registered on " + npu_name(device)));
  Device& known = devices_[device];
  if (!npu->can_link().is_ok()) {
    return std::move(responder).fail(npu->can_link().with_context("the peer has no HIXL on " + npu_name(device)));
  }
  if (known.recalling) return known.waiting.push_back(std::move(responder));
  const std::string engine = npu->engine_name();
  if (engine.empty()) {
    return std::move(responder).fail(Status(Code::kNotAvailable, "HIXL on " + npu_name(device) + " of the peer cannot be started again"));
  }
  if (known.holders.try_emplace(&responder.reader()).second) npu->reader_came();
  const Cann& cann = *Cann::get();
  auto frame = control::encode(responder.request(), control::DeviceDescription{engine, npu->registry().epoch(),
                                                                               static_cast<std::uint32_t>(cann.physical_device(device)),
                                                                               fingerprint(cann, npus_.options())});
  std::move(responder).send(std::move(frame));
}

void Readers::await_recall(std::int32_t device, const std::string& engine, Responder responder) {
  const auto npu = npus_.started(device);
  if (npu && engine == npu->engine_name()) {
    Device& known = devices_[device];
    const auto holder = known.holders.find(&responder.reader());
    if (!known.recalling && holder != known.holders.end()) {
      holder->second.awaits.reset();  // an earlier one has no answer any more
      holder->second.awaits.emplace(std::move(responder));
      return;
    }
  }
  const std::uint64_t request = responder.request();
  std::move(responder).send(control::encode(request, control::Recalled{}));
}

void Readers::release(std::int32_t device, const std::string& engine, Responder responder) {
  const auto npu = npus_.started(device);
  if (npu && engine == npu->engine_name()) let_go(device, responder.reader());
  const std::uint64_t request = responder.request();
  std::move(responder).send(control::encode(request, control::Released{}));
}

void Readers::cannot_link(std::int32_t device, const std::string& engine, Responder responder) {
  const auto npu = npus_.started(device);
  bool is_replaced = true;  // what the reader means is gone already
  if (npu && engine == npu->engine_name()) {
    Device& known = devices_[device];
    if (!known.recalling) known.recalling = is_refused_to_all(known, responder.reader()) && npu->replace_engine();
    is_replaced = known.recalling;
  }
  const std::uint64_t request = responder.request();
  std::move(responder).send(control::encode(request, control::Noted{is_replaced}));
}

// The reader is refused; and so are all others?
bool Readers::is_refused_to_all(Device& device, const ReaderView& reader) {
  const auto holder = device.holders.find(&reader);
  if (holder == device.holders.end()) return false;
  holder->second.is_refused = true;
  return std::ranges::all_of(device.holders, [](const auto& each) { return each.second.is_refused; });
}

void Readers::session_ended(const ReaderView& reader) {
  for (auto& [index, device] : devices_) {
    std::erase_if(device.waiting, [&](const Responder& each) { return &each.reader() == &reader; });
    let_go(index, reader);
  }
}

void Readers::let_go(std::int32_t index, const ReaderView& reader) {
  Device& device = devices_[index];
  if (device.holders.erase(&reader) == 0) return;
  if (const auto npu = npus_.started(index)) npu->reader_went();
  if (device.holders.empty()) end_wait(device);
}

void Readers::shut_down() { devices_.clear(); }

void Readers::recall(std::int32_t device, bool anyway, Deadline deadline, Then then) {
  loop_.post([self = shared_from_this(), device, anyway, deadline, then = std::move(then)] {
    self->begin_recall(device, anyway, deadline, then);
  });
}

void Readers::begin_recall(std::int32_t index, bool anyway, Deadline deadline, Then then) {
  Device& device = devices_[index];
  const auto cannot_be_asked = [](const auto& holder) { return !holder.second.awaits.has_value(); };
  if (!anyway && !device.recalling && std::ranges::any_of(device.holders, cannot_be_asked)) return then(false);
  device.recalling = true;
  device.then.push_back(std::move(then));
  for (auto& [reader, holder] : device.holders) {
    if (!holder.awaits) continue;
    const std::uint64_t request = holder.awaits->request();
    std::move(*holder.awaits).send(control::encode(request, control::Recalled{}));
    holder.awaits.reset();
  }
  if (device.holders.empty()) return end_wait(device);
  if (device.timer != 0) return;
  device.timer = loop_.at(deadline, [weak = weak_from_this(), index] {
    const auto self = weak.lock();
    if (!self) return;
    self->devices_[index].timer = 0;
    self->end_wait(self->devices_[index]);
  });
}

void Readers::end_wait(Device& device) {
  if (device.timer != 0) loop_.cancel(std::exchange(device.timer, 0));
  for (const Then& then : std::exchange(device.then, {})) then(device.holders.empty());
}

void Readers::reopen(std::int32_t device) {
  loop_.post([self = shared_from_this(), device] {
    Device& known = self->devices_[device];
    known.recalling = false;
    for (auto& [reader, holder] : known.holders) holder.is_refused = false;
    for (Responder& each : std::exchange(known.waiting, {})) self->describe(device, std::move(each));
  });
}

}  // namespace ray_hixl::transport::hixl
