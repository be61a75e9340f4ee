// local: memory of another engine in the same process. Pins the slots and copies.
//
// Pinned content is alive, but local reads it like any other code of this process: whoever unmaps published memory under its owner's feet
// (by hand, not by freeing it) crashes the process.
#include <algorithm>
#include <utility>
#include <vector>

#include "transport/factories.h"
#include "transport/local/directory.h"
#include "transport/pull.h"
#include "transport/slices.h"

namespace ray_hixl::transport::local {
namespace {

using Sources = std::vector<Slices>;

Result<Sources> pin_all(const Incarnation& owner, const std::vector<Handle>& handles) {
  Sources sources;
  sources.reserve(handles.size());
  for (const Handle& handle : handles) {
    auto content = pin(owner, handle);
    if (!content.is_ok()) return content.status();
    sources.emplace_back(*std::move(content));
  }
  return sources;
}

// One copy per range that a piece touches.
Result<std::vector<Copy>> to_copies(const std::vector<Piece>& pieces, const Sources& sources) {
  std::vector<Copy> copies;
  copies.reserve(pieces.size());
  for (const Piece& piece : pieces) {
    const Slices& source = sources[piece.source];
    RAY_HIXL_RETURN_IF_ERROR(source.check_host(piece.offset, piece.length));
    for (std::uint64_t copied = 0; copied < piece.length; copied += copies.back().length) {
      const MemoryRange slice = source.at(piece.offset + copied, piece.length - copied);
      copies.push_back({piece.local + copied, reinterpret_cast<std::uint64_t>(slice.address), slice.length});
    }
  }
  return copies;
}

// Ranges of memory, sorted and apart.
using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

Ranges sources_of(const std::vector<Copy>& copies) {
  Ranges sources;
  sources.reserve(copies.size());
  for (const Copy& copy : copies) sources.emplace_back(copy.from, copy.from + copy.length);
  if (!std::ranges::is_sorted(sources)) std::ranges::sort(sources);
  std::size_t last = 0;
  for (const auto& next : sources) {
    if (next.first < sources[last].second) {
      sources[last].second = std::max(sources[last].second, next.second);
    } else {
      sources[++last] = next;
    }
  }
  sources.resize(std::min(sources.size(), last + 1));
  return sources;
}

// Copies run at once, in parts: what one writes, no other may read. What is copied onto itself stays as it is.
Status check_apart(const std::vector<Copy>& copies) {
  const Ranges sources = sources_of(copies);
  for (const Copy& copy : copies) {
    const auto to = reinterpret_cast<std::uint64_t>(copy.to);
    if (to == copy.from) continue;
    const auto next = std::ranges::upper_bound(sources, to, {}, &Ranges::value_type::second);
    if (next == sources.end() || next->first >= to + copy.length) continue;
    return Status(Code::kInvalidArgument, "what is read and where it goes share memory: take a target apart from it");
  }
  return Status::ok();
}

class LocalChannel final : public Channel {
 public:
  LocalChannel(const Context& context, const PeerView& peer)
      : peer_(peer.descriptor.incarnation),
        link_checks_(peer.shows_generations),
        puller_(context.copy_pool, context.counters, control::TransportKind::kLocal) {}

  Status can_read(RemoteMemory memory) const override { return is_host(memory) ? Status::ok() : host_memory_only(); }

  void submit(std::shared_ptr<Job> job) override {
    if (const Status open = puller_.state(); !open.is_ok()) return job->end(open);
    Result<Sources> sources = pin_all(peer_, job->plan->sources);
    if (!sources.is_ok()) return job->end(sources.status());
    auto copies = std::static_pointer_cast<const Copies>(job->share->kept.get());
    if (!copies) {
      auto made = make_copies(*job, *sources);
      if (!made.is_ok()) return job->end(made.status());
      copies = *std::move(made);
    }
    if (!link_checks_) check_afterwards(*job);
    auto mover = memory_mover(std::make_shared<const Sources>(*std::move(sources)), copies->bytes());
    puller_.pull(std::move(job), std::move(copies), std::move(mover));
  }

  void heed_stops() override {}  // parts ask for themselves
  void on_notice(const control::Frame&) override {}
  void close(const Status& why) override { puller_.close(why); }

 private:
  // A slot's memory stays where it is while it can be pinned.
  [[nodiscard]] Result<std::shared_ptr<const Copies>> make_copies(const Job& job, const Sources& sources) const {
    Result<std::vector<Copy>> copies = to_copies(job.pieces(), sources);
    if (!copies.is_ok()) return copies.status();
    RAY_HIXL_RETURN_IF_ERROR(check_apart(*copies));
    auto cut = puller_.cut(*std::move(copies));
    job.share->kept.set(cut);
    return cut;
  }

  // A pin keeps memory alive, not the object in it published: its owner may have freed it, and used the memory again, while it was read.
  void check_afterwards(Job& job) const {
    job.done = [done = std::move(job.done), owner = peer_, sources = job.plan->sources](Status moved) {
      for (std::size_t i = 0; moved.is_ok() && i < sources.size(); ++i) moved = check_live(owner, sources[i]);
      done(std::move(moved));
    };
  }

  const Incarnation peer_;
  const bool link_checks_;  // it has the owner's generations
  Puller puller_;
};

class LocalTransport final : public Transport {
 public:
  explicit LocalTransport(const Context& context) : context_(context), listing_(context.self, context.slots) {}

  control::TransportKind kind() const override { return control::TransportKind::kLocal; }
  bool reads_by_address() const override { return false; }
  std::vector<std::byte> describe(const ReaderView&) const override { return {}; }

  Result<std::unique_ptr<Channel>> open(const PeerView& peer, ByteView, Port&) override {
    if (!is_listed(peer.descriptor.incarnation)) return Status(Code::kNotAvailable, "the peer is another process");
    return std::unique_ptr<Channel>(std::make_unique<LocalChannel>(context_, peer));
  }

  bool serve(const control::Frame&, Responder&) override { return false; }
  void accept(Fd, std::vector<std::byte>) override {}  // local needs no connection of its own: hangs up
  void session_ended(const ReaderView&) override {}
  void shut_down() override {}

 private:
  const Context& context_;
  const Listing listing_;
};

}  // namespace

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<LocalTransport>(context); }

}  // namespace ray_hixl::transport::local
