// What the fake counts. Any thread.
#pragma once

#include <chrono>
#include <cstddef>

namespace fake_hixl {

void count_call(const char* name);
// One descriptor's bytes were moved.
void count_op();
void count_bytes(std::size_t bytes, std::chrono::nanoseconds busy);
void count_launch();
void count_early_completion();
void count_stray_record();
void count_abort(bool is_anothers);

}  // namespace fake_hixl
