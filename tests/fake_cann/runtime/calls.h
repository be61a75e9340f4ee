// What every entry of the fake begins with: counting, tracing, and the checks that make it strict.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/codes.h"

namespace fake_cann {

// Counts and traces one call of `name`. False if the switches hide it: then it must answer kUnsupported.
bool enter(const char* name);
// Notes a line in the trace.
void trace(const std::string& line);
// Sets what aclGetRecentErrMsg gives in this thread, and gives `code`.
int fail(int code, const std::string& why);

// A switch from the environment.
long number_switch(const char* name, long otherwise);
std::string text_switch(const char* name, const char* otherwise);

// An operator for which there is no kernel; acts as FAKE_CANN_REFUSE says.
int refuse_operator(const std::string& name, const std::string& operands);
// Not kOk once an operator was refused in the sticky mode.
int sticky_error();

// Tells whoever asked (fake_cann_on_memory_gone) that bytes are about to go.
void memory_goes(int device, std::size_t offset, std::size_t size);

// Under FAKE_CANN_STRICT=1: ends the process, unless torch_npu made the call whose return address this is.
void check_not_forbidden(const char* name, void* caller);

}  // namespace fake_cann

// The first line of an entry.
#define FAKE_CANN_ENTER()                                                                                    \
  do {                                                                                                       \
    if (!::fake_cann::enter(__func__)) {                                                                     \
      return ::fake_cann::fail(::fake_cann::kUnsupported, std::string(__func__) + " is hidden by a switch"); \
    }                                                                                                        \
  } while (false)

// The second one where a context is needed.
#define FAKE_CANN_NEED_CONTEXT()                                                                                                  \
  do {                                                                                                                            \
    if (::fake_cann::current_device() < 0) {                                                                                      \
      ::fake_cann::check_not_forbidden(__func__, __builtin_return_address(0));                                                    \
      return ::fake_cann::fail(::fake_cann::kNoContext, std::string(__func__) + ": this thread has no context (aclrtSetDevice)"); \
    }                                                                                                                             \
  } while (false)
