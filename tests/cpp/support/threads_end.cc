// Every test program ends without a thread of an engine: whatever still runs when main() returns races with the end of the process, and
// LeakSanitizer cannot look at a thread that is ending.
#include "support/threads_end.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "support/eventually.h"

namespace ray_hixl::test {
namespace {

using namespace std::chrono_literals;

std::set<std::string>& staying() {
  static std::set<std::string> names;
  return names;
}

class ThreadsEnd : public testing::Environment {
 public:
  void TearDown() override {
    EXPECT_TRUE(eventually([] { return engine_threads().empty(); }, 30s)) << "still running at the end of main(): " << engine_threads();
  }
};

[[maybe_unused]] const testing::Environment* const kAdded = testing::AddGlobalTestEnvironment(new ThreadsEnd);

}  // namespace

std::string engine_threads() {
  std::string names;
  std::error_code gone;  // a thread may end while its folder is read
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", gone)) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name.starts_with("hixl-") && !staying().contains(name)) names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

void expect_to_stay(const std::string& thread_name) { staying().insert(thread_name); }

}  // namespace ray_hixl::test
