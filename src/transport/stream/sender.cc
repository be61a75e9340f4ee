#include "transport/stream/sender.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/stream/turn.h"

namespace ray_hixl::transport::stream {
namespace {

// What takes as long as sending so many bytes.
constexpr std::uint64_t kBytesARequest = std::uint64_t{16} << 10;
constexpr std::uint64_t kBytesASpan = 512;
constexpr std::size_t kManySpans = 1024;  // that are judged and dropped elsewhere

void charge(std::uint64_t& budget, std::uint64_t bytes) { budget -= std::min(budget, bytes); }

// A known message that has no place on a data connection, or no number to answer to.
bool is_out_of_place(const control::Frame& frame) {
  return control::is_known(frame.type) && (frame.type != control::MessageType::kRead || frame.request == 0);
}

Answer answer_to(const control::Frame& frame, const memory::SlotTable& slots, bool carries_devices) {
  if (!control::is_known(frame.type)) return Answer::failure(frame.request, control::unknown_request(frame.type));
  Result<control::Read> read = control::decode_read(frame.body);
  if (!read.is_ok()) return Answer::failure(frame.request, read.status());
  return Answer::make(frame.request, *std::move(read), slots, carries_devices);
}

}  // namespace

Sender::Sender(const Context& context, const Carrier& carrier, CheckedCopy& copy, Fd socket, ByteView received, std::function<void()> ended)
    : context_(context), carrier_(carrier), copy_(copy), socket_(std::move(socket)), ended_(std::move(ended)), inbox_(received) {}

Sender::~Sender() {
  if (socket_) context_.loop.unwatch(socket_.get());
  if (stall_timer_ != 0) context_.loop.cancel(stall_timer_);
  drop_answer();
}

void Sender::start() {
  watched_ = EPOLLIN;
  if (!context_.loop.watch(socket_.get(), watched_, [this](std::uint32_t events) { on_event(events); }).is_ok()) return end();
  work();
}

void Sender::on_event(std::uint32_t events) {
  // Whoever hung up takes no answer, and epoll would go on and on telling of it.
  if ((watched_ & events & EPOLLRDHUP) != 0) return end();
  if ((watched_ & events) == 0 && (events & (EPOLLHUP | EPOLLERR)) != 0) return end();
  if (answer_ || receive()) work();
}

// False if nothing came.
bool Sender::receive() {
  const std::span<std::byte> room = inbox_.room();
  const ssize_t got = ::recv(socket_.get(), room.data(), room.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) {
    end();
    return false;
  }
  inbox_.received(static_cast<std::size_t>(got));
  progress_ += static_cast<std::uint64_t>(got);
  return true;
}

// Up to a turn's worth of answers to the requests that came in.
void Sender::work() {
  std::uint64_t budget = kTurnBytes;
  while (ended_ && !away_ && budget > 0 && (answer_ || take_request(budget))) {
    if (answer_ && !away_ && !transmit(budget)) break;
  }
  if (ended_) wait(budget == 0);
}

// False if no whole request is there, or what is there is none: then it ended.
bool Sender::take_request(std::uint64_t& budget) {
  Result<std::optional<Inbox::Taken>> taken = inbox_.next();
  if (taken.is_ok() && !*taken) return false;
  if (!taken.is_ok() || is_out_of_place((*taken)->frame)) {
    end();
    return false;
  }
  charge(budget, kBytesARequest);
  const control::Frame& frame = (*taken)->frame;
  if (!control::is_known(frame.type) && frame.request == 0) return true;  // a notice of a later version: there is nothing to answer
  take(**std::move(taken));
  if (!away_) charge(budget, answer_->spans() * kBytesASpan);
  return true;
}

void Sender::take(Inbox::Taken request) {
  if (!request.memory) {
    answer_ = std::make_shared<Answer>(answer_to(request.frame, context_.slots, carrier_.open_outflow != nullptr));
    answer_->gather([this](std::span<const iovec> from, std::span<std::byte> into) { return copy_.copy(from, into); });
    return;
  }
  answer_ = std::make_shared<Answer>(Answer::failure(request.frame.request, Status()));  // until the pool has made the right one
  elsewhere([answer = answer_, request, &slots = context_.slots, carries_devices = carrier_.open_outflow != nullptr] {
    *answer = answer_to(request.frame, slots, carries_devices);
  });
}

// Goes on whenever there is more of it.
void Sender::carry() {
  answer_->carry([this](std::int32_t device, NextRange payload, std::shared_ptr<const void> keep) {
    return carrier_.open_outflow(device, std::move(payload), std::move(keep), [&loop = context_.loop, self = std::weak_ptr(self_)] {
      loop.post([self] {
        const auto sender = self.lock();
        if (sender && (*sender)->ended_) (*sender)->work();
      });
    });
  });
}

// False if the socket takes no more, nothing is there to be sent, or if it ended.
bool Sender::transmit(std::uint64_t& budget) {
  if (answer_->needs_outflow()) carry();
  while (budget > 0) {
    if (answer_->is_waiting()) return false;
    answer_->next(vectors_, kMostVectors, std::min(kCallBytes, budget));
    msghdr message{};
    message.msg_iov = vectors_.data();
    message.msg_iovlen = vectors_.size();
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent >= 0) {
      progress_ += static_cast<std::uint64_t>(sent);
      charge(budget, static_cast<std::uint64_t>(sent) + vectors_.size() * kBytesASpan);
      context_.counters.served_bytes.fetch_add(answer_->sent(static_cast<std::uint64_t>(sent)), std::memory_order_relaxed);
    } else if (errno == EFAULT) {
      answer_->memory_is_unmapped();
    } else if (errno != EINTR) {
      if (errno != EAGAIN) end();
      return false;
    }
    if (answer_->awaits_verdict()) {
      if (answer_->spans() > kManySpans) {
        elsewhere([answer = answer_] { answer->judge(); });
        return true;
      }
      answer_->judge();
    }
    if (!answer_->done()) continue;
    answer_.reset();
    return true;
  }
  return true;
}

// The pool makes a step with the answer; then this goes on. Where it has no thread, the step is made here.
void Sender::elsewhere(const std::function<void()>& step) {
  const Status taken = context_.copy_pool.run([step = step, &loop = context_.loop, self = std::weak_ptr(self_)]() mutable {
    std::exchange(step, nullptr)();
    loop.post([self] {
      if (const auto sender = self.lock()) (*sender)->back();
    });
  });
  away_ = taken.is_ok();
  if (!away_) step();
}

void Sender::back() {
  away_ = false;
  if (ended_) work();
}

// Many spans are let go of elsewhere, unless the pool has them anyway.
void Sender::drop_answer() {
  if (!answer_ || away_ || answer_->spans() <= kManySpans) return answer_.reset();
  auto drop = [answer = std::exchange(answer_, nullptr)]() mutable { answer.reset(); };
  (void)context_.copy_pool.run(std::move(drop));
}

// For what comes next: room in the socket, a request, another turn or the pool.
void Sender::wait(bool out_of_budget) {
  const bool again = out_of_budget && !answer_ && !inbox_.empty();
  const bool is_elsewhere = away_ || (answer_ && answer_->is_waiting());
  const std::uint32_t wanted = is_elsewhere ? std::uint32_t{EPOLLRDHUP}
                               : again      ? 0u
                               : answer_    ? std::uint32_t{EPOLLOUT}
                                            : std::uint32_t{EPOLLIN};
  if (wanted != watched_) context_.loop.change(socket_.get(), watched_ = wanted);
  if (again) {
    context_.loop.post([self = std::weak_ptr(self_)] {
      const auto sender = self.lock();
      if (sender && (*sender)->ended_) (*sender)->work();
    });
  }
  const bool in_the_middle = answer_ || !inbox_.empty();
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
  if (away_ || (answer_ && answer_->is_waiting())) return watch_stall();  // it is not the reader that takes so long
  const std::uint64_t before = progress_seen_;
  if (progress_ == before) on_event(0);  // this process itself may have been stopped meanwhile
  if (!ended_) return;
  if (progress_ == before && !away_) return end();
  if (stall_timer_ == 0 && (answer_ || !inbox_.empty())) watch_stall();
}

void Sender::end() {
  if (!ended_) return;
  context_.loop.unwatch(socket_.get());
  if (stall_timer_ != 0) context_.loop.cancel(std::exchange(stall_timer_, 0));
  socket_.reset();
  drop_answer();
  context_.loop.post(std::exchange(ended_, nullptr));  // its owner destroys it: not from its own method
}

}  // namespace ray_hixl::transport::stream
