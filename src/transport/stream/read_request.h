// ReadRequest: what one request asks of the owner, and where the answer goes: one job, or several small ones that wait at once. A network
// takes as long for either. Immutable. Making and dropping one takes time in proportion to its pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ray_hixl/status.h"
#include "transport/job.h"
#include "transport/stream/turn.h"

namespace ray_hixl::transport::stream {

class ReadRequest {
 public:
  static constexpr std::uint64_t kNumber = 1;  // of the one under way on a connection: no other is asked before its end
  // What several jobs may ask for together: no more than one call sends or receives.
  static constexpr std::uint64_t kMostBytesTogether = std::uint64_t{512} << 10;
  static constexpr std::size_t kMostPiecesTogether = kMostVectors;

  // REQUIRES: at least one job.
  explicit ReadRequest(std::vector<std::shared_ptr<Job>> jobs);

  // kNotAvailable if it is more than one request can ask for.
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] const std::vector<std::shared_ptr<Job>>& jobs() const { return jobs_; }
  [[nodiscard]] std::span<const Piece> pieces() const { return jobs_.size() == 1 ? jobs_.front()->pieces() : pieces_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::span<const std::byte> frame() const { return frame_; }
  // ok while all jobs' transfers go on; then why one of them does not.
  [[nodiscard]] Status stopped() const;

 private:
  const std::vector<std::shared_ptr<Job>> jobs_;
  std::vector<Piece> pieces_;  // of all jobs, if they are several
  std::uint64_t bytes_ = 0;
  Status status_;
  std::vector<std::byte> frame_;
};

}  // namespace ray_hixl::transport::stream
