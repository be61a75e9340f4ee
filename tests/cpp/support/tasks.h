// What the kernel knows of a process: its threads, how often they waited, its open files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

namespace ray_hixl::test {

// Folders in /proc of the threads whose names begin so; of this process if `process` is not given.
inline std::vector<std::filesystem::path> threads_named(const std::string& name, const std::string& process = "self") {
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + process + "/task", error)) {
    std::string line;
    std::ifstream file(task.path() / "comm");
    if (std::getline(file, line) && line.starts_with(name)) found.push_back(task.path());
  }
  return found;
}

// All threads of this process but those that the FAKE runtime has, one for each stream from its first use on.
inline std::size_t count_threads() { return threads_named("").size() - threads_named("FAKE stream").size(); }

// How often these threads have gone to sleep by themselves, summed.
inline std::uint64_t sleeps_of(const std::string& name, const std::string& process = "self") {
  std::uint64_t sum = 0;
  for (const auto& thread : threads_named(name, process)) {
    std::ifstream file(thread / "status");
    const std::string wanted = "voluntary_ctxt_switches:";
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(wanted)) sum += std::stoull(line.substr(wanted.size()));
    }
  }
  return sum;
}

inline std::size_t open_files(const std::string& process = "self") {
  std::size_t count = 0;
  std::error_code error;
  for ([[maybe_unused]] const auto& fd : std::filesystem::directory_iterator("/proc/" + process + "/fd", error)) ++count;
  return count;
}

}  // namespace ray_hixl::test
