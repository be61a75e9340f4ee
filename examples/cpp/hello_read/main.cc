// One engine shows some memory, another one reads it. Both live in this process here; descriptors are bytes, so that they could as well
// come from another process or host, by any trusted way.
#include <cstring>
#include <iostream>
#include <string>

#include "ray_hixl/ray_hixl.h"

using namespace std::chrono_literals;

namespace {

ray_hixl::Status hello() {
  auto owner = ray_hixl::Engine::create({});
  if (!owner.is_ok()) return owner.status();
  std::string text = "hello, one-sided world";
  const ray_hixl::MemoryRange range{reinterpret_cast<std::byte*>(text.data()), text.size()};
  auto shown = owner->register_memory(range, /*remote_write=*/false, /*owner=*/nullptr);
  if (!shown.is_ok()) return shown.status();

  auto reader = ray_hixl::Engine::create({});
  if (!reader.is_ok()) return reader.status();
  auto local = reader->allocate(text.size());
  if (!local.is_ok()) return local.status();
  auto peer = reader->connect(owner->descriptor(), 10s);
  if (!peer.is_ok()) return peer.status();
  auto remote = peer->region(shown->descriptor());
  if (!remote.is_ok()) return remote.status();

  const ray_hixl::BatchOp op{*local, 0, *remote, 0, text.size()};
  auto batch = peer->prepare({&op, 1});
  if (!batch.is_ok()) return batch.status();
  const ray_hixl::Status read = peer->read(*batch, 30s);
  if (read.is_ok()) std::cout << "read: " << std::string_view(reinterpret_cast<char*>(local->range().address), text.size()) << "\n";
  reader->close();
  owner->close();
  return read;
}

}  // namespace

int main() {
  const ray_hixl::Status status = hello();
  if (!status.is_ok()) std::cerr << status.to_string() << "\n";
  return status.is_ok() ? 0 : 1;
}
