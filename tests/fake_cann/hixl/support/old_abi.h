// A caller that is compiled with the old ABI of std::string, as CANN's own are. All other tests are compiled with the new one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fake_hixl::test {

// Initialises a client, registers [address, address + size), connects to `peer` and reads as much from `remote`. The first status that is
// not 0.
[[nodiscard]] std::uint32_t read_with_old_abi(const char* peer, std::uintptr_t address, std::uintptr_t remote, std::size_t size);

}  // namespace fake_hixl::test
