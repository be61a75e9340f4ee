// What torch_npu sets or reports and nothing depends on, and what the fake has not got and says so.
#include <cstddef>
#include <cstdint>

#include "runtime/calls.h"

using namespace fake_cann;

#define FAKE_CANN_ACCEPTS(name, ...) \
  int name(__VA_ARGS__) {            \
    FAKE_CANN_ENTER();               \
    return kOk;                      \
  }
#define FAKE_CANN_REFUSES(name)                                  \
  int name(void) {                                               \
    (void)enter(#name);                                          \
    return fail(kUnsupported, #name " is not part of the fake"); \
  }

extern "C" {

FAKE_CANN_ACCEPTS(aclrtSetDeviceSatMode, int)
FAKE_CANN_ACCEPTS(aclrtSetOpExecuteTimeOut, std::uint32_t)
FAKE_CANN_ACCEPTS(aclrtSetOpWaitTimeout, std::uint32_t)
FAKE_CANN_ACCEPTS(aclrtSetSysParamOpt, int, std::int64_t)
FAKE_CANN_ACCEPTS(aclrtCtxSetSysParamOpt, int, std::int64_t)
FAKE_CANN_ACCEPTS(aclSetCompileopt, int, const char*)
FAKE_CANN_ACCEPTS(aclmdlInitDump)
FAKE_CANN_ACCEPTS(aclmdlSetDump, const char*)
FAKE_CANN_ACCEPTS(aclmdlFinalizeDump)
FAKE_CANN_ACCEPTS(MsprofRegisterCallback, std::uint32_t, void*)
FAKE_CANN_ACCEPTS(MsprofReportApi, std::uint32_t, const void*)
FAKE_CANN_ACCEPTS(MsprofReportCompactInfo, std::uint32_t, const void*, std::uint32_t)
FAKE_CANN_ACCEPTS(MsprofReportAdditionalInfo, std::uint32_t, const void*, std::uint32_t)

void aclAppLog(int, const char*, const char*, std::uint32_t, const char*, ...) {}
std::uint64_t MsprofSysCycleTime(void) { return 0; }
std::uint64_t MsprofGetHashId(const char*, std::size_t) { return 0; }

int aclrtGetSysParamOpt(int, std::int64_t* value) {
  FAKE_CANN_ENTER();
  if (value != nullptr) *value = 0;
  return kOk;
}

// Nothing is captured.
int aclmdlRICaptureGetInfo(void*, int* status, void** model) {
  FAKE_CANN_ENTER();
  *status = 0;
  if (model != nullptr) *model = nullptr;
  return kOk;
}

FAKE_CANN_REFUSES(aclGetDeviceCapability)
FAKE_CANN_REFUSES(aclrtBinaryGetFunction)
FAKE_CANN_REFUSES(aclrtBinaryLoadFromData)
FAKE_CANN_REFUSES(aclrtGetFunctionAddr)
FAKE_CANN_REFUSES(aclrtMemExportToShareableHandle)
FAKE_CANN_REFUSES(aclrtMemImportFromShareableHandle)
FAKE_CANN_REFUSES(aclrtMemSetPidToShareableHandle)
FAKE_CANN_REFUSES(aclrtProcessReport)
FAKE_CANN_REFUSES(rtDevBinaryRegister)
FAKE_CANN_REFUSES(rtFunctionRegister)
FAKE_CANN_REFUSES(rtGetC2cCtrlAddr)
FAKE_CANN_REFUSES(rtKernelLaunch)

}  // extern "C"
