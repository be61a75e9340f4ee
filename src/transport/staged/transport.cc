// staged: device memory of one side or both through pinned host buffers and the connections of stream, to any peer. What works where HIXL
// cannot: to and from processes without an NPU, or between two that HIXL does not link.
#include "transport/stream/transport.h"

#include <memory>
#include <utility>

#include "transport/factories.h"
#include "transport/staged/inflow.h"
#include "transport/staged/outflow.h"

namespace ray_hixl::transport::staged {
namespace {

// Across, one side needs no device; which one is not said.
Status can_read(const device::Devices& devices, RemoteMemory memory) {
  if (memory == RemoteMemory::kAcross) return Status::ok();
  if (memory == RemoteMemory::kDevice) return devices.usable();
  return Status(Code::kNotAvailable, "it stages device memory; the others move host memory");
}

}  // namespace

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) {
  const std::shared_ptr<device::Devices>& devices = context.devices;
  return stream::transport_of(
      context,
      {control::TransportKind::kStaged, [devices](RemoteMemory memory) { return can_read(*devices, memory); },
       [devices](std::int32_t device, stream::NextRange payload, std::shared_ptr<const void> keep, std::function<void()> more) {
         return open_outflow(devices, device, std::move(payload), std::move(keep), std::move(more));
       },
       [devices](const std::shared_ptr<Job>& job, std::function<void()> more) { return open_inflow(devices, job, std::move(more)); }});
}

}  // namespace ray_hixl::transport::staged
