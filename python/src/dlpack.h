// The parts of the DLPack ABI (version 1) that this module uses, declared from its public specification.
// Source: https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <cstddef>
#include <cstdint>

namespace ray_hixl::python::dlpack {

inline constexpr std::int32_t kCpu = 1;
inline constexpr std::int32_t kExtension = 12;  // what torch_npu uses for NPUs

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

struct Device {
  std::int32_t type;
  std::int32_t index;
};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t dimensions;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

struct ManagedTensorVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedTensorVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};
inline constexpr std::uint64_t kReadOnly = 1;
inline constexpr std::uint64_t kIsCopied = 2;  // made for whoever asked: what is written there comes to nobody else

// The function table that a tensor class offers as `__dlpack_c_exchange_api__`. All entries need the GIL; 0 is success, else a Python
// error is set.
struct ExchangeApi {
  Version version;
  const void* previous;
  int (*allocate)(Tensor*, ManagedTensorVersioned**, void*, void (*)(void*, const char*, const char*));
  int (*managed_from_object)(void* object, ManagedTensorVersioned** out);
  int (*managed_to_object)(ManagedTensorVersioned* tensor, void** out_object);  // takes the tensor
  int (*tensor_from_object)(void* object, Tensor* out);                         // borrowed
  int (*current_stream)(std::int32_t device_type, std::int32_t device, void** out);
};

static_assert(sizeof(DataType) == 4 && sizeof(Tensor) == 48 && sizeof(ManagedTensor) == 64 && sizeof(ManagedTensorVersioned) == 80);
static_assert(offsetof(ExchangeApi, managed_from_object) == 24);

}  // namespace ray_hixl::python::dlpack
