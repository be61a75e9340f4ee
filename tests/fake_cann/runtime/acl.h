// What the fake's own tests call: declarations of the C interface.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/codes.h"
#include "runtime/fake_cann.h"

extern "C" {

int aclInit(const char* config);
int aclFinalize(void);
const char* aclGetRecentErrMsg(void);
const char* aclrtGetSocName(void);
int aclrtSetDevice(std::int32_t device);
int aclrtGetDevice(std::int32_t* device);
int aclrtGetDeviceCount(std::uint32_t* count);
int aclrtGetLogicDevIdByUserDevId(std::int32_t user, std::int32_t* logic);
int aclrtGetPhyDevIdByLogicDevId(std::int32_t user, std::int32_t* physical);
int aclrtGetCurrentContext(void** context);
int aclrtSetCurrentContext(void* context);
int aclrtMalloc(void** pointer, std::size_t size, int policy);
int aclrtFree(void* pointer);
int aclrtMallocHost(void** pointer, std::size_t size);
int aclrtFreeHost(void* pointer);
int aclrtHostRegisterV2(void* pointer, std::uint64_t size, std::uint32_t flags);
int aclrtHostUnregister(void* pointer);
int aclrtPointerGetAttributes(const void* pointer, std::uint32_t* attributes);
int aclrtMemGetAddressRange(void* pointer, void** base, std::size_t* size);
int aclrtGetMemInfo(int kind, std::size_t* free_bytes, std::size_t* total);
int aclrtMemcpy(void* to, std::size_t most, const void* from, std::size_t size, int kind);
int aclrtMemcpyAsync(void* to, std::size_t most, const void* from, std::size_t size, int kind, void* stream);
int aclrtMemset(void* to, std::size_t most, std::int32_t value, std::size_t size);
int aclrtReserveMemAddress(void** pointer, std::size_t size, std::size_t alignment, void* expected, std::uint64_t flags);
int aclrtMallocPhysical(void** handle, std::size_t size, const std::uint32_t* properties, std::uint64_t flags);
int aclrtFreePhysical(void* handle);
int aclrtMapMem(void* address, std::size_t size, std::size_t offset, void* handle, std::uint64_t flags);
int aclrtUnmapMem(void* address);
int aclrtCreateStream(void** stream);
int aclrtDestroyStream(void* stream);
int aclrtSynchronizeStream(void* stream);
int aclrtSynchronizeStreamWithTimeout(void* stream, std::int32_t timeout_ms);
int aclrtSynchronizeDevice(void);
int aclrtSynchronizeDeviceWithTimeout(std::int32_t timeout_ms);
int aclrtStreamQuery(void* stream, int* status);
int aclrtCreateEvent(void** event);
int aclrtDestroyEvent(void* event);
int aclrtRecordEvent(void* event, void* stream);
int aclrtStreamWaitEvent(void* stream, void* event);
int aclrtSynchronizeEvent(void* event);
int aclrtQueryEventStatus(void* event, int* status);

}  // extern "C"
