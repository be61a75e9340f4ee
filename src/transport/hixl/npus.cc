#include "transport/hixl/npus.h"

#include <utility>

#include "transport/factories.h"

namespace ray_hixl::transport::hixl {

Npus::Npus(const Options& options, memory::Reaper& reaper, std::shared_ptr<memory::Arena> source, std::function<void()> loaded)
    : options_(options), reaper_(reaper), source_(std::move(source)), loaded_(std::move(loaded)) {}

Status Npus::usable() const { return Cann::get().status(); }

Status Npus::can_link() const {
  RAY_HIXL_RETURN_IF_ERROR(usable());
  Status why = Cann::get()->hixl;
  for (const auto& npu : all_started()) {
    why = npu->can_link();
    if (why.is_ok()) break;
  }
  return why;
}

std::int32_t Npus::visible() const { return static_cast<std::int32_t>(Cann::get()->devices); }

std::shared_ptr<Npu> Npus::started(std::int32_t index) const {
  const MutexLock lock(mutex_);
  const auto found = npus_.find(index);
  return found == npus_.end() ? nullptr : found->second;
}

Result<std::shared_ptr<device::Device>> Npus::get(std::int32_t index) {
  if (auto npu = started(index)) return std::shared_ptr<device::Device>(std::move(npu));
  RAY_HIXL_RETURN_IF_ERROR(usable());
  const MutexLock starting(starting_);
  if (auto npu = started(index)) return std::shared_ptr<device::Device>(std::move(npu));
  {
    const MutexLock lock(mutex_);
    if (stopped_) return Status(Code::kClosed, "the engine was closed; create another one");
  }
  Result<std::shared_ptr<Npu>> npu = Npu::start(*Cann::get(), options_, reaper_, recall_, source_, index);
  if (!npu.is_ok()) return npu.status();
  loaded_();
  const MutexLock lock(mutex_);
  npus_[index] = *npu;
  return std::shared_ptr<device::Device>(*std::move(npu));
}

std::vector<std::shared_ptr<Npu>> Npus::all_started() const {
  std::vector<std::shared_ptr<Npu>> all;
  const MutexLock lock(mutex_);
  for (const auto& [index, npu] : npus_) all.push_back(npu);
  return all;
}

std::optional<std::int32_t> Npus::pinned_by(const std::byte* address, std::uint64_t length) const {
  for (const auto& npu : all_started()) {
    if (npu->find(address, length)) return npu->index();
  }
  return std::nullopt;
}

std::vector<DeviceStats> Npus::stats() const {
  std::vector<DeviceStats> all;
  for (const auto& npu : all_started()) all.push_back(npu->stats());
  return all;
}

void Npus::stop() {
  {
    const MutexLock starting(starting_);  // one that is being started is stopped, too
    const MutexLock lock(mutex_);
    stopped_ = true;
  }
  for (const auto& npu : all_started()) npu->stop();
  const MutexLock lock(mutex_);
  npus_.clear();
}

}  // namespace ray_hixl::transport::hixl

namespace ray_hixl::transport {

std::shared_ptr<device::Devices> create_devices(const Options& options, memory::Reaper& reaper, std::shared_ptr<memory::Arena> source,
                                                std::function<void()> loaded) {
  return std::make_shared<hixl::Npus>(options, reaper, std::move(source), std::move(loaded));
}

}  // namespace ray_hixl::transport
