#include "transport/staged/lender.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "device/name.h"
#include "transport/slices.h"
#include "transport/staged/parts.h"

namespace ray_hixl::transport::staged {
namespace {

using device::Staging;

// Bytes of one device, as many of those that are wanted as go into one buffer.
struct Part {
  std::int32_t device = -1;
  std::vector<MemoryRange> from;
  std::uint64_t length = 0;
  std::vector<std::shared_ptr<const memory::SlotContent>> keep;

  [[nodiscard]] bool takes(const MemoryRange& range) const {
    return range.kind == MemoryKind::kDevice && (from.empty() || range.device == device);
  }
  [[nodiscard]] bool is_full() const { return length == Staging::kBufferBytes || from.size() == kMostRanges; }
};

// False: the rest of the span goes into no part with the others.
bool add(Part& part, const Slices& slices, std::uint64_t offset, std::uint64_t length) {
  while (length > 0) {
    if (part.is_full()) return false;
    const MemoryRange range = slices.at(offset, std::min(length, Staging::kBufferBytes - part.length));
    if (!part.takes(range)) return false;
    part.device = range.device;
    part.from.push_back(range);
    part.length += range.length;
    offset += range.length;
    length -= range.length;
  }
  return true;
}

Result<Part> cut(const std::vector<control::ReadSpan>& spans, const memory::SlotTable& slots) {
  Part part;
  std::optional<Handle> known;  // neighbours are mostly of one slot
  for (const control::ReadSpan& span : spans) {
    if (known != span.handle) {
      auto content = slots.pin(span.handle);
      if (!content.is_ok()) return content.status();
      part.keep.push_back(*std::move(content));
      known = span.handle;
    }
    const Slices slices(part.keep.back());
    if (const Status inside = slices.check(span.offset, span.length); !inside.is_ok())
      return inside.with_context("slot " + std::to_string(span.handle.slot));
    if (!add(part, slices, span.offset, span.length)) break;
  }
  if (part.length == 0) return Status(Code::kNotAvailable, "the first of these bytes lie in no device's memory");
  return part;
}

Status fill(const Part& part, std::byte* to, device::StagingRuntime& runtime) {
  for (const MemoryRange& from : part.from) {
    RAY_HIXL_RETURN_IF_ERROR(runtime.to_host(to, from.address, from.length));
    to += from.length;
  }
  return Status::ok();
}

}  // namespace

// A part that was asked for.
struct Lender::Coming {
  Coming(const Context& the_context, std::weak_ptr<Lender> the_lender, Responder the_responder)
      : context(the_context), lender(std::move(the_lender)), responder(std::move(the_responder)) {}

  const Context& context;
  const std::weak_ptr<Lender> lender;
  Responder responder;
  std::shared_ptr<device::Device> device;
  Part part;
  Staging::Buffer buffer;
  memory::SegmentInfo segment;
  std::shared_ptr<const std::atomic<bool>> has_gone;

  // Any thread. What is copied may be of a device that goes, and its memory of a user: neither waits for the loop.
  static void told(const std::shared_ptr<Coming>& coming, const Status& status) {
    coming->part.keep.clear();
    coming->context.loop.post([coming, status] {
      if (const auto lender = coming->lender.lock()) lender->copied(*coming, status);
    });
  }
};

void Lender::stage(const control::Stage& wanted, Responder responder) {
  const ReaderView* const view = &responder.reader();
  Reader& reader = readers_[view];
  for (const Handle& part : wanted.returned) take_back(reader, part);
  const auto coming = std::make_shared<Coming>(context_, weak_from_this(), std::move(responder));
  if (wanted.spans.empty()) return std::move(coming->responder).send(control::encode(coming->responder.request(), control::Staged{}));
  if (const Status begun = begin(wanted, coming); !begun.is_ok()) return std::move(coming->responder).fail(begun);
  coming->has_gone = reader.has_gone;
  ++reader.asked;
  copy(coming);
}

Status Lender::begin(const control::Stage& wanted, const std::shared_ptr<Coming>& coming) const {
  const ReaderView& reader = coming->responder.reader();
  if (!reader.is_same_user) return Status(Code::kNotAvailable, "parts are lent to processes of the same user on this host only");
  const Reader& has = readers_.at(&reader);
  if (has.asked + has.loans.size() >= kMostParts) {
    return Status(Code::kInvalidArgument, "a reader may have " + std::to_string(kMostParts) + " parts, and no more");
  }
  Result<Part> part = cut(wanted.spans, context_.slots);
  if (!part.is_ok()) return part.status();
  coming->part = *std::move(part);
  coming->device = context_.devices->find(coming->part.device);
  if (!coming->device) return device::npu_closed(coming->part.device);
  return Status::ok();
}

// As soon as there is a buffer, on the device's own thread.
void Lender::copy(const std::shared_ptr<Coming>& coming) {
  coming->device->staging().take(Staging::Way::kOut, [coming](Result<Staging::Buffer> buffer) {
    if (!buffer.is_ok()) return Coming::told(coming, buffer.status());
    if (*coming->has_gone) return Coming::told(coming, Status(Code::kCancelled, "its reader went"));
    coming->buffer = *std::move(buffer);
    const std::optional<memory::SegmentInfo> segment = coming->context.source_arena.find(coming->buffer.get());
    if (!segment) return Coming::told(coming, Status(Code::kNotAvailable, "the owner's staging memory cannot be mapped"));
    coming->segment = *segment;
    const auto fill_it = [coming](device::StagingRuntime& runtime) { return fill(coming->part, coming->buffer.get(), runtime); };
    const auto filled = [coming](const Status& status) { Coming::told(coming, status); };
    if (const Status taken = coming->device->staging().run(fill_it, filled); !taken.is_ok()) Coming::told(coming, taken);
  });
}

void Lender::copied(Coming& coming, const Status& status) {
  if (*coming.has_gone) return;  // also if he has asked for something since
  Reader& reader = readers_.at(&coming.responder.reader());
  --reader.asked;
  const Status lent = status.is_ok() ? lend(coming, reader) : status;
  if (!lent.is_ok()) return std::move(coming.responder).fail(lent);
  context_.counters.served_bytes.fetch_add(coming.part.length, std::memory_order_relaxed);
  const control::Staged staged{reader.loans.back().part, coming.segment.id,
                               reinterpret_cast<std::uint64_t>(coming.buffer.get()) - coming.segment.base, coming.part.length};
  std::move(coming.responder).send(control::encode(coming.responder.request(), staged));
  coming.buffer.reset();
}

// The slot keeps nothing: its end must not wait for the reaper, which may wait for others.
Status Lender::lend(Coming& coming, Reader& reader) {
  memory::SlotContent content;
  content.ranges = {{coming.buffer.get(), coming.part.length}};
  const Result<Handle> part = context_.slots.publish(std::move(content));
  if (!part.is_ok()) return part.status();
  reader.loans.push_back({*part, coming.device, coming.buffer, watch(&coming.responder.reader(), *part)});
  return Status::ok();
}

net::Loop::TimerId Lender::watch(const ReaderView* reader, const Handle& part) {
  const Deadline deadline = Deadline::in(seconds_to_duration(context_.options.stall_timeout_s) / 2);
  return context_.loop.at(deadline, [weak = weak_from_this(), reader, part] {
    if (const auto lender = weak.lock()) lender->kept_long(reader, part);
  });
}

// What nobody lacks he may keep.
void Lender::kept_long(const ReaderView* view, const Handle& part) {
  Reader& reader = readers_.at(view);
  Loan& loan = *std::ranges::find(reader.loans, part, &Loan::part);
  loan.timer = 0;
  if (!loan.device->staging().has_spare(Staging::Way::kOut)) return take_back(reader, part);
  loan.timer = watch(view, part);
}

void Lender::take_back(Reader& reader, const Handle& part) {
  const auto loan = std::ranges::find(reader.loans, part, &Loan::part);
  if (loan == reader.loans.end()) return;  // never his, or not any more
  const Loan taken = std::move(*loan);
  reader.loans.erase(loan);
  end(taken);
}

// The slot first: once it is seen to be retired the bytes are nobody's.
void Lender::end(const Loan& loan) {
  context_.slots.retire(loan.part);
  if (loan.timer != 0) context_.loop.cancel(loan.timer);
}

void Lender::session_ended(const ReaderView& view) {
  const auto reader = readers_.find(&view);
  if (reader == readers_.end()) return;
  *reader->second.has_gone = true;
  for (const Loan& loan : reader->second.loans) end(loan);
  readers_.erase(reader);
}

void Lender::shut_down() {
  for (const auto& [view, reader] : readers_) {
    *reader.has_gone = true;
    for (const Loan& loan : reader.loans) end(loan);
  }
  readers_.clear();
}

}  // namespace ray_hixl::transport::staged
