// What this module knows of torch: its DLPack table and its dtypes. No torch at build time, no link to it; asked for at first use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common.h"
#include "dlpack.h"

namespace ray_hixl::python {

struct Dtype {
  std::string name;  // "bfloat16"
  std::uint32_t item_bytes = 0;
  PyObject* object = nullptr;              // torch.bfloat16, for ever
  std::optional<dlpack::DataType> dlpack;  // if DLPack can say it
};

class TorchTable {
 public:
  // Null until use_torch() was called.
  [[nodiscard]] static const TorchTable* get();
  // `module` is torch. `exchange_api`: false ignores the table, as if this torch had none.
  static void use(nb::handle module, bool exchange_api);

  [[nodiscard]] bool is_tensor(nb::handle object) const;
  // Null where this torch has no such table.
  [[nodiscard]] const dlpack::ExchangeApi* exchange_api() const { return api_; }
  [[nodiscard]] const Dtype& dtype_of(nb::handle dtype) const;            // kUnsupportedTensor for what is no torch dtype
  [[nodiscard]] const Dtype& dtype_named(const std::string& name) const;  // kUnsupportedTensor for a name this torch does not have
  [[nodiscard]] nb::handle module() const { return module_; }

 private:
  TorchTable() = default;
  PyObject* module_ = nullptr;
  PyObject* tensor_type_ = nullptr;
  const dlpack::ExchangeApi* api_ = nullptr;
};

// DLPack's code of a dtype by torch's name of it, and back. nullopt, empty: none.
[[nodiscard]] std::optional<dlpack::DataType> dlpack_from_name(const std::string& name);
[[nodiscard]] std::string name_from_dlpack(dlpack::DataType dtype);

}  // namespace ray_hixl::python
