// Segment: a memfd of an arena. SegmentView: a peer's segment, mapped read-only.
//
// Sealed SHRINK and GROW, so that no access can fault; source segments also FUTURE_WRITE once the owner has mapped them, so that peers can
// only map them for reading. Sealed memory cannot be punched: it is given back a whole segment at a time.
//
// Its memory comes in huge pages where the kernel gives them (memory/populate.h). Both mappings begin at a multiple of kGranule, a huge
// page: so what lies in huge pages for the owner does for the peer, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/fd.h"
#include "memory/populate.h"
#include "ray_hixl/status.h"

namespace ray_hixl::memory {

enum class ArenaKind : std::uint8_t {
  kSource,   // peers map it read-only
  kLanding,  // received data; peers may be given it for writing, never for reading
};

class Segment {
 public:
  // Takes all pages up front: kOutOfMemory instead of a fault later, or of the end of a process. `bytes` is rounded up to kGranule.
  // kNotAvailable where the kernel or a sandbox gives no memfd, or no seals.
  [[nodiscard]] static Result<std::unique_ptr<Segment>> create(std::uint32_t id, std::uint64_t bytes, ArenaKind kind);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  static constexpr std::uint64_t kGranule = kHugePage;

  [[nodiscard]] std::uint32_t id() const { return id_; }
  [[nodiscard]] std::byte* base() const { return base_; }
  [[nodiscard]] std::uint64_t length() const { return length_; }
  [[nodiscard]] std::uint64_t huge_bytes() const { return huge_bytes_; }  // that came in huge pages, as far as the kernel said
  [[nodiscard]] const Fd& fd() const { return fd_; }

 private:
  Segment(std::uint32_t id, Fd fd, std::byte* base, std::uint64_t length);
  std::uint32_t id_;
  Fd fd_;
  std::byte* base_;
  std::uint64_t length_;
  std::uint64_t huge_bytes_ = 0;
};

class SegmentView {
 public:
  // Checks seals, size and that no page is missing first: kInvalidArgument if a source segment would look different.
  [[nodiscard]] static Result<std::shared_ptr<const SegmentView>> map(const Fd& fd, std::uint64_t length);
  ~SegmentView();
  SegmentView(const SegmentView&) = delete;
  SegmentView& operator=(const SegmentView&) = delete;

  [[nodiscard]] const std::byte* base() const { return base_; }
  [[nodiscard]] std::uint64_t length() const { return length_; }

 private:
  SegmentView(const std::byte* base, std::uint64_t length) : base_(base), length_(length) {}
  const std::byte* base_;
  std::uint64_t length_;
};

}  // namespace ray_hixl::memory
