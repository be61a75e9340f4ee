#include "link/resolver.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace ray_hixl::link {
namespace {

constexpr std::size_t kMostEntries = 1024;
constexpr std::size_t kMostRanges = std::size_t{1} << 16;  // 1 MiB of them

}  // namespace

Resolution::Resolution(control::Resolved resolved) : ranges(std::move(resolved.ranges)), segments(std::move(resolved.segments)) {
  std::erase_if(ranges, [](const control::RemoteRange& range) { return range.length == 0; });
  std::ranges::sort(segments, {}, &control::RemoteSegment::base);
  starts.reserve(ranges.size());
  for (const control::RemoteRange& range : ranges) {
    starts.push_back(length);
    length += range.length;
  }
}

transport::RemoteMemory Resolution::memory_at(std::uint64_t address) const {
  const auto after = std::ranges::upper_bound(segments, address, {}, &control::RemoteSegment::base);
  if (after == segments.begin()) return transport::RemoteMemory::kOrdinary;
  const control::RemoteSegment& segment = *std::prev(after);
  return address - segment.base < segment.length ? transport::RemoteMemory::kSourceArena : transport::RemoteMemory::kOrdinary;
}

std::size_t Resolution::range_at(std::uint64_t offset) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(starts, offset) - starts.begin()) - 1;
}

void Resolver::resolve(const Handle& handle, std::weak_ptr<const void> who, Answer answer) {
  std::shared_ptr<const Resolution> known;
  {
    const MutexLock lock(mutex_);
    if (const auto it = remembered_.find(handle); it != remembered_.end()) {
      recent_.splice(recent_.begin(), recent_, it->second);
      known = it->second->resolution;
    } else {
      const auto [asked, is_new] = asked_.try_emplace(handle);
      std::vector<Asker>& waiting = asked->second;
      // Each time the list doubled, which costs each asker a constant share.
      if (std::has_single_bit(waiting.size())) std::erase_if(waiting, [](const Asker& asker) { return asker.who.expired(); });
      waiting.push_back({std::move(who), answer});
      if (!is_new) return;
    }
  }
  if (known) {
    answer(std::move(known));
  } else {
    ask(handle);
  }
}

void Resolver::ask(const Handle& handle) {
  port_.request([handle](std::uint64_t id) { return control::encode(id, control::Resolve{handle}); },
                [this, handle](Result<transport::Reply> reply) { answered(handle, std::move(reply)); });
}

void Resolver::answered(const Handle& handle, Result<transport::Reply> reply) {
  Result<std::shared_ptr<const Resolution>> result = Status(Code::kInternal, "the peer gave another answer than asked for");
  if (!reply.is_ok()) {
    result = reply.status();
  } else if (reply->type == control::MessageType::kResolved) {
    Result<control::Resolved> resolved = control::decode_resolved(reply->body);
    if (resolved.is_ok()) {
      result = std::make_shared<const Resolution>(*std::move(resolved));
    } else {
      result = resolved.status();
    }
  }
  std::vector<Asker> waiting;
  {
    const MutexLock lock(mutex_);
    waiting = std::move(asked_[handle]);
    asked_.erase(handle);
    if (result.is_ok()) remember(handle, *result);
  }
  for (const Asker& asker : waiting) asker.answer(result);
}

void Resolver::remember(const Handle& handle, const std::shared_ptr<const Resolution>& resolution) {
  if (resolution->ranges.size() > kMostRanges) return;
  recent_.push_front({handle, resolution});
  remembered_[handle] = recent_.begin();
  ranges_ += resolution->ranges.size();
  while (recent_.size() > kMostEntries || ranges_ > kMostRanges) {
    ranges_ -= recent_.back().resolution->ranges.size();
    remembered_.erase(recent_.back().handle);
    recent_.pop_back();
  }
}

void Resolver::forget(const Handle& handle) {
  const MutexLock lock(mutex_);
  const auto it = remembered_.find(handle);
  if (it == remembered_.end()) return;
  ranges_ -= it->second->resolution->ranges.size();
  recent_.erase(it->second);
  remembered_.erase(it);
}

}  // namespace ray_hixl::link
