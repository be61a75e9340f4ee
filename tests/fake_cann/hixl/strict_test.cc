// What no caller may do ends a process with FAKE_CANN_STRICT=1.
#include <cstdlib>

#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using testing::ExitedWithCode;

struct StrictEnvironment {
  StrictEnvironment() { ::setenv("FAKE_CANN_STRICT", "1", 1); }
  ~StrictEnvironment() { ::unsetenv("FAKE_CANN_STRICT"); }
};

class Strict : private StrictEnvironment, public Engines {
 protected:
  static void in_a_thread_without_context(const std::function<void()>& call) { std::thread(call).join(); }
  void read_for_ever() {
    fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", "60000000");
    std::thread([this] {
      (void)aclrtSetDevice(0);
      (void)transfer({whole()}, kRead, 60000);
    }).detach();
    while (fake_hixl_calls("TransferSync") == 0) std::this_thread::yield();
  }
};

TEST_F(Strict, wants_a_context_in_every_thread) {
  TransferReq request = &request;
  const std::pair<const char*, std::function<void()>> calls[] = {
      {"Initialize", [&] { (void)initialize(engine_, "127.0.0.1"); }},
      {"RegisterMem", [&] { (void)add(ours_); }},
      {"Connect", [&] { (void)connect(); }},
      {"TransferSync", [&] { (void)read(); }},
      {"TransferAsync", [&] { (void)start(request); }},
      {"GetTransferStatus", [&] { (void)poll(request); }},
  };
  for (const auto& [name, call] : calls) {
    EXPECT_EXIT(in_a_thread_without_context(call), ExitedWithCode(87),
                std::string("FAKE HIXL: ") + name + " was called by a thread without a context");
  }
}

TEST_F(Strict, initializes_once) {
  const auto twice = [&] {
    open_here();
    (void)initialize(engine_, "127.0.0.1");
  };
  EXPECT_EXIT(twice(), ExitedWithCode(87), "FAKE HIXL: Initialize was called twice on one object");
}

TEST_F(Strict, finalizes_alone) {
  const auto together = [&] {
    open_and_connect();
    read_for_ever();
    engine_.Finalize();
  };
  EXPECT_EXIT(together(), ExitedWithCode(87), "FAKE HIXL: Finalize was called while another call runs");
}

TEST_F(Strict, keeps_memory_that_a_link_may_use) {
  constexpr const char* kMessage = "memory was freed or unmapped that is registered with FAKE HIXL, while the engine has links";
  const auto outbound = [&] {
    open_and_connect();
    ours_.free();
  };
  const auto inbound = [&] {
    open();
    (void)peer_.connect(name_);
    ours_.free();
  };
  const auto of_the_host = [&] {
    open();
    Memory host(kMemHost, 100, 1);
    (void)add(host);
    (void)connect();
    host.free();
  };
  EXPECT_EXIT(outbound(), ExitedWithCode(87), kMessage);
  EXPECT_EXIT(inbound(), ExitedWithCode(87), kMessage);
  EXPECT_EXIT(of_the_host(), ExitedWithCode(87), kMessage);
}

TEST_F(Strict, keeps_mapped_memory_that_a_link_may_use) {
  const auto unmap = [&] {
    open();
    void* address = nullptr;
    void* physical = nullptr;
    const std::uint32_t properties[8] = {};
    (void)aclrtReserveMemAddress(&address, 2 << 20, 0, nullptr, 0);
    (void)aclrtMallocPhysical(&physical, 2 << 20, properties, 0);
    (void)aclrtMapMem(address, 2 << 20, 0, physical, 0);
    EXPECT_EQ(engine_.RegisterMem({reinterpret_cast<std::uintptr_t>(address), 2 << 20, {}}, kMemDevice, handle_), kSuccess);
    (void)connect();
    (void)aclrtUnmapMem(address);
  };
  EXPECT_EXIT(unmap(), ExitedWithCode(87), "memory was freed or unmapped");
}

TEST_F(Strict, minds_nothing_that_callers_may_do) {
  const auto well = [&] {
    open_and_connect();
    EXPECT_EQ(read(), kSuccess);
    const Memory other(kMemDevice, 100, 1);
    EXPECT_EQ(disconnect(), kSuccess);
    EXPECT_EQ(engine_.DeregisterMem(handle_), kSuccess);
    ours_.free();
    engine_.Finalize();
    EXPECT_EQ(initialize(engine_, "127.0.0.1"), kSuccess);
    ::_exit(HasFailure() ? 1 : 0);
  };
  EXPECT_EXIT(well(), ExitedWithCode(0), "");
}

}  // namespace
}  // namespace fake_hixl::test
