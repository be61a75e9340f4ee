// What the operators of libopapi have in common: few of them, since they are for tests and examples, computed on the stream.
//
// Every operator is two calls: <name>GetWorkspaceSize takes the operands in the calling thread and makes an executor; <name> runs it on a
// stream later. torch_npu takes these in place of the older interface wherever both calls exist.
#pragma once

#include <cstdint>
#include <functional>

#include "runtime/calls.h"
#include "runtime/operands.h"

namespace fake_cann {

// What an operator will do, or why it cannot.
struct Prepared {
  int status = kOk;
  std::function<void()> kernel;
};

[[nodiscard]] Prepared bad_operand();
int hand_over(Prepared prepared, std::uint64_t* workspace, aclOpExecutor** executor);
int execute(const char* name, aclOpExecutor* executor, void* stream);

}  // namespace fake_cann

// One operator: its operands and what they make.
#define FAKE_CANN_OPERATOR(name, prepared, ...)                                                 \
  int name##GetWorkspaceSize(__VA_ARGS__, std::uint64_t* workspace, aclOpExecutor** executor) { \
    return ::fake_cann::hand_over(prepared, workspace, executor);                               \
  }                                                                                             \
  int name(void*, std::uint64_t, aclOpExecutor* executor, void* stream) { return ::fake_cann::execute(#name, executor, stream); }
