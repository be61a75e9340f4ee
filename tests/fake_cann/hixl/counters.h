// What the fake counts. Any thread.
#pragma once

#include <chrono>
#include <cstddef>

namespace fake_hixl {

void count_call(const char* name);
// One descriptor's bytes were moved.
void count_op();
void count_bytes(std::size_t bytes, std::chrono::nanoseconds busy);

}  // namespace fake_hixl
