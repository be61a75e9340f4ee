// fake_hixl_clock: what a transfer costs on the FAKE HIXL itself, for `ray-hixl bench --level npu`. Two processes of its own, registered
// memory, one TransferAsync, and polling without a pause. One command a line on stdin, one answer a line:
//   raw <bytes>   nanoseconds of one READ
//   handoff       nanoseconds until a sleeping thread runs
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "hixl/api.h"
#include "runtime/acl.h"

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kMostBytes = std::size_t{512} << 20;
constexpr int kHugeOnly = 1;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "fake_hixl_clock: %s\n", why.c_str());
  ::_exit(1);
}

std::uint64_t since(Clock::time_point start) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
}

// An engine on a device with one registered block.
struct Side {
  explicit Side(int device) {
    if (aclInit(nullptr) != 0 || aclrtSetDevice(device) != 0) die("no device " + std::to_string(device));
    if (aclrtMalloc(&memory, kMostBytes, kHugeOnly) != 0) die("no device memory");
    // Pages that nobody has written to are all the same one, which is read from a cache.
    if (aclrtMemset(memory, kMostBytes, 7, kMostBytes) != 0) die("device memory cannot be set");
    std::random_device random;
    for (int attempt = 0; attempt < 16; ++attempt) {
      engine = new hixl::Hixl;
      name = "127.0.0.1:" + std::to_string(20000 + random() % 10000);
      const std::string resources = R"({"comm_resource_config.listen_port":)" + std::to_string(20000 + random() % 10000) + "}";
      const std::map<ge::AscendString, ge::AscendString> options = {
          {"LocalCommRes", R"({"version":"1.3"})"}, {"BufferPool", "0:0"}, {"GlobalResourceConfig", resources.c_str()}};
      if (engine->Initialize(name.c_str(), options) == hixl::kSuccess) break;
      if (attempt == 15) die("HIXL does not start");
    }
    hixl::MemHandle handle = nullptr;
    if (engine->RegisterMem({reinterpret_cast<std::uintptr_t>(memory), kMostBytes, {}}, hixl::kMemDevice, handle) != hixl::kSuccess) {
      die("HIXL does not register");
    }
  }

  hixl::Hixl* engine = nullptr;  // ends with the process
  std::string name;
  void* memory = nullptr;
};

// Tells the reader its name and address, and stays until the reader hangs up.
[[noreturn]] void be_owner(int to_reader, int from_reader) {
  const Side side(1);
  const std::string line = side.name + " " + std::to_string(reinterpret_cast<std::uintptr_t>(side.memory)) + "\n";
  if (::write(to_reader, line.data(), line.size()) < 0) die("no reader");
  char byte = 0;
  while (::read(from_reader, &byte, 1) > 0) continue;
  ::_exit(0);
}

class Reader {
 public:
  Reader(const std::string& peer, std::uintptr_t remote) : peer_(peer.c_str()), remote_(remote) {
    if (side_.engine->Connect(peer_, 5000) != hixl::kSuccess) die("cannot connect");
  }

  std::uint64_t read(std::size_t bytes) {
    const std::vector<hixl::TransferOpDesc> ops = {{reinterpret_cast<std::uintptr_t>(side_.memory), remote_, bytes}};
    hixl::TransferReq request = nullptr;
    auto status = hixl::TransferStatus::WAITING;
    const auto start = Clock::now();
    if (side_.engine->TransferAsync(peer_, hixl::kRead, ops, {}, request) != hixl::kSuccess) die("TransferAsync failed");
    while (status == hixl::TransferStatus::WAITING) {
      if (side_.engine->GetTransferStatus(request, status) != hixl::kSuccess) die("a poll failed");
      ::sched_yield();
    }
    return since(start);
  }

 private:
  const Side side_{0};
  const ge::AscendString peer_;
  const std::uintptr_t remote_;
};

// A thread that sleeps until it is woken, and says how long that took.
class Sleeper {
 public:
  Sleeper() : thread_([this] { sleep(); }) { thread_.detach(); }

  std::uint64_t wake() {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // it sleeps by now
    std::unique_lock lock(mutex_);
    woken_ = true;
    start_ = Clock::now();
    lock.unlock();
    changed_.notify_all();
    lock.lock();
    changed_.wait(lock, [this] { return !woken_; });
    return took_;
  }

 private:
  void sleep() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return woken_; });
      took_ = since(start_);
      woken_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;  // guarded by mutex_, as all below
  Clock::time_point start_;
  std::uint64_t took_ = 0;
  std::thread thread_;
};

}  // namespace

int main() {
  int to_reader[2], to_owner[2];
  if (::pipe(to_reader) != 0 || ::pipe(to_owner) != 0) die("no pipe");
  if (::fork() == 0) {
    ::close(to_owner[1]);
    be_owner(to_reader[1], to_owner[0]);
  }
  ::close(to_reader[1]);
  FILE* const owner = ::fdopen(to_reader[0], "r");
  char name[64];
  std::uintptr_t remote = 0;
  if (std::fscanf(owner, "%63s %zu", name, &remote) != 2) die("no owner");
  Reader reader(name, remote);
  auto* const sleeper = new Sleeper;  // its thread runs until the process ends
  for (std::string command; std::cin >> command;) {
    std::size_t bytes = 0;
    if (command == "raw" && std::cin >> bytes && bytes > 0 && bytes <= kMostBytes) {
      std::cout << reader.read(bytes) << std::endl;
    } else if (command == "handoff") {
      std::cout << sleeper->wake() << std::endl;
    } else {
      die("unknown command");
    }
  }
  ::_exit(0);
}
