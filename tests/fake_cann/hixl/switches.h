// The switches of fake_hixl.h. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace fake_hixl {

struct Switch {
  std::string value;        // empty if it is not set
  std::uint64_t since = 0;  // how many transfers had been asked for when it was set
};

[[nodiscard]] Switch read_switch(const char* name);
[[nodiscard]] std::string text_switch(const char* name, const char* otherwise);
[[nodiscard]] long number_switch(const char* name, long otherwise);

// Changes when a switch is set.
[[nodiscard]] std::uint64_t switches_version();

// The number of a transfer that is asked for now.
[[nodiscard]] std::uint64_t next_transfer();

}  // namespace fake_hixl
