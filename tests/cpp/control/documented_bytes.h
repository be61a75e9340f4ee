// The examples of docs/protocol.md, so that the page and the code cannot part.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace ray_hixl::control {

// The bytes in the block that begins with "```text <name>": pairs of hexadecimal digits, on each line up to a '#'.
inline std::vector<std::byte> documented(const std::string& name) {
  const auto page = std::filesystem::path(__FILE__).parent_path() / "../../../docs/protocol.md";
  std::ifstream file(page);
  std::string line;
  while (std::getline(file, line) && line != "```text " + name) {
  }
  if (!file) throw std::runtime_error("docs/protocol.md has no example " + name);
  std::vector<std::byte> bytes;
  while (std::getline(file, line) && line != "```") {
    std::istringstream digits(line.substr(0, line.find('#')));
    for (std::string pair; digits >> pair;) bytes.push_back(static_cast<std::byte>(std::stoul(pair, nullptr, 16)));
  }
  return bytes;
}

// `first`, `first` + 1, ...
template <class Array>
Array counting_from(unsigned first) {
  Array out{};
  for (auto& byte : out) byte = static_cast<std::byte>(first++);
  return out;
}

}  // namespace ray_hixl::control
