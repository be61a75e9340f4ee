#include "transport/stream/reader.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "transport/fetched.h"
#include "transport/stream/turn.h"

namespace ray_hixl::transport::stream {
namespace {

constexpr int kTurnCalls = 32;  // a call may bring few bytes: 512 pieces of four

}  // namespace

Reader::Reader(const Context& context, const Carrier& carrier, Fd socket)
    : context_(context), carrier_(carrier), socket_(std::move(socket)) {}

Reader::~Reader() {
  if (watched_ != 0) context_.loop.unwatch(socket_.get());
  if (stall_timer_ != 0) context_.loop.cancel(stall_timer_);
}

void Reader::start(std::shared_ptr<const ReadRequest> request, Ended ended) {
  request_ = std::move(request);
  ended_ = std::move(ended);
  phase_ = Phase::kAnswer;
  untouched_ = true;
  piece_ = 0;
  in_piece_ = 0;
  wanted_ = request_->bytes();
  small_size_ = 0;
  sent_ = 0;
  watch(EPOLLIN);
  if (!request_) return;
  watch_stall();
  if (carrier_.open_inflow) {
    const std::shared_ptr<Job>& job = request_->jobs().front();
    inflow_ = carrier_.open_inflow(job, [&loop = context_.loop, weak = weak_from_this(), request = std::weak_ptr(request_)] {
      loop.post([weak, request] {
        const auto self = weak.lock();
        if (self && self->request_ && self->request_ == request.lock()) self->on_room();
      });
    });
  }
  if (inflow_) return on_room();
  send_request();
}

// Something changed of the inflow's room, or it is looked at for the first time.
void Reader::on_room() {
  if (!inflow_->status().is_ok()) return abandon(inflow_->status());
  ++progress_;  // until now it was not the peer who took so long
  send_request();
}

void Reader::on_event(std::uint32_t events) {
  const auto self = shared_from_this();  // who hears of the end may drop this
  if ((events & EPOLLOUT) != 0) {
    send_request();
    if (!request_) return;
  }
  if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) receive();
}

void Reader::send_request() {
  const std::span<const std::byte> frame = request_->frame();
  if (sent_ == 0 && inflow_ && inflow_->room().empty()) return;  // the peer is not to be asked before it could be listened to
  while (sent_ < frame.size()) {
    const ssize_t sent = ::send(socket_.get(), frame.data() + sent_, frame.size() - sent_, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return watch(EPOLLIN | EPOLLOUT);
    if (sent < 0) return broke(std::strerror(errno));
    sent_ += static_cast<std::size_t>(sent);
    progress_ += static_cast<std::uint64_t>(sent);
  }
  watch(EPOLLIN);
}

// 0: not at all, also not for a hang-up, of which epoll would tell again and again.
void Reader::watch(std::uint32_t events) {
  if (events == watched_) return;
  const std::uint32_t before = std::exchange(watched_, events);
  if (events == 0) return context_.loop.unwatch(socket_.get());
  if (before != 0) return context_.loop.change(socket_.get(), events);
  const Status watched = context_.loop.watch(socket_.get(), events, [this](std::uint32_t happened) { on_event(happened); });
  if (watched.is_ok()) return;
  watched_ = 0;
  abandon(watched);
}

// Takes what is there, up to a turn's worth.
void Reader::receive() {
  const std::uint64_t turn_end = progress_ + kTurnBytes;
  for (int call = 0; request_ && progress_ < turn_end && call < kTurnCalls; ++call) {
    if (const Status stopped = request_->stopped(); !stopped.is_ok()) return abandon(stopped);
    if (!(phase_ == Phase::kPayload ? receive_payload() : receive_small())) return;
  }
}

// False when there is nothing more to do for now. May have ended the job.
bool Reader::receive_small() {
  const ssize_t got = ::recv(socket_.get(), small_.data() + small_size_, small_.size() - small_size_, 0);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return errno == EINTR;
  if (got <= 0) {
    broke(got == 0 ? "it hung up" : std::strerror(errno));
    return false;
  }
  progress_ += static_cast<std::uint64_t>(got);
  small_size_ += static_cast<std::size_t>(got);
  untouched_ = false;
  const auto bytes = std::span(small_).first(small_size_);
  const Result<std::optional<control::Frame>> frame = control::next_frame(bytes);
  if (!frame.is_ok() || (!*frame && small_size_ == small_.size())) {
    broke("it sent something else than an answer");
    return false;
  }
  if (!*frame) return true;
  if (phase_ == Phase::kTrailer) {
    on_trailer(**frame);
    return false;
  }
  return on_answer(**frame);
}

bool Reader::on_answer(const control::Frame& frame) {
  if (frame.request != ReadRequest::kNumber) {
    broke("it answered another request");
    return false;
  }
  if (frame.type == control::MessageType::kFailure) {
    const Result<control::Failure> failure = control::decode_failure(frame.body);
    end(failure.is_ok() ? failure->status : failure.status(), failure.is_ok() && is_last(frame));
    return false;
  }
  const Result<control::Reading> reading = control::decode_reading(frame.body);
  if (frame.type != control::MessageType::kReading || !reading.is_ok() || reading->bytes != wanted_) {
    broke("it answered a read of " + std::to_string(wanted_) + " bytes with something else");
    return false;
  }
  small_size_ -= frame.bytes.size();
  std::memmove(small_.data(), small_.data() + frame.bytes.size(), small_size_);
  phase_ = Phase::kPayload;
  take_buffered_payload();
  return true;
}

void Reader::take_buffered_payload() {
  std::size_t used = 0;
  while (used < small_size_ && wanted_ > 0) {
    const std::span<std::byte> room = next_room();
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>({small_size_ - used, room.size(), wanted_}));
    std::memcpy(room.data(), small_.data() + used, length);
    used += length;
    place(length);
  }
  small_size_ -= used;
  std::memmove(small_.data(), small_.data() + used, small_size_);
  if (wanted_ > 0) return;
  phase_ = Phase::kTrailer;
  const auto frame = control::next_frame(std::span(small_).first(small_size_));
  if (frame.is_ok() && *frame) on_trailer(**frame);
}

// `bytes` of payload are in place.
void Reader::place(std::size_t bytes) {
  wanted_ -= bytes;
  // What several ask for is too little for anyone to watch it come.
  if (request_->jobs().size() == 1) count_fetched(*request_->jobs().front()->transfer, context_.counters, carrier_.kind, bytes);
  if (inflow_) return inflow_->received(bytes);
  while (bytes > 0) {
    const auto step = std::min<std::uint64_t>(bytes, request_->pieces()[piece_].length - in_piece_);
    in_piece_ += step;
    bytes -= step;
    if (in_piece_ == request_->pieces()[piece_].length) {
      ++piece_;
      in_piece_ = 0;
    }
  }
}

// Where the next byte goes, and those that lie together with it.
std::span<std::byte> Reader::next_room() {
  if (inflow_) return inflow_->room();
  const Piece& piece = request_->pieces()[piece_];
  return {piece.local + in_piece_, static_cast<std::size_t>(piece.length - in_piece_)};
}

void Reader::fill_vectors() {
  vectors_.clear();
  if (inflow_) {
    const std::span<std::byte> room = inflow_->room();
    if (!room.empty()) vectors_.push_back({room.data(), static_cast<std::size_t>(std::min<std::uint64_t>(room.size(), wanted_))});
    return;
  }
  std::size_t bytes = 0;
  std::uint64_t skip = in_piece_;
  const std::span<const Piece> pieces = request_->pieces();
  for (std::size_t i = piece_; i < pieces.size() && vectors_.size() < kMostVectors && bytes < kCallBytes; ++i) {
    const Piece& piece = pieces[i];
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(piece.length - skip, kCallBytes - bytes));
    vectors_.push_back({piece.local + skip, length});
    bytes += length;
    skip = 0;
  }
}

bool Reader::receive_payload() {
  fill_vectors();
  if (vectors_.empty()) {
    watch(0);
    return false;
  }
  const ssize_t got = ::readv(socket_.get(), vectors_.data(), static_cast<int>(vectors_.size()));
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return errno == EINTR;
  if (got < 0 && errno == EFAULT) {
    abandon(Status(Code::kInvalidRegion, "the target memory is not mapped (any more)"));
    return false;
  }
  if (got <= 0) {
    broke(got == 0 ? "it hung up in the middle" : std::strerror(errno));
    return false;
  }
  progress_ += static_cast<std::uint64_t>(got);
  place(static_cast<std::size_t>(got));
  if (wanted_ == 0) phase_ = Phase::kTrailer;
  return true;
}

// Of what goes either way for this request: then the connection can carry another one.
bool Reader::is_last(const control::Frame& frame) const { return sent_ == request_->frame().size() && frame.bytes.size() == small_size_; }

void Reader::on_trailer(const control::Frame& frame) {
  const Result<control::ReadEnd> trailer = control::decode_read_end(frame.body);
  const bool is_end = frame.type == control::MessageType::kReadEnd && frame.request == ReadRequest::kNumber;
  if (!is_end || !trailer.is_ok() || !is_last(frame)) {
    return broke("it did not end its answer as it should");
  }
  end(trailer->status, true);
}

// One timer per request, set again only when it finds progress.
void Reader::watch_stall() {
  const Deadline deadline = Deadline::in(seconds_to_duration(context_.options.stall_timeout_s));
  stall_timer_ = context_.loop.at(deadline, [this, seen = progress_] {
    stall_timer_ = 0;
    if (seen != progress_ || (inflow_ && inflow_->room().empty())) return watch_stall();  // or it is not the peer who takes so long
    untouched_ = false;  // it did not break: another connection would stand still as well
    end(Status(Code::kPeerGone, "no byte came for " + std::to_string(context_.options.stall_timeout_s) +
                                    " s (stall_timeout_s): its host or process is gone or stopped"),
        false);
  });
}

void Reader::abandon(const Status& why) { end(why, false); }

void Reader::broke(const std::string& why) { end(Status(Code::kPeerGone, "the data connection broke: " + why), false); }

void Reader::end(const Status& status, bool reusable) {
  if (!request_) return;
  watch(0);
  if (stall_timer_ != 0) context_.loop.cancel(std::exchange(stall_timer_, 0));
  if (!reusable) socket_.reset();
  request_ = nullptr;
  std::exchange(ended_, nullptr)({status, reusable, untouched_, std::exchange(inflow_, nullptr)});
}

}  // namespace ray_hixl::transport::stream
