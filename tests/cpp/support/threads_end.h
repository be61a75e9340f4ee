// The end of a test program: no thread of an engine may be left, unless a test says that one stays for ever, as the product means it.
#pragma once

#include <string>

namespace ray_hixl::test {

void expect_to_stay(const std::string& thread_name);

}  // namespace ray_hixl::test
