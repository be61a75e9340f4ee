#include "support/peer_process.h"

#include "support/device_memory.h"

namespace ray_hixl::test {
namespace {

char hex_digit(unsigned value) { return "0123456789abcdef"[value]; }
unsigned hex_value(char digit) { return static_cast<unsigned>(digit <= '9' ? digit - '0' : digit - 'a' + 10); }

std::vector<std::string> arguments_of(const PeerSetup& setup) {
  std::vector<std::string> arguments = {setup.transports};
  arguments.insert(arguments.end(), setup.options.begin(), setup.options.end());
  return arguments;
}

}  // namespace

std::string to_hex(const std::vector<std::byte>& bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) {
    text += hex_digit(std::to_integer<unsigned>(byte) >> 4);
    text += hex_digit(std::to_integer<unsigned>(byte) & 15);
  }
  return text;
}

std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(hex_value(text[i]) * 16 + hex_value(text[i + 1])));
  return bytes;
}

PeerProcess::PeerProcess(const PeerSetup& setup) : LineProcess(HELPER_engine_peer, arguments_of(setup), setup.environment) {}

std::string PeerProcess::ask_fake(const std::string& command) {
  need_fake_cann();
  return ask(command);
}

std::vector<std::byte> PeerProcess::ask_bytes(const std::string& command) { return from_hex(ask(command)); }

std::vector<std::byte> PeerProcess::add_region(std::uint64_t bytes, std::uint64_t seed, SourceMemory memory) {
  return ask_bytes("add_region " + std::to_string(bytes) + " " + std::to_string(seed) + " " + std::to_string(static_cast<int>(memory)));
}

std::vector<std::byte> PeerProcess::publish(const std::vector<std::uint64_t>& sizes, std::uint64_t seed, SourceMemory memory) {
  std::string command = "publish " + std::to_string(static_cast<int>(memory)) + " " + std::to_string(seed);
  for (const std::uint64_t size : sizes) command += " " + std::to_string(size);
  return ask_bytes(command);
}

bool PeerProcess::release(const std::vector<std::byte>& metadata) { return ask("release " + to_hex(metadata)) == "1"; }

std::string PeerProcess::fetch(const std::vector<std::byte>& metadata, std::uint64_t seed) {
  return ask("fetch " + std::to_string(seed) + " " + to_hex(metadata));
}

}  // namespace ray_hixl::test
