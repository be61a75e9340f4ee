#include "runtime/operators.h"

#include <memory>
#include <string>
#include <utility>

#include "runtime/streams.h"

namespace fake_cann {

Prepared bad_operand() {
  return {fail(kBadOperand, "a kernel's operand is not live device memory, or of a type that the fake cannot compute with"), nullptr};
}

int hand_over(Prepared prepared, std::uint64_t* workspace, aclOpExecutor** executor) {
  if (prepared.status != kOk) return prepared.status;
  *workspace = 0;
  *executor = new aclOpExecutor{std::move(prepared.kernel)};
  return kOk;
}

int execute(const char* name, aclOpExecutor* executor, void* stream) {
  const std::shared_ptr<aclOpExecutor> owned(executor);
  if (!enter(name)) return fail(kUnsupported, std::string(name) + " is hidden by a switch");
  if (!owned) return fail(kOperatorFailed, std::string(name) + ": no executor");
  Stream* const target = stream_of(stream);
  if (target == nullptr) return fail(kBadStream, std::string(name) + ": no such stream");
  submit(*target, [owned] { owned->run(); });
  return kOk;
}

}  // namespace fake_cann
