#include "hixl/support/engines.h"

#include <random>

#include "runtime/acl.h"

namespace fake_hixl::test {

std::string some_name() {
  static std::mt19937& random = *new std::mt19937(std::random_device{}());
  return "127.0.0.1:" + std::to_string(std::uniform_int_distribution(20000, 29999)(random));
}

hixl::Status initialize(hixl::Hixl& engine, const std::string& name, const TestOptions& options) {
  std::map<ge::AscendString, ge::AscendString> given;
  for (const auto& [key, value] : options) given[key.c_str()] = value.c_str();
  return engine.Initialize(name.c_str(), given);
}

std::string initialize_somewhere(hixl::Hixl& engine, const TestOptions& options, hixl::Status& status) {
  constexpr int kTries = 50;
  for (int tries = 0; tries < kTries; ++tries) {
    const std::string name = some_name();
    status = initialize(engine, name, options);
    if (status == hixl::kSuccess) return name;
    if (recent_error().find("cannot listen") == std::string::npos) return "";
  }
  return "";
}

std::string recent_error() {
  const char* text = aclGetRecentErrMsg();
  return text == nullptr ? "" : text;
}

}  // namespace fake_hixl::test
