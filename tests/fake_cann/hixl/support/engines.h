// Engines for tests: on loopback, at a port that was free.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hixl/api.h"

namespace fake_hixl::test {

using TestOptions = std::map<std::string, std::string>;

// A random "127.0.0.1:port" in 20000 to 29999.
[[nodiscard]] std::string some_name();
[[nodiscard]] hixl::Status initialize(hixl::Hixl& engine, const std::string& name, const TestOptions& options = {});
// Tries names until a port is free. The name; empty if it failed for another reason, with `status` saying which.
[[nodiscard]] std::string initialize_somewhere(hixl::Hixl& engine, const TestOptions& options, hixl::Status& status);

// What aclGetRecentErrMsg gives; empty if it has nothing.
[[nodiscard]] std::string recent_error();

}  // namespace fake_hixl::test
