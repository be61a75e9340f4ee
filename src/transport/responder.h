// Responder: the owner's way to answer one request, now or later. ReaderView: whom it answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "control/version.h"
#include "memory/copy_pool.h"
#include "net/loop.h"
#include "net/processes.h"
#include "ray_hixl/status.h"

namespace ray_hixl::transport {

// What is known of a reader once it has authenticated itself. One for each session, which it outlives where an answer comes later.
struct ReaderView {
  bool is_same_user = false;                     // on this host, over a Unix socket, as the kernel says: may have descriptors and addresses
  control::Capabilities capabilities = 0;        // what both sides can do
  std::shared_ptr<net::WatchedProcess> process;  // over a Unix socket, where the kernel tells; may be kept for longer than the session
};

// A frame, maybe in several pieces, so that sending a long one lets go of it bit by bit.
using FrameParts = std::vector<std::vector<std::byte>>;

// A session as its responders see it. Loop thread.
class Answerable {
 public:
  virtual ~Answerable() = default;
  // Work for one of its requests was handed to a worker: it takes no further request until that is answered.
  virtual void work_began() = 0;
  // One request was answered; `worked` if work_began() was said for it.
  virtual void answered(FrameParts frame, std::vector<Fd> fds, bool worked) = 0;
};

// Move-only, and used up by its one answer; dropped without one it answers that there is none. An answer to a session that ended is
// dropped. Any thread. REQUIRES: the loop outlives it.
class Responder {
 public:
  using Make = std::function<Result<std::vector<std::byte>>(std::uint64_t request)>;

  Responder(net::Loop& loop, std::weak_ptr<Answerable> session, std::shared_ptr<const ReaderView> reader, std::uint64_t request);
  ~Responder();
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&&) = delete;

  [[nodiscard]] const ReaderView& reader() const { return *reader_; }
  [[nodiscard]] std::uint64_t request() const { return request_; }

  // The answer: a frame that repeats request(), with descriptors for a reader that may have some.
  void send(std::vector<std::byte> frame, std::vector<Fd> fds = {}) &&;
  void fail(const Status& why) &&;
  // What `make` gives for request(): a frame, or why there is none. It looks at so many `parts` of something (ranges, handles): more than
  // kMostInline are looked at by the pool. Loop thread.
  void answer(memory::CopyPool& pool, std::size_t parts, Make make) &&;
  static constexpr std::size_t kMostInline = 256;

 private:
  void deliver(FrameParts frame, std::vector<Fd> fds);

  net::Loop* loop_;
  std::weak_ptr<Answerable> session_;
  std::shared_ptr<const ReaderView> reader_;  // null once it was moved from or has answered
  std::uint64_t request_;
  bool worked_ = false;
};

}  // namespace ray_hixl::transport
