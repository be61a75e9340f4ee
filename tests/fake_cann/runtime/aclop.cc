// The older operator interface: descriptors are real, because torch_npu reads them back; executing one fails loudly.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/calls.h"

using namespace fake_cann;

namespace {

struct TensorDescriptor {
  int type = 0;
  int format = 0;
  std::vector<std::int64_t> shape;
};

struct DataBuffer {
  void* pointer = nullptr;
  std::size_t size = 0;
};

struct Attributes {};

std::string describe(const char* side, int count, TensorDescriptor* const* descriptors, DataBuffer* const* buffers) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += std::string(" ") + side + std::to_string(i) + ":";
    text += descriptors[i] == nullptr
                ? "none"
                : "type " + std::to_string(descriptors[i]->type) + ", " + std::to_string(descriptors[i]->shape.size()) + " dims";
    if (buffers[i] != nullptr) text += ", " + std::to_string(buffers[i]->size) + " bytes";
  }
  return text;
}

int refuse(const char* name, int inputs, TensorDescriptor* const* in, DataBuffer* const* in_buffers, int outputs,
           TensorDescriptor* const* out, DataBuffer* const* out_buffers) {
  const std::string operands = describe("in", inputs, in, in_buffers) + describe("out", outputs, out, out_buffers);
  trace(std::string("  aclop ") + name + operands);
  return refuse_operator(name, operands);
}

}  // namespace

extern "C" {

TensorDescriptor* aclCreateTensorDesc(int type, int dims, const std::int64_t* shape, int format) {
  return new TensorDescriptor{type, format, std::vector<std::int64_t>(shape, shape + dims)};
}
void aclDestroyTensorDesc(const TensorDescriptor* descriptor) { const std::unique_ptr<const TensorDescriptor> owned(descriptor); }
void aclSetTensorDescName(TensorDescriptor*, const char*) {}
int aclSetTensorFormat(TensorDescriptor* descriptor, int format) {
  descriptor->format = format;
  return kOk;
}
int aclSetTensorPlaceMent(TensorDescriptor*, int) { return kOk; }
int aclSetTensorShape(TensorDescriptor*, int, const std::int64_t*) { return kOk; }
int aclGetTensorDescType(const TensorDescriptor* descriptor) { return descriptor->type; }
int aclGetTensorDescFormat(const TensorDescriptor* descriptor) { return descriptor->format; }
std::size_t aclGetTensorDescNumDims(const TensorDescriptor* descriptor) { return descriptor->shape.size(); }
int aclGetTensorDescDimV2(const TensorDescriptor* descriptor, std::size_t index, std::int64_t* size) {
  if (index >= descriptor->shape.size()) return fail(kBadParameter, "aclGetTensorDescDimV2: no such dimension");
  *size = descriptor->shape[index];
  return kOk;
}

DataBuffer* aclCreateDataBuffer(void* pointer, std::size_t size) { return new DataBuffer{pointer, size}; }
int aclDestroyDataBuffer(const DataBuffer* buffer) {
  const std::unique_ptr<const DataBuffer> owned(buffer);
  return kOk;
}

Attributes* aclopCreateAttr(void) { return new Attributes; }
void aclopDestroyAttr(const Attributes* attributes) { const std::unique_ptr<const Attributes> owned(attributes); }
int aclopSetAttrBool(Attributes*, const char*, std::uint8_t) { return kOk; }
int aclopSetAttrDataType(Attributes*, const char*, int) { return kOk; }
int aclopSetAttrFloat(Attributes*, const char*, float) { return kOk; }
int aclopSetAttrInt(Attributes*, const char*, std::int64_t) { return kOk; }
int aclopSetAttrListBool(Attributes*, const char*, int, const std::uint8_t*) { return kOk; }
int aclopSetAttrListFloat(Attributes*, const char*, int, const float*) { return kOk; }
int aclopSetAttrListInt(Attributes*, const char*, int, const std::int64_t*) { return kOk; }
int aclopSetAttrListListInt(Attributes*, const char*, int, const int*, const std::int64_t* const*) { return kOk; }
int aclopSetAttrString(Attributes*, const char*, const char*) { return kOk; }

int aclopCompileAndExecute(const char* name, int inputs, TensorDescriptor* const* in, DataBuffer* const* in_buffers, int outputs,
                           TensorDescriptor* const* out, DataBuffer* const* out_buffers, const Attributes*, int, int, const char*, void*) {
  FAKE_CANN_ENTER();
  return refuse(name, inputs, in, in_buffers, outputs, out, out_buffers);
}

int aclopCompileAndExecuteV2(const char* name, int inputs, TensorDescriptor** in, DataBuffer** in_buffers, int outputs,
                             TensorDescriptor** out, DataBuffer** out_buffers, Attributes*, int, int, const char*, void*) {
  FAKE_CANN_ENTER();
  return refuse(name, inputs, in, in_buffers, outputs, out, out_buffers);
}

}  // extern "C"
