#include "memory/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "base/round_up.h"
#include "memory/available.h"
#include "memory/populate.h"

namespace ray_hixl::memory {
namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;
constexpr int kSourceSeals = kSizeSeals | F_SEAL_FUTURE_WRITE;

// In the unit that takes at most four digits.
std::string in_units(std::uint64_t bytes) {
  constexpr std::array kUnits{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  for (; bytes >= 10000; bytes >>= 10) ++unit;
  return std::to_string(bytes) + " " + kUnits[unit];
}

Status check_room(std::uint64_t length) {
  const std::uint64_t available = available_memory();
  if (length <= available) return Status::ok();
  return Status(Code::kOutOfMemory, "a segment of " + in_units(length) + " does not fit: " + in_units(available) +
                                        " are available to this process. Free tensors, or give the machine or the container more memory");
}

// Reads errno. A kernel or a sandbox without the call is no lack of memory: there is other memory then.
Status no_segment() {
  if (errno == ENOSYS || errno == EPERM || errno == EACCES) {
    return errno_status(Code::kNotAvailable, "this kernel or sandbox gives no memory that can be shared (memfd_create)");
  }
  return errno_status(Code::kOutOfMemory, "cannot create a segment");
}

// Refused seals would let peers write or cut what they map, so there is no segment without them.
Status seal(const Fd& fd, ArenaKind kind) {
  const int seals = kind == ArenaKind::kSource ? kSourceSeals : kSizeSeals;
  if (::fcntl(fd.get(), F_ADD_SEALS, seals | F_SEAL_SEAL) == 0) return Status::ok();
  return errno_status(Code::kNotAvailable, "cannot seal a segment (Linux 5.1 or newer is needed)");
}

const char* what_is_wrong(const Fd& fd, std::uint64_t length) {
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0) return "it is not a memfd";
  if ((seals & kSourceSeals) != kSourceSeals) return "it is not sealed";
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return "its size is unknown";
  if (length == 0 || static_cast<std::uint64_t>(info.st_size) != length) return "its size is not the one the peer named";
  // Reading a page that is not there would take memory of this process, or end it. How many there are says nothing: they may lie elsewhere.
  if (::lseek(fd.get(), 0, SEEK_HOLE) != info.st_size) return "some of its pages are missing";
  return nullptr;
}

std::byte* next_granule(std::byte* address) {
  const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(address) % Segment::kGranule;
  return past == 0 ? address : address + (Segment::kGranule - past);
}

// All of `fd` at a multiple of kGranule, since a huge page is one entry in a process's page table only there. Null, with errno, if it
// cannot be had. The place is kept by a reservation that is a granule longer, so that no other thread maps anything there; what of it lies
// in front and behind goes first, so that the mapping replaces exactly the rest.
std::byte* map_aligned(const Fd& fd, std::uint64_t length, int protection, int flags) {
  const std::uint64_t reserved = length + Segment::kGranule;
  void* const start = ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  std::byte* const base = next_granule(static_cast<std::byte*>(start));
  const auto before = static_cast<std::uint64_t>(base - static_cast<std::byte*>(start));
  if (before > 0) ::munmap(start, before);
  ::munmap(base + length, Segment::kGranule - before);
  // Where that fails, only the kernel knows whether the reservation is still there: it is left, since others may have mapped its place.
  return ::mmap(base, length, protection, MAP_SHARED | MAP_FIXED | flags, fd.get(), 0) == MAP_FAILED ? nullptr : base;
}

}  // namespace

Result<std::unique_ptr<Segment>> Segment::create(std::uint32_t id, std::uint64_t bytes, ArenaKind kind) {
  if (bytes == 0) return Status(Code::kInvalidArgument, "a segment of 0 bytes");
  if (bytes > std::uint64_t{INT64_MAX} - kGranule) return Status(Code::kOutOfMemory, "no machine has " + in_units(bytes));
  const std::uint64_t length = round_up(bytes, kGranule);
  RAY_HIXL_RETURN_IF_ERROR(check_room(length));
  const char* const name = kind == ArenaKind::kSource ? "ray-hixl-source" : "ray-hixl-landing";
  Fd fd = Fd::make([name] { return ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); });
  if (!fd) return no_segment();
  if (::ftruncate(fd.get(), static_cast<off_t>(length)) != 0) {
    return errno_status(Code::kOutOfMemory, "cannot size a segment to " + in_units(length));
  }
  std::byte* const base = map_aligned(fd, length, PROT_READ | PROT_WRITE, 0);
  if (base == nullptr) return errno_status(Code::kOutOfMemory, "cannot map a segment of " + in_units(length));
  std::unique_ptr<Segment> segment(new Segment(id, std::move(fd), base, length));
  ::madvise(base, length, MADV_HUGEPAGE);  // where the system has huge pages for shared memory; refused elsewhere
  const Result<std::uint64_t> huge_bytes = populate(segment->fd_, segment->base_, length);
  if (!huge_bytes.is_ok()) return huge_bytes.status();
  segment->huge_bytes_ = *huge_bytes;
  RAY_HIXL_RETURN_IF_ERROR(seal(segment->fd_, kind));
  return segment;
}

Segment::Segment(std::uint32_t id, Fd fd, std::byte* base, std::uint64_t length)
    : id_(id), fd_(std::move(fd)), base_(base), length_(length) {}

// The pages go with the mapping: the last descriptor would take them along while no thread may fork.
Segment::~Segment() {
  fd_.reset();
  ::munmap(base_, length_);
}

Result<std::shared_ptr<const SegmentView>> SegmentView::map(const Fd& fd, std::uint64_t length) {
  if (const char* why = what_is_wrong(fd, length)) {
    return Status(Code::kInvalidArgument, std::string("refused a segment of the peer: ") + why);
  }
  const std::byte* const base = map_aligned(fd, length, PROT_READ, MAP_POPULATE);
  if (base == nullptr) return errno_status(Code::kOutOfMemory, "cannot map a segment of " + in_units(length) + " of the peer");
  return std::shared_ptr<const SegmentView>(new SegmentView(base, length));
}

SegmentView::~SegmentView() { ::munmap(const_cast<std::byte*>(base_), length_); }

}  // namespace ray_hixl::memory
