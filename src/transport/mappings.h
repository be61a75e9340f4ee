// Mappings: source segments of one peer, each asked for and mapped when it is first needed, once. Any thread. And what the owner answers.
//
// A view that was handed out stays good for as long as somebody keeps it, also after the segment was retired.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "memory/copy_pool.h"
#include "memory/segment.h"
#include "transport/transport.h"

namespace ray_hixl::transport {

// ok, or a sentence (kNotAvailable) why the peer's source segments cannot be mapped here.
[[nodiscard]] Status can_map(const PeerView& peer);
// The owner's half: passes a source segment to who asks to map it. False: it is another request. Loop thread.
[[nodiscard]] bool pass_segment(const Context& context, const control::Frame& request, Responder& responder);

using View = std::shared_ptr<const memory::SegmentView>;

class Mappings : public std::enable_shared_from_this<Mappings> {
 public:
  using Answer = std::function<void(Result<View>)>;

  // REQUIRES: `port` may be used while somebody waits for an answer. Mapping a large segment takes long, so `pool` does it; so does
  // unmapping it, so `reaper` does it where a view dies on the loop.
  Mappings(Port& port, memory::CopyPool& pool, memory::Reaper& reaper) : port_(port), pool_(pool), reaper_(reaper) {}

  // Calls `answer` once: in the caller if the segment is mapped, else on the loop thread or a pool thread.
  void get(std::uint32_t segment, Answer answer);
  // Null if it is not mapped yet.
  [[nodiscard]] View find(std::uint32_t segment);
  // The owner gave the segment back.
  void forget(std::uint32_t segment);
  void forget_all();

 private:
  // Asked for, not yet there.
  struct Coming {
    std::vector<Answer> waiting;
    bool forgotten = false;  // retired meanwhile: not to be kept
  };

  void replied(std::uint32_t segment, Result<Reply> reply);
  void arrived(std::uint32_t segment, const Result<View>& view);

  Port& port_;
  memory::CopyPool& pool_;
  memory::Reaper& reaper_;
  Mutex mutex_;
  std::map<std::uint32_t, View> mapped_ RAY_HIXL_GUARDED_BY(mutex_);
  std::map<std::uint32_t, Coming> coming_ RAY_HIXL_GUARDED_BY(mutex_);
};

}  // namespace ray_hixl::transport
