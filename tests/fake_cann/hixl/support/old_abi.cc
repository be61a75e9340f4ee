#include "hixl/support/old_abi.h"

#include "hixl/api.h"

static_assert(_GLIBCXX_USE_CXX11_ABI == 0);

namespace fake_hixl::test {

std::uint32_t read_with_old_abi(const char* peer, std::uintptr_t address, std::uintptr_t remote, std::size_t size) {
  hixl::Hixl engine;
  hixl::MemHandle handle = nullptr;
  std::map<ge::AscendString, ge::AscendString> options;
  options["BufferPool"] = "0:0";
  hixl::Status status = engine.Initialize("127.0.0.1", options);
  if (status == hixl::kSuccess) status = engine.RegisterMem({address, size, {}}, hixl::kMemDevice, handle);
  if (status == hixl::kSuccess) status = engine.Connect(peer);
  if (status == hixl::kSuccess) status = engine.TransferSync(peer, hixl::kRead, {{address, remote, size}});
  return status;
}

}  // namespace fake_hixl::test
