// The end of a test program: no thread of an engine may be left, unless a test says that one stays for ever, as the product means it.
#pragma once

#include <string>

namespace ray_hixl::test {

// Names of the threads that engines start, are there now and are not meant to stay.
std::string engine_threads();

void expect_to_stay(const std::string& thread_name);

}  // namespace ray_hixl::test
