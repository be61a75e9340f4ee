// Options: every knob of an engine, as the table in options.def has them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ray_hixl/status.h"

namespace ray_hixl {

// First and last port of a range, both included.
struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

// The names of this build's transports, in order of preference.
[[nodiscard]] std::vector<std::string> all_transports();

struct Options {
#define RAY_HIXL_OPTION(type, name, value, rule, text) type name = value;
#include "ray_hixl/options.def"
};

// One row of the table, as it is told to users.
struct OptionInfo {
  std::string_view name;   // in Options(...) and, upper-cased behind RAY_HIXL_, in the environment
  std::string takes;       // "a whole number of bytes"
  std::string by_default;  // as the environment spells it
  std::string_view text;   // what it does and when to touch it
};
[[nodiscard]] const std::vector<OptionInfo>& option_infos();

// Sets the option `name` from text, as the environment spells it ("1073741824", "10.5", "shm,stream"). Code::kInvalidArgument names the
// option and what it takes; kNotAvailable for values that a later version will take.
[[nodiscard]] Status set_option(Options& options, std::string_view name, std::string_view text);
// Every value in its range?
[[nodiscard]] Status validate(const Options& options);
// Defaults overridden by RAY_HIXL_<NAME>. The only place of the core that reads the environment.
[[nodiscard]] Result<Options> options_from_environment();

}  // namespace ray_hixl
