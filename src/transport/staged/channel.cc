#include "transport/staged/channel.h"

#include <algorithm>
#include <utility>

namespace ray_hixl::transport::staged {
namespace {

// Across, with a device here, it is host memory that is read; and host memory on both sides is of no device, pinned or not.
bool is_of_devices(const Job& job) {
  return std::ranges::all_of(job.pieces(), [&](const Piece& piece) {
    if (piece.place < 0) return false;
    const DevicePlace& place = job.plan->places[static_cast<std::size_t>(piece.place)];
    return (place.local >= 0) != place.across;
  });
}

}  // namespace

StagedChannel::StagedChannel(const Context& context, Port& port, std::uint32_t parts, std::unique_ptr<Channel> connections)
    : connections_(std::move(connections)),
      borrower_(parts == 0
                    ? nullptr
                    : std::make_unique<Borrower>(context, port, parts, [&context, at = connections_.get()](std::shared_ptr<Job> job) {
                        if (job->pieces().size() <= kFewPieces) return at->submit(std::move(job));
                        const Status taken = context.copy_pool.run([at, job] { at->submit(job); });  // which looks at each
                        if (!taken.is_ok()) job->end(taken);
                      })) {}

void StagedChannel::submit(std::shared_ptr<Job> job) {
  if (borrower_ && is_of_devices(*job)) return borrower_->submit(std::move(job));
  connections_->submit(std::move(job));
}

void StagedChannel::heed_stops() {
  if (borrower_) borrower_->heed_stops();
  connections_->heed_stops();
}

void StagedChannel::on_notice(const control::Frame& notice) {
  if (!borrower_ || notice.type != control::MessageType::kSegmentRetired) return;
  const Result<control::SegmentRetired> retired = control::decode_segment_retired(notice.body);
  if (retired.is_ok()) borrower_->forget(retired->id);
}

void StagedChannel::close(const Status& why) {
  if (borrower_) borrower_->close(why);
  connections_->close(why);
}

}  // namespace ray_hixl::transport::staged
