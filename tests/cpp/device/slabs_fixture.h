// What the tests of slabs share: a source that keeps a log, of addresses that nothing is behind.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "device/slabs.h"

namespace ray_hixl::device {

using BlockPtr = std::shared_ptr<const memory::Block>;

inline constexpr std::uint64_t kStep = Slabs::kAlignment;
inline constexpr std::uint64_t kSlab = Slabs::kGranule;
inline constexpr std::uint64_t kNoCap = std::uint64_t{1} << 40;
inline constexpr std::uint64_t kFirstAddress = std::uint64_t{1} << 40;

// What a source was asked for. Outlives the Slabs.
struct Log {
  std::vector<std::uint64_t> taken;  // bytes
  std::vector<std::pair<std::byte*, std::uint64_t>> given_back;
  Status error;                    // of take()
  std::uint64_t largest = kNoCap;  // that take() has room for
  std::function<void()> in_take = [] {};
  std::function<void()> in_give_back = [] {};
  std::atomic<bool> is_called{false};
  std::atomic<bool> is_gone{false};
};

// Slabs side by side, of addresses that nothing is behind.
class Source : public SlabSource {
 public:
  explicit Source(Log& log) : log_(log) {}
  ~Source() override { log_.is_gone = true; }

  Result<std::byte*> take(std::uint64_t bytes) override {
    EXPECT_FALSE(log_.is_called.exchange(true)) << "one call at a time";
    log_.taken.push_back(bytes);
    log_.in_take();
    auto* const address = reinterpret_cast<std::byte*>(next_);
    const Status outcome = bytes > log_.largest ? Status(Code::kOutOfMemory, "the device is full") : log_.error;
    if (outcome.is_ok()) next_ += bytes;
    log_.is_called = false;
    if (!outcome.is_ok()) return outcome;
    return address;
  }
  void give_back(std::byte* address, std::uint64_t bytes) noexcept override {
    EXPECT_FALSE(log_.is_called.exchange(true)) << "one call at a time";
    log_.given_back.emplace_back(address, bytes);
    log_.in_give_back();
    log_.is_called = false;
  }

 private:
  Log& log_;
  std::uint64_t next_ = kFirstAddress;
};

// A device that is done when a test says so.
struct Work {
  std::atomic<bool> is_done{true};
  Status error;  // of whoever asks
};

class WorkFence final : public Fence {
 public:
  explicit WorkFence(const Work& work) : work_(work) {}
  Result<bool> passed() override {
    if (!work_.error.is_ok()) return work_.error;
    return work_.is_done.load();
  }

 private:
  const Work& work_;
};

class SlabsTest : public testing::Test {
 protected:
  std::shared_ptr<Slabs> make(std::uint64_t first = kSlab, std::uint64_t cap = kNoCap) {
    return Slabs::create(std::make_unique<Source>(log), first, cap);
  }
  BlockPtr allocate(const std::shared_ptr<Slabs>& slabs, std::uint64_t bytes) {
    Result<BlockPtr> block = slabs->allocate(bytes, fence, Deadline::never());
    EXPECT_TRUE(block.is_ok()) << block.status().to_string();
    return block.is_ok() ? *block : nullptr;
  }
  [[nodiscard]] std::uint64_t bytes_given_back() const {
    std::uint64_t sum = 0;
    for (const auto& [address, bytes] : log.given_back) sum += bytes;
    return sum;
  }

  Log log;
  std::atomic<int> fences{0};
  Work work;
  SetFence fence = [this] {
    ++fences;
    return std::shared_ptr<Fence>(std::make_shared<WorkFence>(work));
  };
};

inline std::uint64_t offset_of(const BlockPtr& block) { return reinterpret_cast<std::uint64_t>(block->address) - kFirstAddress; }

}  // namespace ray_hixl::device
