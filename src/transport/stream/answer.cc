#include "transport/stream/answer.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "transport/stream/checked_copy.h"

namespace ray_hixl::transport::stream {
namespace {

const std::array<std::byte, 64 * 1024> kZeros{};

iovec vector_of(const std::byte* address, std::uint64_t length) {
  return {const_cast<std::byte*>(address), static_cast<std::size_t>(length)};  // only ever read
}

}  // namespace

Answer Answer::make(std::uint64_t request, control::Read read, const memory::SlotTable& slots, bool carries_devices) {
  Answer answer(request, &slots);
  if (const Status pinned = answer.pin(read, carries_devices); !pinned.is_ok()) return failure(request, pinned);
  for (const control::ReadSpan& span : read.spans) answer.payload_left_ += span.length;
  answer.spans_ = std::move(read.spans);
  answer.skip_empty();
  answer.stage_ = Stage::kPayload;
  answer.frame_ = control::encode(request, control::Reading{answer.payload_left_});
  return answer;
}

Answer Answer::failure(std::uint64_t request, const Status& why) {
  Answer answer(request, nullptr);
  answer.frame_ = control::encode(request, control::Failure{why});
  return answer;
}

Status Answer::pin(const control::Read& read, bool carries_devices) {
  std::map<std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>, std::uint32_t> known;
  source_of_.reserve(read.spans.size());
  for (const control::ReadSpan& span : read.spans) {
    const auto next = static_cast<std::uint32_t>(sources_->size());
    const auto [it, is_new] = known.try_emplace({span.handle.slot, span.handle.generation, span.handle.key}, next);
    if (is_new) {
      auto content = slots_->pin(span.handle);
      if (!content.is_ok()) return content.status();
      sources_->push_back({span.handle, Slices(*std::move(content))});
    }
    const Slices& slices = (*sources_)[it->second].slices;
    const Status inside = carries_devices ? slices.check(span.offset, span.length) : slices.check_host(span.offset, span.length);
    if (!inside.is_ok()) return inside.with_context("slot " + std::to_string(span.handle.slot));
    source_of_.push_back(it->second);
    if (carries_devices && !device_) device_ = slices.first_device(span.offset, span.length);
  }
  return Status::ok();
}

NextRange Answer::payload() const {
  return [this, i = std::size_t{0}, done = std::uint64_t{0}](std::uint64_t most) mutable -> std::optional<MemoryRange> {
    if (i == spans_.size()) return std::nullopt;
    const control::ReadSpan& span = spans_[i];
    const MemoryRange next = (*sources_)[source_of_[i]].slices.at(span.offset + done, std::min(most, span.length - done));
    done += next.length;
    if (done == span.length) {
      ++i;
      done = 0;
    }
    return next;
  };
}

void Answer::carry(const OpenOutflow& open) { outflow_ = open(*device_, payload(), sources_); }

bool Answer::is_waiting() {
  if (!outflow_ || stage_ != Stage::kPayload || !lost_.is_ok()) return false;
  lost_ = outflow_->status();
  return lost_.is_ok() && frame_sent_ == frame_.size() && outflow_->ready().empty();
}

void Answer::memory_is_unmapped() {
  lost_ = Status(Code::kInvalidRegion, "the memory is not mapped any more (was its storage resized or unmapped while it was published?)");
}

void Answer::gather(const Copy& copy) {
  if (stage_ != Stage::kPayload || payload_left_ > CheckedCopy::kMost || needs_outflow()) return;
  std::vector<iovec> payload;
  add_payload(payload, CheckedCopy::kMostVectors, payload_left_);
  std::uint64_t bytes = 0;
  for (const iovec& piece : payload) bytes += piece.iov_len;
  if (bytes != payload_left_) return;  // in too many pieces
  std::vector<std::byte> whole = frame_;
  whole.resize(frame_.size() + bytes);
  if (!copy(payload, std::span(whole).last(bytes))) return;
  gathered_ = bytes;
  judge();
  frame_.insert(frame_.begin(), whole.begin(), whole.end());
}

void Answer::next(std::vector<iovec>& vectors, std::size_t most_vectors, std::uint64_t most_bytes) const {
  vectors.clear();
  if (frame_sent_ < frame_.size()) vectors.push_back(vector_of(frame_.data() + frame_sent_, frame_.size() - frame_sent_));
  if (stage_ == Stage::kPayload) add_payload(vectors, most_vectors, most_bytes);
}

void Answer::add_payload(std::vector<iovec>& vectors, std::size_t most_vectors, std::uint64_t most_bytes) const {
  if (outflow_ && lost_.is_ok()) {
    const std::span<const std::byte> ready = outflow_->ready();
    if (!ready.empty() && most_bytes > 0) vectors.push_back(vector_of(ready.data(), std::min<std::uint64_t>(ready.size(), most_bytes)));
    return;
  }
  std::uint64_t skip = in_span_;
  for (std::size_t i = span_; i < spans_.size(); ++i, skip = 0) {
    const control::ReadSpan& span = spans_[i];
    while (skip < span.length) {
      if (vectors.size() == most_vectors || most_bytes == 0) return;
      const std::uint64_t most = std::min(span.length - skip, most_bytes);
      const MemoryRange slice = lost_.is_ok() ? (*sources_)[source_of_[i]].slices.at(span.offset + skip, most)
                                              : MemoryRange{const_cast<std::byte*>(kZeros.data()), std::min(most, kZeros.size())};
      vectors.push_back(vector_of(slice.address, slice.length));
      skip += slice.length;
      most_bytes -= slice.length;
    }
  }
}

std::uint64_t Answer::sent(std::uint64_t bytes) {
  const auto of_frame = std::min<std::uint64_t>(bytes, frame_.size() - frame_sent_);
  frame_sent_ += static_cast<std::size_t>(of_frame);
  if (stage_ == Stage::kEnd) return done() ? gathered_ : 0;
  if (outflow_ && lost_.is_ok()) outflow_->sent(bytes - of_frame);
  advance(bytes - of_frame);
  if (payload_left_ == 0 && frame_sent_ == frame_.size()) stage_ = Stage::kVerdict;
  return lost_.is_ok() ? bytes - of_frame : 0;
}

void Answer::advance(std::uint64_t bytes) {
  payload_left_ -= bytes;
  while (bytes > 0) {
    const std::uint64_t step = std::min(bytes, spans_[span_].length - in_span_);
    in_span_ += step;
    bytes -= step;
    if (in_span_ == spans_[span_].length) {
      ++span_;
      in_span_ = 0;
    }
  }
}

// Spans of no bytes were checked like the others, and there is nothing to send for them.
void Answer::skip_empty() {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < spans_.size(); ++i) {
    if (spans_[i].length == 0) continue;
    spans_[kept] = spans_[i];
    source_of_[kept++] = source_of_[i];
  }
  spans_.resize(kept);
  source_of_.resize(kept);
}

void Answer::judge() {
  frame_ = control::encode(request_, control::ReadEnd{verdict()});
  frame_sent_ = 0;
  stage_ = Stage::kEnd;
  sources_ = nullptr;  // memory, too
  outflow_ = nullptr;
  device_.reset();
  spans_ = {};
  source_of_ = {};
}

Status Answer::verdict() const {
  RAY_HIXL_RETURN_IF_ERROR(lost_);
  for (const Source& source : *sources_) {
    if (!slots_->live(source.handle)) {
      return Status(Code::kInvalidRegion,
                    "slot " + std::to_string(source.handle.slot) + " of this engine: what it held was freed or closed while it was read");
    }
  }
  return Status::ok();
}

}  // namespace ray_hixl::transport::stream
