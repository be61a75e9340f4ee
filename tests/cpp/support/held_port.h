// HeldPort: a port whose requests wait for the test to answer them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "transport/transport.h"

namespace ray_hixl::test {

class HeldPort final : public transport::Port {
 public:
  void request(std::function<std::vector<std::byte>(std::uint64_t)> encode, std::function<void(Result<transport::Reply>)> answer) override {
    frames.push_back(encode(frames.size() + 1));
    asked.push_back(std::move(answer));
  }
  void open_connection(control::TransportKind, Deadline, std::function<void(Result<Fd>)>) override {
    FAIL() << "no connection of its own is expected";
  }
  [[nodiscard]] bool is_live(const Handle& handle) const override { return !std::ranges::count(retired, handle); }
  std::vector<Handle> retired;
  std::vector<std::vector<std::byte>> frames;
  std::vector<std::function<void(Result<transport::Reply>)>> asked;
};

// The answer that such a frame is.
inline transport::Reply reply_of(const std::vector<std::byte>& frame) {
  const control::Frame decoded = *control::next_frame(frame).value();
  return {decoded.type, frame, {}};
}

}  // namespace ray_hixl::test
