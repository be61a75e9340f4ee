// cma: copies straight out of the memory of another process of this host and user. That process takes no part.
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"
#include "transport/cma/mover.h"
#include "transport/factories.h"

namespace ray_hixl::transport::cma {
namespace {

constexpr std::uint64_t kVectorCost = 8192;  // the kernel looks its pages up

class CmaChannel final : public Channel {
 public:
  CmaChannel(const Context& context, pid_t pid)
      : puller_(context.copy_pool, context.counters, control::TransportKind::kCma, kVectorCost), pid_(pid) {}

  Status can_read(RemoteMemory memory) const override {
    if (memory != RemoteMemory::kOwnersOnly) return is_host(memory) ? Status::ok() : host_memory_only();
    return Status(Code::kNotAvailable,
                  "the kernel reads that memory for the peer only: it is a driver's, such as pinned memory, or secret");
  }

  void submit(std::shared_ptr<Job> job) override {
    auto copies = copies_of(*job->share);
    const auto mover = std::make_shared<CmaMover>(pid_, [to = job.get()](std::uint64_t address) { to->unreadable = address; });
    puller_.pull(std::move(job), std::move(copies), mover);
  }

  bool copy_now(const Share& share) override {
    CmaMover mover(pid_);
    return puller_.copy_now(*copies_of(share), mover);
  }

  void heed_stops() override {}  // parts ask for themselves
  void on_notice(const control::Frame&) override {}
  void close(const Status& why) override { puller_.close(why); }

 private:
  [[nodiscard]] std::shared_ptr<const Copies> copies_of(const Share& share) const {
    if (auto known = std::static_pointer_cast<const Copies>(share.kept.get())) return known;
    std::vector<Copy> copies;
    copies.reserve(share.pieces.size());
    for (const Piece& piece : share.pieces) copies.push_back({piece.local, piece.address, piece.length});
    auto cut = puller_.cut(std::move(copies));
    share.kept.set(cut);
    return cut;
  }

  Puller puller_;
  const pid_t pid_;
};

Status probe_peer(pid_t pid, ByteView details) {
  ByteReader reader(details);
  const std::uint64_t address = reader.u64();
  Token token{};
  std::ranges::copy(reader.bytes(token.size()), token.begin());
  if (!reader.at_end()) return Status(Code::kNotAvailable, "the peer describes its cma transport in a way this version does not know");
  return probe_process(pid, address, token);
}

class CmaTransport final : public Transport {
 public:
  explicit CmaTransport(const Context& context) : context_(context) { fill_random(token_); }

  control::TransportKind kind() const override { return control::TransportKind::kCma; }
  bool reads_by_address() const override { return true; }

  std::vector<std::byte> describe(const ReaderView& reader) const override {
    if (!reader.is_same_user) return {};  // could not read here, and must not learn an address
    ByteWriter writer;
    writer.u64(reinterpret_cast<std::uint64_t>(token_.data()));
    writer.bytes(token_);
    return writer.take();
  }

  Result<std::unique_ptr<Channel>> open(const PeerView& peer, ByteView details, Port&) override {
    if (!peer.same_host) return Status(Code::kNotAvailable, "the peer is on another host");
    if (!peer.same_pid_namespace) {
      return Status(Code::kNotAvailable, "the peer is in another pid namespace (another container); run both in one (docker: --pid)");
    }
    if (!peer.same_uid) {
      return Status(Code::kNotAvailable,
                    "the peer runs as another user, or its user is not known because its Unix socket cannot be reached");
    }
    const auto pid = static_cast<pid_t>(peer.welcome.pid);
    RAY_HIXL_RETURN_IF_ERROR(probe_peer(pid, details));
    return std::unique_ptr<Channel>(std::make_unique<CmaChannel>(context_, pid));
  }

  bool serve(const control::Frame&, Responder&) override { return false; }
  void accept(Fd, std::vector<std::byte>) override {}  // cma needs no connection of its own: hangs up
  void session_ended(const ReaderView&) override {}
  void shut_down() override {}

 private:
  const Context& context_;
  Token token_{};
};

}  // namespace

Status probe() {
  Token token;
  fill_random(token);
  return probe_process(::getpid(), reinterpret_cast<std::uint64_t>(token.data()), token);
}

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<CmaTransport>(context); }

}  // namespace ray_hixl::transport::cma
