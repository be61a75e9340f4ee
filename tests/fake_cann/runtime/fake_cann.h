// The FAKE CANN runtime: a stand-in for libascendcl.so and its companions, for tests on machines without an NPU.
//
// It moves bytes and keeps order; it does not compute, except for the few kernels in kernels.cc and kernels_of_models.cc. It is stricter
// than the real one: every misuse that a device would punish late or silently fails here at once, with the real code and a message for
// aclGetRecentErrMsg. Written from facts about the C interface; shares no code with the product. Version strings and messages say FAKE.
//
// Device memory of device N is a memfd named fake_cann_npuN, mapped twice: a PROT_NONE view, whose addresses are the device pointers, so
// that whoever touches device memory from the CPU faults; and a writable back door that only the fake uses. Another process moves bytes
// through /proc/<pid>/fd/<fd> of the memfd.
//
// Switches, read from the environment when they are first needed:
//   FAKE_CANN_DEVICES=2              physical devices; ASCEND_RT_VISIBLE_DEVICES chooses among them
//   FAKE_CANN_HBM_MB=8192            memory of each
//   FAKE_CANN_SOC=Ascend950PR_9599   what aclrtGetSocName gives
//   FAKE_CANN_ASYNC=1                0: streams run their work in the caller
//   FAKE_CANN_STREAM_DELAY_US=0      every task of a stream starts so much later
//   FAKE_CANN_SIDE_DELAY_US=0        the same for streams that are not a default one, in addition; the first stream that is made on a
//   device
//                                    counts as a default one, since torch_npu makes its own
//   FAKE_CANN_REFUSE=error           an operator without a kernel: error (this call fails), sticky (every later copy and synchronize fails,
//                                    too), abort (the process ends with 86)
//   FAKE_CANN_STRICT=0               1: the process ends with 87 at a call without a context, aclFinalize or aclrtResetDevice, unless
//                                    torch_npu itself makes it
//   FAKE_CANN_TRACE=<file>           appends the name of every call
//   FAKE_CANN_HIDE=<names>           comma separated: these symbols answer as if unsupported (207000)
//   FAKE_CANN_BEFORE_92=0            1: aclrtGetPhyDevIdByUserDevId, which came with CANN 9.2, is not there; read whenever it is looked up
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// 1. What products must look for, and refuse outside of tests.
int fake_cann_is_fake(void);

// 0: [address, address + size) lies inside one live device allocation; `device` (physical) and `offset` (in its heap) say where.
// 1: device memory, but not inside a live allocation. 2: not device memory.
int fake_cann_find(const void* address, std::size_t size, int* device, std::size_t* offset);
// An allocation on pages of 2 MiB (HUGE_ONLY) for a library's own use, whose bytes nobody looks at: neither poisoned, nor counted as a call
// or among the live blocks. 1 if there is no room.
int fake_cann_take_huge(int device, std::size_t size, std::size_t* offset);
void fake_cann_give_huge_back(int device, std::size_t offset);
// The memfd of a physical device's heap in this process; made if it was not used yet.
int fake_cann_heap_fd(int device);
// The visible index of the calling thread's device; -1 without a context.
int fake_cann_current_device(void);
// The same as a physical number.
int fake_cann_current_physical_device(void);
// 1 if the bytes lie inside memory of aclrtMallocHost.
int fake_cann_is_pinned_host(const void* address, std::size_t size);
// 1 if they lie inside memory of somebody else that aclrtHostRegisterV2 pinned, which HIXL on A2 and A3 does not take. How many such there
// are.
int fake_cann_is_registered_host(const void* address, std::size_t size);
std::size_t fake_cann_registered_hosts(void);
// 1 if an address lies in device memory that is on pages of 2 MiB.
int fake_cann_is_huge(const void* address);
// What aclGetRecentErrMsg gives next in this thread, as it is.
void fake_cann_set_error(const char* message);
// Under FAKE_CANN_STRICT=1 ends the process with 87 and says what nobody may do. Otherwise does nothing.
void fake_cann_forbid(const char* what);
// Called in the thread that frees or unmaps memory, before it goes: bytes of a physical device's heap, or of the host (device -1, and
// `offset` is an address). One listener per process.
typedef void (*fake_cann_memory_listener)(int device, std::size_t offset, std::size_t size);
void fake_cann_on_memory_gone(fake_cann_memory_listener listener);
// How often an entry was called in this process, by its name; all of them if `name` is null.
std::uint64_t fake_cann_calls(const char* name);
void fake_cann_reset_calls(void);
// Queues a kernel on a stream (null: the default one of the thread's device) that touches no memory and runs until the file `until` exists,
// but for `most_ms` at most; null for so long in any case: slow work, or a collective that waits for what another rank does.
int fake_cann_launch(void* stream, const char* until, long most_ms);
// Live allocations of device memory in this process, and those that libraries took for themselves.
std::size_t fake_cann_live_blocks(void);
std::size_t fake_cann_library_blocks(void);

}  // extern "C"
