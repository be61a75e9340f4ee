// Errors as callers see them: a status, and a text for aclGetRecentErrMsg.
#pragma once

#include <string>

#include "hixl/api.h"

namespace fake_hixl {

using hixl::Status;

// Sets this thread's text, "FAKE HIXL: <why>", and gives `status`.
Status fail(Status status, const std::string& why);

}  // namespace fake_hixl
