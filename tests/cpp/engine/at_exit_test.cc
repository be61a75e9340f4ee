#include "engine/at_exit.h"

#include <openssl/crypto.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>

#include "support/engines.h"
#include "support/threads_end.h"

namespace ray_hixl::test {
namespace {

using testing::ExitedWithCode;

// Registered first, so that it runs last.
void look_at_the_end() {
  if (const std::string running = engine_threads(); !running.empty()) {
    std::fprintf(stderr, "still running: %s\n", running.c_str());
    std::_Exit(1);
  }
  if (Engine::create({}).status().code() != Code::kClosed) std::_Exit(2);
}

void look_when_libcrypto_ends() {
  if (!engine_threads().empty()) std::_Exit(3);
}

// One engine is let go just before, one while the process exits, one never. They are linked, so that all their threads are there.
[[noreturn]] void exit_with_engines() {
  std::atexit(look_at_the_end);
  static const Engine let_go_at_exit = Engine::create({}).value();
  static const Engine& never_let_go = *new Engine(Engine::create({}).value());
  std::optional<Engine> let_go = Engine::create({}).value();
  static const Peer peer = never_let_go.connect(let_go_at_exit.descriptor(), kConnect).value();
  (void)let_go->connect(never_let_go.descriptor(), kConnect).value();
  // Its closing takes a while, since that drops this.
  std::shared_ptr<const void> slow(nullptr, [](const void*) { std::this_thread::sleep_for(std::chrono::milliseconds(100)); });
  (void)let_go->register_memory({}, false, std::move(slow)).value();
  OPENSSL_atexit(look_when_libcrypto_ends);
  let_go.reset();
  std::exit(0);
}

class AtExit : public testing::Test {
 protected:
  AtExit() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }  // in a process of its own
};

TEST_F(AtExit, no_thread_of_an_engine_runs_any_more) { EXPECT_EXIT(exit_with_engines(), ExitedWithCode(0), ""); }

TEST_F(AtExit, ending_early_closes_and_lets_nobody_start) {
  const auto end_early = [] {
    const Engine engine = Engine::create({}).value();
    const Engine other = Engine::create({}).value();
    end_engines();
    end_engines();
    if (!engine_threads().empty()) std::_Exit(1);
    const Status status = engine.connect(other.descriptor(), kConnect).status();
    if (status.code() != Code::kClosed || status.message().find("the process is ending") == std::string::npos) std::_Exit(2);
    std::exit(0);
  };
  EXPECT_EXIT(end_early(), ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ray_hixl::test
