#include "hixl/errors.h"

#include "runtime/fake_cann.h"

namespace fake_hixl {

Status fail(Status status, const std::string& why) {
  fake_cann_set_error(("FAKE HIXL: " + why + " [" + std::to_string(status) + "]").c_str());
  return status;
}

}  // namespace fake_hixl
