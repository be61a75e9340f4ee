#include "transport/stream/read_request.h"

#include <string>
#include <utility>

#include "control/messages.h"

namespace ray_hixl::transport::stream {
namespace {

// A job's pieces as spans of the owner's slots; neighbours are joined.
void add_spans(const Job& job, std::vector<control::ReadSpan>& spans) {
  const Piece* last = nullptr;
  for (const Piece& piece : job.pieces()) {
    if (last != nullptr && last->source == piece.source && last->offset + last->length == piece.offset) {
      spans.back().length += piece.length;
    } else {
      spans.push_back({job.plan->sources[piece.source], piece.offset, piece.length});
    }
    last = &piece;
  }
}

}  // namespace

ReadRequest::ReadRequest(std::vector<std::shared_ptr<Job>> jobs) : jobs_(std::move(jobs)) {
  control::Read read;
  for (const auto& job : jobs_) {
    add_spans(*job, read.spans);
    if (jobs_.size() > 1) pieces_.insert(pieces_.end(), job->pieces().begin(), job->pieces().end());
  }
  for (const control::ReadSpan& span : read.spans) bytes_ += span.length;
  if (read.spans.size() <= control::Read::kMostSpans) {
    frame_ = control::encode(kNumber, read);
  } else {
    status_ = Status(Code::kNotAvailable, "a batch of " + std::to_string(read.spans.size()) + " separate pieces; split it");
  }
}

Status ReadRequest::stopped() const {
  for (const auto& job : jobs_) {
    if (job->transfer->stopping()) return job->transfer->stop_reason();
  }
  return Status::ok();
}

}  // namespace ray_hixl::transport::stream
