#include "transport/liveness.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "base/mutex.h"
#include "control/messages.h"

namespace ray_hixl::transport {
namespace {

// The answers to one question that was asked in parts.
struct Asked {
  Asked(std::size_t parts, std::function<void(Status)> the_answer) : answer(std::move(the_answer)), missing(parts) {}
  const std::function<void(Status)> answer;
  Mutex mutex;
  std::size_t missing RAY_HIXL_GUARDED_BY(mutex);
  Status status RAY_HIXL_GUARDED_BY(mutex);  // the first that was not ok

  void answered(const Status& part) {
    Status all;
    {
      const MutexLock lock(mutex);
      if (status.is_ok()) status = part;
      if (--missing > 0) return;
      all = status;
    }
    answer(all);
  }
};

Status read_reply(const Result<Reply>& reply) {
  if (!reply.is_ok()) return reply.status();
  if (reply->type == control::MessageType::kChecked) return Status::ok();
  return Status(Code::kInternal, "the peer gave another answer than asked for");
}

}  // namespace

void ask_live(Port& port, const std::vector<Handle>& handles, std::function<void(Status)> answer) {
  constexpr std::size_t kMost = control::Check::kMostHandles;
  if (handles.empty()) return answer(Status::ok());
  const auto asked = std::make_shared<Asked>((handles.size() + kMost - 1) / kMost, std::move(answer));
  for (std::size_t first = 0; first < handles.size(); first += kMost) {
    const auto part = std::span(handles).subspan(first, std::min(kMost, handles.size() - first));
    port.request([part = std::vector(part.begin(), part.end())](std::uint64_t id) { return control::encode(id, control::Check{part}); },
                 [asked](const Result<Reply>& reply) { asked->answered(read_reply(reply)); });
  }
}

}  // namespace ray_hixl::transport
