#include "transport/hixl/locator.h"

#include <utility>

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::size_t kMostLocated = 1024;

// What a reply says, decoded; or why there is none.
template <class T, class Decode>
Result<std::shared_ptr<const T>> read_reply(const Result<Reply>& reply, control::MessageType type, Decode decode) {
  if (!reply.is_ok()) return reply.status();
  if (reply->type != type) return Status(Code::kInternal, "the peer gave another answer than asked for");
  Result<T> decoded = decode(reply->body());
  if (!decoded.is_ok()) return decoded.status();
  return std::make_shared<const T>(*std::move(decoded));
}

}  // namespace

void Locator::locate(const Handle& handle, Located answer) {
  Ranges known;
  {
    const MutexLock lock(mutex_);
    if (const auto found = located_.find(handle); found != located_.end()) known = found->second;
  }
  if (known) return answer(std::move(known));
  port_.request([handle](std::uint64_t id) { return control::encode(id, control::Locate{handle}); },
                [self = shared_from_this(), handle, answer = std::move(answer)](const Result<Reply>& reply) {
                  Result<Ranges> ranges = read_reply<control::Located>(reply, control::MessageType::kLocated, control::decode_located);
                  if (ranges.is_ok()) {
                    const MutexLock lock(self->mutex_);
                    if (self->located_.size() >= kMostLocated) self->located_.clear();
                    self->located_[handle] = *ranges;
                  }
                  answer(std::move(ranges));
                });
}

void Locator::describe(std::int32_t device, Described answer) {
  Description known;
  {
    const MutexLock lock(mutex_);
    if (const auto found = described_.find(device); found != described_.end()) {
      known = found->second;
    } else {
      std::vector<Described>& waiting = asked_[device];
      waiting.push_back(answer);
      if (waiting.size() > 1) return;
    }
  }
  if (known) return answer(std::move(known));
  const auto number = static_cast<std::uint32_t>(device);
  port_.request([number](std::uint64_t id) { return control::encode(id, control::DescribeDevice{number}); },
                [self = shared_from_this(), device](Result<Reply> reply) { self->described(device, std::move(reply)); });
}

void Locator::described(std::int32_t device, Result<Reply> reply) {
  const Result<Description> description =
      read_reply<control::DeviceDescription>(reply, control::MessageType::kDeviceDescription, control::decode_device_description);
  std::vector<Described> waiting;
  {
    const MutexLock lock(mutex_);
    if (description.is_ok()) described_[device] = *description;
    waiting = std::move(asked_[device]);
    asked_.erase(device);
  }
  if (description.is_ok()) await_recall(device, *description);
  for (const Described& answer : waiting) answer(description);
}

void Locator::forget(std::int32_t device, const Description& description) {
  const MutexLock lock(mutex_);
  const auto found = described_.find(device);
  if (found != described_.end() && found->second == description) described_.erase(found);
}

void Locator::cannot_link(std::int32_t device, const Description& description, Noted answer) {
  const auto tells = [number = static_cast<std::uint32_t>(device), description](std::uint64_t id) {
    return control::encode(id, control::CannotLink{number, description->engine});
  };
  port_.request(tells, [answer = std::move(answer)](const Result<Reply>& reply) {
    const auto noted = read_reply<control::Noted>(reply, control::MessageType::kNoted, control::decode_noted);
    answer(noted.is_ok() && (*noted)->is_replaced);  // a peer of an earlier version does not know it
  });
}

// The answer may never come. A peer of an earlier version has none.
void Locator::await_recall(std::int32_t device, const Description& description) {
  const auto number = static_cast<std::uint32_t>(device);
  const auto awaits = [number, description](std::uint64_t id) {
    return control::encode(id, control::AwaitRecall{number, description->engine});
  };
  port_.request(awaits, [weak = weak_from_this(), device, number, description](const Result<Reply>& reply) {
    const auto self = weak.lock();
    if (!self || !reply.is_ok() || reply->type != control::MessageType::kRecalled) return;
    self->forget(device, description);
    self->recalled_(description->engine, [weak, number, description] {
      const auto alive = weak.lock();
      if (!alive) return;
      alive->port_.request(
          [number, description](std::uint64_t id) { return control::encode(id, control::ReleaseDevice{number, description->engine}); },
          [](const Result<Reply>&) {});
    });
  });
}

}  // namespace ray_hixl::transport::hixl
