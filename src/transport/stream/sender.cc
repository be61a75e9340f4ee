#include "transport/stream/sender.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ray_hixl::transport::stream {
namespace {

constexpr std::size_t kInputBytes = 16 * 1024;  // grows for a longer request, and shrinks again
constexpr std::size_t kMostVectors = 512;
constexpr std::uint64_t kCallBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kTurnBytes = std::uint64_t{4} << 20;  // then other connections have their turn

// A known message that has no place on a data connection, or no number to answer to.
bool is_out_of_place(const control::Frame& frame) {
  return control::is_known(frame.type) && (frame.type != control::MessageType::kRead || frame.request == 0);
}

}  // namespace

Sender::Sender(const Context& context, Fd socket, std::vector<std::byte> received, std::function<void()> ended)
    : context_(context), socket_(std::move(socket)), ended_(std::move(ended)), input_(std::move(received)), filled_(input_.size()) {
  input_.resize(std::max(input_.size(), kInputBytes));
}

Sender::~Sender() {
  if (socket_) context_.loop.unwatch(socket_.get());
  if (stall_timer_ != 0) context_.loop.cancel(stall_timer_);
}

void Sender::start() {
  watched_ = EPOLLIN;
  if (!context_.loop.watch(socket_.get(), watched_, [this](std::uint32_t) { on_event(); }).is_ok()) return end();
  work();
}

void Sender::on_event() {
  if (answer_ || receive()) work();
}

// False if nothing came.
bool Sender::receive() {
  if (filled_ == input_.size()) input_.resize(2 * input_.size());
  const ssize_t got = ::recv(socket_.get(), input_.data() + filled_, input_.size() - filled_, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) {
    end();
    return false;
  }
  filled_ += static_cast<std::size_t>(got);
  progress_ += static_cast<std::uint64_t>(got);
  return true;
}

// Up to a turn's worth of answers to the requests that came in.
void Sender::work() {
  std::uint64_t budget = kTurnBytes;
  while (ended_ && (answer_ || take_request())) {
    if (answer_ && !transmit(budget)) break;
  }
  if (ended_) wait();
}

// Nullopt if there is nothing to answer: a notice of a later version.
std::optional<Answer> Sender::answer_to(const control::Frame& frame) const {
  if (!control::is_known(frame.type)) {
    if (frame.request == 0) return std::nullopt;
    return Answer::failure(frame.request, control::unknown_request(frame.type));
  }
  Result<control::Read> read = control::decode_read(frame.body);
  return read.is_ok() ? Answer::make(frame.request, *std::move(read), context_.slots) : Answer::failure(frame.request, read.status());
}

// False if no whole request is there, or what is there is none: then it ended.
bool Sender::take_request() {
  const Result<std::optional<control::Frame>> frame = control::next_frame(std::span(input_).first(filled_));
  if (frame.is_ok() && !*frame) return false;
  if (!frame.is_ok() || is_out_of_place(**frame)) {
    end();
    return false;
  }
  answer_ = answer_to(**frame);
  filled_ -= (*frame)->size;
  std::memmove(input_.data(), input_.data() + (*frame)->size, filled_);
  if (input_.size() > kInputBytes) {
    input_.resize(std::max(filled_, kInputBytes));
    input_.shrink_to_fit();
  }
  return true;
}

// False if the answer is not complete, because the socket takes no more or the budget is used up, or because it ended.
bool Sender::transmit(std::uint64_t& budget) {
  while (budget > 0) {
    answer_->next(vectors_, kMostVectors, std::min(kCallBytes, budget));
    msghdr message{};
    message.msg_iov = vectors_.data();
    message.msg_iovlen = vectors_.size();
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent >= 0) {
      progress_ += static_cast<std::uint64_t>(sent);
      budget -= std::min(budget, static_cast<std::uint64_t>(sent));
      context_.counters.served_bytes.fetch_add(answer_->sent(static_cast<std::uint64_t>(sent)), std::memory_order_relaxed);
    } else if (errno == EFAULT) {
      answer_->memory_is_unmapped();
    } else if (errno != EINTR) {
      if (errno != EAGAIN) end();
      return false;
    }
    if (!answer_->done()) continue;
    answer_.reset();
    return true;
  }
  return false;
}

// For what comes next: room in the socket, or a request.
void Sender::wait() {
  const std::uint32_t wanted = answer_ ? EPOLLOUT : EPOLLIN;
  if (wanted != watched_) context_.loop.change(socket_.get(), watched_ = wanted);
  const bool in_the_middle = answer_ || filled_ > 0;
  if (in_the_middle && stall_timer_ == 0) watch_stall();
  if (!in_the_middle && stall_timer_ != 0) context_.loop.cancel(std::exchange(stall_timer_, 0));
}

// One timer, which is set again only when it finds progress.
void Sender::watch_stall() {
  progress_seen_ = progress_;
  const Deadline deadline = Deadline::in(seconds_to_duration(context_.options.stall_timeout_s));
  stall_timer_ = context_.loop.at(deadline, [this] { on_stall_time(); });
}

// A reader that takes no byte, or does not finish its request, for so long is gone or broken, and must not keep memory pinned.
void Sender::on_stall_time() {
  stall_timer_ = 0;
  const std::uint64_t before = progress_seen_;
  if (progress_ == before) on_event();  // this process itself may have been stopped meanwhile
  if (!ended_) return;
  if (progress_ == before) return end();
  if (stall_timer_ == 0 && (answer_ || filled_ > 0)) watch_stall();
}

void Sender::end() {
  if (!ended_) return;
  context_.loop.unwatch(socket_.get());
  if (stall_timer_ != 0) context_.loop.cancel(std::exchange(stall_timer_, 0));
  socket_.reset();
  answer_.reset();
  context_.loop.post(std::exchange(ended_, nullptr));  // its owner destroys it: not from its own method
}

}  // namespace ray_hixl::transport::stream
