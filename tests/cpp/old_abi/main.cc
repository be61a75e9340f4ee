// The binding of HIXL, compiled with libstdc++'s old string ABI: the interface must be the same for callers of either. Starts two engines
// on two devices of the FAKE CANN (each process of the old ABI, the library's own strings of either), reads from one into the other.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "transport/hixl/cann/cann.h"
#include "transport/hixl/cann/start.h"

static_assert(_GLIBCXX_USE_CXX11_ABI == 0);

namespace {

using namespace ray_hixl;
using namespace ray_hixl::transport::hixl;

constexpr std::size_t kBytes = std::size_t{2} << 20;

void require(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "old_abi: %s\n", what.c_str());
  std::exit(1);  // NOLINT(concurrency-mt-unsafe)
}

// An engine with one registered block, on a device.
struct Side {
  Side(const Cann& cann, int device) {
    require(cann.acl.set_device(device) == kAclOk, "no device");
    Result<Started> made = start(cann, Options{});
    require(made.is_ok(), made.status().message());
    started = *std::move(made);
    require(cann.acl.malloc(&memory, kBytes, kAclHugeOnly) == kAclOk, "no memory");
    void* handle = nullptr;
    const Outcome registered = started.hixl->register_device_memory(reinterpret_cast<std::uintptr_t>(memory), kBytes, handle);
    require(registered.is_ok(), registered.text());
  }
  Started started;
  void* memory = nullptr;
};

}  // namespace

int main() {
  const Result<Cann>& cann = Cann::get();
  require(cann.is_ok(), cann.status().message());
  Side owner(*cann, 1);
  Side reader(*cann, 0);
  const std::string text(kBytes, 'x');
  require(cann->acl.memcpy(owner.memory, kBytes, text.data(), kBytes, 1) == kAclOk, "no copy to the device");
  const Text peer(owner.started.name);
  require(peer.c_str() == owner.started.name, "a text does not come back");
  Outcome outcome = reader.started.hixl->connect(peer, 5000);
  require(outcome.is_ok(), "connect: " + outcome.text());
  void* request = nullptr;
  const std::vector<OpDesc> ops(300,
                                {reinterpret_cast<std::uintptr_t>(reader.memory), reinterpret_cast<std::uintptr_t>(owner.memory), kBytes});
  outcome = reader.started.hixl->read_async(peer, ops, 7, request);
  require(outcome.is_ok(), "read: " + outcome.text());
  std::vector<PollResult> results;
  while (results.empty()) {
    outcome = reader.started.hixl->poll_all(results);
    require(outcome.is_ok(), "poll: " + outcome.text());
  }
  require(results.size() == 1 && results[0].status == kCompleted && reinterpret_cast<std::uint64_t>(results[0].user_data) == 7,
          "no result");
  std::string arrived(kBytes, ' ');
  require(cann->acl.memcpy(arrived.data(), kBytes, reader.memory, kBytes, 2) == kAclOk && arrived == text, "other bytes arrived");
  std::printf("%s: %s\n", cann->api.version.c_str(), "callers of the old string ABI are served");
  return 0;
}
