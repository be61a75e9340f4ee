#include "engine/at_exit.h"

#include <openssl/crypto.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "support/engines.h"
#include "support/sanitized.h"
#include "support/threads_end.h"

namespace ray_hixl::test {
namespace {

using namespace std::chrono_literals;
using testing::ExitedWithCode;

bool ends_are_looked_at = false;

void look_at_the_end() {
  if (!ends_are_looked_at) return;
  if (const std::string running = engine_threads(); !running.empty()) {
    std::fprintf(stderr, "still running: %s\n", running.c_str());
    std::_Exit(1);
  }
  if (Engine::create({}).status().code() != Code::kClosed) std::_Exit(2);
}

// Before main(), and before every other static of a program: an exit function, which runs last therefore, and an engine.
struct Early {
  bool is_registered = std::atexit(look_at_the_end) == 0;
  bool is_made = Engine::create({}).is_ok();
};
[[gnu::init_priority(102)]] const Early early;

TEST(Engine, may_be_made_by_a_static_of_a_program) { EXPECT_TRUE(early.is_made); }

// A region whose owner runs this on the engine's reaper when it is dropped.
Region on_reaper(const Engine& engine, std::function<void()> run) {
  std::shared_ptr<const void> owner(nullptr, [run = std::move(run)](const void*) { run(); });
  return engine.register_memory({}, false, std::move(owner)).value();
}

// Dies in a process of its own, which must come to its end by itself.
class AtExit : public testing::Test {
 protected:
  AtExit() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

void look_when_libcrypto_ends() {
  if (!engine_threads().empty()) std::_Exit(3);
}

// One engine is let go just before, one while the process exits, one never. They are linked, so that all their threads are there.
[[noreturn]] void exit_with_engines() {
  ends_are_looked_at = true;
  static const Engine let_go_at_exit = Engine::create({}).value();
  static const Engine& never_let_go = *new Engine(Engine::create({}).value());
  std::optional<Engine> let_go = Engine::create({}).value();
  static const Peer peer = never_let_go.connect(let_go_at_exit.descriptor(), kConnect).value();
  (void)let_go->connect(never_let_go.descriptor(), kConnect).value();
  (void)on_reaper(*let_go, [] { std::this_thread::sleep_for(100ms); });  // so that its closing takes a while
  OPENSSL_atexit(look_when_libcrypto_ends);
  let_go.reset();
  std::exit(0);
}
TEST_F(AtExit, no_thread_of_an_engine_runs_any_more) { EXPECT_EXIT(exit_with_engines(), ExitedWithCode(0), ""); }

[[noreturn]] void end_early() {
  const Engine engine = Engine::create({}).value();
  const Engine other = Engine::create({}).value();
  end_engines();
  end_engines();
  if (!engine_threads().empty()) std::_Exit(1);
  const Status status = engine.connect(other.descriptor(), kConnect).status();
  if (status.code() != Code::kClosed || status.message().find("the process is ending") == std::string::npos) std::_Exit(2);
  std::exit(0);
}
TEST_F(AtExit, ending_early_closes_and_lets_nobody_start) { EXPECT_EXIT(end_early(), ExitedWithCode(0), ""); }

// The last handle of an engine that is closed on its own thread is the closer's, or that of the owner, which dies on the reaper.
[[noreturn]] void exit_while_reapers_close() {
  for (int i = 0; i < 50; ++i) {
    const Engine engine = Engine::create({}).value();
    on_reaper(engine, [engine] { engine.close(); }).close();
  }
  std::exit(0);
}
TEST_F(AtExit, engines_may_be_closed_by_their_own_threads) { EXPECT_EXIT(exit_while_reapers_close(), ExitedWithCode(0), ""); }

[[noreturn]] void exit_on_a_reaper() {
  ::alarm(20);                                              // sooner than the longest wait
  static const Engine engine = Engine::create({}).value();  // destroyed meanwhile
  on_reaper(engine, [] { std::exit(7); }).close();
  while (true) std::this_thread::sleep_for(1s);
}
TEST_F(AtExit, may_come_on_a_thread_of_an_engine) { EXPECT_EXIT(exit_on_a_reaper(), ExitedWithCode(7), ""); }

// A child has none of the parent's engines to wait for, whatever was going on there.
[[noreturn]] void exit_in_a_child() {
  std::optional<Engine> let_go = Engine::create({}).value();
  (void)on_reaper(*let_go, [] { std::this_thread::sleep_for(500ms); });
  let_go.reset();  // a closer runs, which a child does not have
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(10);
    if (!Engine::create({}).is_ok()) std::_Exit(1);
    std::exit(5);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  std::exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}
TEST_F(AtExit, of_a_child_does_not_wait_for_the_parents) {
  if (!kSanitizers.empty()) GTEST_SKIP() << "LeakSanitizer looks for the parent's threads in the child, ThreadSanitizer ends it";
  EXPECT_EXIT(exit_in_a_child(), ExitedWithCode(5), "");
}

}  // namespace
}  // namespace ray_hixl::test
