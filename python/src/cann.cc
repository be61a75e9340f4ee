// What of CANN is here, and how npu memory gets to torch.
#include <utility>

#include "common.h"
#include "dlpack_export.h"
#include "gil.h"
#include "torch_table.h"
#include "transport/factories.h"

namespace ray_hixl::python {
namespace {

nb::dict cann_info() {
  Result<transport::DeviceRuntime> found = Status(Code::kInternal, "not looked for");
  {
    const GilRelease no_gil;  // loads libraries
    found = transport::device_runtime();
  }
  const transport::DeviceRuntime runtime = value_or_raise(std::move(found));
  nb::dict made;
  made["runtime"] = runtime.runtime;
  made["hixl"] = runtime.hixl;
  made["no_hixl"] = runtime.no_hixl;
  made["hixl_version"] = runtime.hixl_version;
  made["soc"] = runtime.soc;
  made["devices"] = runtime.physical.size();
  nb::list physical;
  for (const std::int32_t number : runtime.physical) physical.append(number);
  made["physical"] = physical;
  made["client_server"] = runtime.client_server;
  made["is_fake"] = runtime.is_fake;
  return made;
}

// Owns nothing: for tensors that die before the memory does.
nb::object npu_capsule(std::uintptr_t address, std::int32_t device, const std::string& dtype, const std::vector<std::uint64_t>& shape,
                       std::int64_t step) {
  const std::optional<dlpack::DataType> type = dlpack_from_name(dtype);
  if (!type) throw StatusError{Status(Code::kUnsupportedTensor, "DLPack has no element type '" + dtype + "'")};
  Dimensions dimensions(shape);
  if (!shape.empty()) dimensions.strides[0] = step;
  auto shared = std::make_shared<const Dimensions>(std::move(dimensions));
  return export_capsule({reinterpret_cast<std::byte*>(address), *type, std::move(shared), nullptr, {dlpack::kExtension, device}}, false);
}

}  // namespace

void bind_cann(nb::module_& module) {
  module.def(
      "cann_info", &cann_info,
      "Paths, versions and devices of the CANN that this process uses, which is looked for at the first call. Raises NotAvailable with "
      "what is missing.");
  module.def("npu_capsule", &npu_capsule, nb::arg("address"), nb::arg("device"), nb::arg("dtype"), nb::arg("shape"), nb::arg("step"),
             nb::sig("def npu_capsule(address: int, device: int, dtype: str, shape: Sequence[int], step: int) -> object"),
             "Memory of an NPU as an old DLPack capsule that does not keep it. Rows are contiguous and `step` elements apart.");
}

}  // namespace ray_hixl::python
