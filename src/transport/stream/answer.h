// Answer: what the owner sends for one read, straight from the memory that is read, or out of an outflow where that is not the host's.
// Knows no socket.
//
// Either one failure frame, or: a reading frame, the payload, a read_end frame. The memory is pinned from the beginning to the last byte of
// the payload; the verdict in the read_end frame is made after that byte was copied: by the kernel as it is sent, or beforehand, where
// gather() puts a short answer together. Making an answer, judging it and dropping it take time in proportion to its spans; what is between
// does not.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "control/messages.h"
#include "memory/slots.h"
#include "transport/slices.h"
#include "transport/stream/carrier.h"

namespace ray_hixl::transport::stream {

class Answer {
 public:
  // `slots` outlives it. A slot that cannot be pinned or is too short makes it a failure; so does device memory, unless somebody will
  // carry() it.
  static Answer make(std::uint64_t request, control::Read read, const memory::SlotTable& slots, bool carries_devices = false);
  // An answer without payload.
  static Answer failure(std::uint64_t request, const Status& why);

  // Copies a short payload and judges it at once, so that the whole answer goes out in one piece; sent in two, it would mostly wake its
  // reader twice. Long payloads, and what cannot be copied, go out as they would. `copy` puts the pieces, one after another, into the
  // bytes, or gives false (see CheckedCopy). REQUIRES: nothing was sent yet.
  using Copy = std::function<bool(std::span<const iovec> from, std::span<std::byte> into)>;
  void gather(const Copy& copy);

  // Is some of the payload in device memory? Then it has all of it come out of what `open` makes. REQUIRES: nothing was sent yet.
  [[nodiscard]] bool needs_outflow() const { return device_ && !outflow_; }
  using OpenOutflow = std::function<std::unique_ptr<Outflow>(std::int32_t device, NextRange payload, std::shared_ptr<const void> keep)>;
  void carry(const OpenOutflow& open);  // stays where it is from here on
  // Nothing can be sent before the outflow has more.
  [[nodiscard]] bool is_waiting();

  // Puts what comes next into `vectors`: at most `most_vectors`, and about `most_bytes`. Nothing once all was sent.
  void next(std::vector<iovec>& vectors, std::size_t most_vectors, std::uint64_t most_bytes) const;
  // The first `bytes` of what next() gave were handed to the kernel. Gives how many of them were read from pinned memory.
  std::uint64_t sent(std::uint64_t bytes);
  // The payload is out: judge() is to be called before anything else. It makes the verdict, and lets go of everything that was pinned.
  [[nodiscard]] bool awaits_verdict() const { return stage_ == Stage::kVerdict; }
  void judge();
  // The kernel could not read the memory that comes next: it is not mapped.
  void memory_is_unmapped();
  [[nodiscard]] std::size_t spans() const { return spans_.size(); }
  [[nodiscard]] bool done() const { return stage_ == Stage::kEnd && frame_sent_ == frame_.size(); }

 private:
  enum class Stage : std::uint8_t { kPayload, kVerdict, kEnd };  // which part follows, or belongs to, frame_
  struct Source {
    Handle handle;
    Slices slices;
  };
  using Sources = std::vector<Source>;

  Answer(std::uint64_t request, const memory::SlotTable* slots) : request_(request), slots_(slots) {}
  [[nodiscard]] Status pin(const control::Read& read, bool carries_devices);
  [[nodiscard]] NextRange payload() const;
  void add_payload(std::vector<iovec>& vectors, std::size_t most_vectors, std::uint64_t most_bytes) const;
  void advance(std::uint64_t bytes);
  void skip_empty();
  [[nodiscard]] Status verdict() const;

  std::uint64_t request_;
  const memory::SlotTable* slots_;
  std::shared_ptr<Sources> sources_ = std::make_shared<Sources>();  // each handle once; an outflow keeps them, too
  std::vector<control::ReadSpan> spans_;
  std::vector<std::uint32_t> source_of_;  // each span's source, an index
  std::size_t span_ = 0;                  // the next byte of payload belongs to this span,
  std::uint64_t in_span_ = 0;             // at this offset
  std::uint64_t payload_left_ = 0;
  std::optional<std::int32_t> device_;  // one of the payload's; none: it is all the host's
  std::unique_ptr<Outflow> outflow_;
  // Not ok: the rest of the payload cannot be read. Zeros go out for it, so that the reader can tell where the verdict begins, which says
  // this.
  Status lost_;
  Stage stage_ = Stage::kEnd;
  std::vector<std::byte> frame_;  // goes out before the payload, or is the end, or the whole answer
  std::size_t frame_sent_ = 0;
  std::uint64_t gathered_ = 0;  // payload within frame_
};

}  // namespace ray_hixl::transport::stream
