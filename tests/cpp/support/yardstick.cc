#include "support/yardstick.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>

#include "control/messages.h"

namespace ray_hixl::test {
namespace {

using std::chrono::nanoseconds;

constexpr int kFrames = 10'000;
constexpr int kHandovers = 100;
// What they took where the bounds were set: the `dev` build, an idle machine (AMD EPYC, 2 cores).
constexpr double kFramesNs = 1.4e6;
constexpr double kHandoversNs = 1.0e6;
constexpr int kRounds = 5;
constexpr double kMost = 20.0;  // or a bound that is broken would be waited for too long

nanoseconds thread_cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + nanoseconds(now.tv_nsec);
}

// The product's own code, as this build has it: memory is taken, filled, read and given back.
void work() {
  volatile std::uint64_t sum = 0;
  for (int i = 0; i < kFrames; ++i) {
    const auto bytes = control::encode(static_cast<std::uint64_t>(i), control::Resolve{{1, 2, 3}});
    const auto frame = control::next_frame(bytes);
    sum = sum + control::decode_resolve((*frame)->body)->handle.key;
  }
}

// Two threads by turns.
void hand_over() {
  std::mutex mutex;
  std::condition_variable changed;
  int turn = 0;
  const auto play = [&](int mine) {
    for (int i = 0; i < kHandovers; ++i) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return turn % 2 == mine; });
      ++turn;
      changed.notify_one();
    }
  };
  std::thread other([&] { play(1); });
  play(0);
  other.join();
}

template <class Work>
double wall_ns(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return static_cast<double>(nanoseconds(std::chrono::steady_clock::now() - start).count());
}

template <class Work>
double cpu_ns(Work work) {
  const nanoseconds start = thread_cpu_time();
  work();
  return static_cast<double>((thread_cpu_time() - start).count());
}

}  // namespace

double cpu_yardstick() {
  static const double factor = [] {
    std::array<double, kRounds> rounds{};
    for (double& round : rounds) round = cpu_ns(work) / kFramesNs;
    std::ranges::sort(rounds);
    return std::clamp(rounds[kRounds / 2], 1.0, kMost);
  }();
  return factor;
}

double wall_yardstick() {
  static const double factor = [] {
    const auto worked = wall_ns([] {
      for (int round = 0; round < kRounds; ++round) work();
    });
    const auto handed = wall_ns([] {
      for (int round = 0; round < kRounds; ++round) hand_over();
    });
    return std::min(kMost, std::max({cpu_yardstick(), worked / kRounds / kFramesNs, handed / kRounds / kHandoversNs}));
  }();
  return factor;
}

}  // namespace ray_hixl::test
