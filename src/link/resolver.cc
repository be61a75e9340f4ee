#include "link/resolver.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace ray_hixl::link {

Resolution::Resolution(control::Resolved resolved) : ranges(std::move(resolved.ranges)), segments(std::move(resolved.segments)) {
  std::erase_if(ranges, [](const control::RemoteRange& range) { return range.length == 0; });
  std::ranges::sort(segments, {}, &control::RemoteSegment::base);
  starts.reserve(ranges.size());
  for (const control::RemoteRange& range : ranges) {
    starts.push_back(length);
    length += range.length;
  }
}

std::size_t Resolution::bytes() const {
  constexpr std::size_t kEntry = 256;  // what remembering it costs
  return kEntry + ranges.size() * (sizeof(control::RemoteRange) + sizeof(std::uint64_t)) + segments.size() * sizeof(control::RemoteSegment);
}

transport::RemoteMemory Resolution::memory_at(std::uint64_t address) const {
  const auto after = std::ranges::upper_bound(segments, address, {}, &control::RemoteSegment::base);
  const bool is_in_arena = after != segments.begin() && address - std::prev(after)->base < std::prev(after)->length;
  if (is_in_arena) return transport::RemoteMemory::kSourceArena;
  return is_owners_only ? transport::RemoteMemory::kOwnersOnly : transport::RemoteMemory::kOrdinary;
}

std::shared_ptr<const Resolution> Resolver::recall(const Handle& handle) {
  const auto it = remembered_.find(handle);
  if (it == remembered_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, it->second);
  return it->second->resolution;
}

std::shared_ptr<const Resolution> Resolver::remembered(const Handle& handle) {
  const MutexLock lock(mutex_);
  return recall(handle);
}

void Resolver::resolve(const Handle& handle, std::weak_ptr<const void> who, Answer answer) {
  std::shared_ptr<const Resolution> known;
  {
    const MutexLock lock(mutex_);
    known = recall(handle);
    if (!known) {
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
                [self = shared_from_this(), handle](Result<transport::Reply> reply) { self->replied(handle, std::move(reply)); });
}

void Resolver::replied(const Handle& handle, Result<transport::Reply> reply) {
  if (!reply.is_ok() || reply->frame.size() <= kLargeAnswer) return answered(handle, std::move(reply));
  const auto large = reaper_.off_loop(std::make_shared<Result<transport::Reply>>(std::move(reply)));
  const Status taken = pool_.run([self = shared_from_this(), handle, large] { self->answered(handle, std::move(*large)); });
  if (!taken.is_ok()) answered(handle, taken);
}

void Resolver::answered(const Handle& handle, Result<transport::Reply> reply) {
  Result<std::shared_ptr<const Resolution>> result = Status(Code::kInternal, "the peer gave another answer than asked for");
  if (!reply.is_ok()) {
    result = reply.status();
  } else if (reply->type == control::MessageType::kResolved) {
    Result<control::Resolved> resolved = control::decode_resolved(reply->body());
    if (resolved.is_ok()) {
      result = reaper_.off_loop(std::make_shared<const Resolution>(*std::move(resolved)));
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
  if (resolution->bytes() > kMostBytes) return;
  recent_.push_front({handle, resolution});
  remembered_[handle] = recent_.begin();
  bytes_ += resolution->bytes();
  while (bytes_ > kMostBytes) {
    bytes_ -= recent_.back().resolution->bytes();
    remembered_.erase(recent_.back().handle);
    recent_.pop_back();
  }
}

void Resolver::forget(const Handle& handle) {
  const MutexLock lock(mutex_);
  const auto it = remembered_.find(handle);
  if (it == remembered_.end()) return;
  bytes_ -= it->second->resolution->bytes();
  recent_.erase(it->second);
  remembered_.erase(it);
}

}  // namespace ray_hixl::link
