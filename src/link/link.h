// Link: this engine's connection to one remote engine, as the reading side, from the authenticated control connection to its end.
//
// It resolves slots, splits a transfer into jobs, watches deadlines and the peer's life, checks generations before and after the bytes, and
// ends every transfer exactly once. Made by Links, which keeps it while it is up; shared by everything that reads from that peer; flights
// keep it while they run. The loop thread owns the connection; whatever other threads ask for is posted there.
//
// Every use is counted: a link that nobody has used for idle_timeout_s, or that a better one replaces, is *retired*: it takes nothing new,
// and is closed when the last use has ended. That is no loss: no transfer notices.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "control/frame_reader.h"
#include "link/dialer.h"
#include "link/flight.h"
#include "link/path.h"
#include "link/resolver.h"
#include "memory/slots.h"
#include "net/connection.h"
#include "net/processes.h"

namespace ray_hixl::link {

class Link final : public transport::Port, public FlightHost, public std::enable_shared_from_this<Link> {
 public:
  // On the loop thread.
  struct Callbacks {
    std::function<void(Status)> ready;  // once
    std::function<void()> gone;         // once, after a link that was ready went down
    std::function<void()> improve;      // it is in use, falls short of what it could be, and was not tried to be made better for a while
  };

  // Loop thread. Waits for the welcome and chooses channels.
  static std::shared_ptr<Link> start(const transport::Context& context,
                                     const std::vector<std::unique_ptr<transport::Transport>>& transports,
                                     const control::EngineDescriptor& peer, Dialed dialed, Callbacks callbacks);
  Link(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports,
       const control::EngineDescriptor& peer);

  [[nodiscard]] bool is_ready() const { return paths_.has_value(); }  // loop thread
  // Takes nothing new; closes when nothing uses it any more. Any thread.
  void retire();
  // Once it is ready: how much a shortage, here or at the peer, kept it from (the Unix socket, the generation table, the watch over the
  // process): 0 is nothing. Another link may have it later.
  [[nodiscard]] int shortfalls() const { return shortfalls_; }
  // Loop thread. An attempt to make a better one failed: `improve` comes again after a pause, which grows.
  void not_improved();

  // Once it is ready, any thread may call these.

  // Reads what the plan says. The state ends when the last byte is in and every source was still live (kInvalidRegion otherwise) and the
  // peer alive (kPeerGone otherwise), or with the first error, at the latest a second after its deadline: see flight.h for what stopping
  // means.
  // False, and nothing happens, if the link was retired: Links has, or makes, the one to use.
  [[nodiscard]] bool submit(std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state);

  // The same, right here, for little that one channel reads which has nobody to ask, out of sources that were read before on this link.
  // False: some of it may be there; submit() it. `state` only counts.
  [[nodiscard]] bool copy_now(const transport::Plan& plan, transport::TransferState& state);

  // Which memory holds the slot: one round trip if nobody asked before. False, and `answer` is not called, as above.
  [[nodiscard]] bool memory_of(const Handle& handle, std::function<void(Result<transport::RemoteMemory>)> answer);

  // Was it closed because nobody used it for long, or replaced by a better one? What it still carries comes to its end.
  [[nodiscard]] bool is_retired() const { return (uses_.load(std::memory_order_acquire) & kRetired) != 0; }

  [[nodiscard]] const transport::PeerView& peer() const { return peer_; }
  [[nodiscard]] const Paths& paths() const override { return *paths_; }
  // ok while it is up; then why it is not.
  [[nodiscard]] Status state() const override;
  // Is that ok? Takes no lock, so others may be held.
  [[nodiscard]] bool is_up() const { return up_.load(std::memory_order_acquire); }
  // Transfers under way end with `why`. Idempotent; returns at once.
  void close(const Status& why);

  // Port.
  void request(std::function<std::vector<std::byte>(std::uint64_t id)> encode,
               std::function<void(Result<transport::Reply>)> answer) override;
  void open_connection(control::TransportKind kind, Deadline deadline, std::function<void(Result<Fd>)> opened) override;

  // FlightHost. Asking for the channel of device memory may load CANN.
  [[nodiscard]] const Candidate* choose(transport::RemoteMemory memory) const override;
  [[nodiscard]] const Candidate* choose_after(const Candidate& first, transport::RemoteMemory memory) const override {
    return paths_->choose_after(first, memory);
  }
  [[nodiscard]] Status no_path(transport::RemoteMemory memory) const override;
  [[nodiscard]] std::string peer_name() const override { return peer_.descriptor.name(); }
  [[nodiscard]] transport::Counters& counters() const override { return context_.counters; }
  [[nodiscard]] Status check_alive() const override;
  [[nodiscard]] bool shows_generations() const override { return generations_ != nullptr; }
  [[nodiscard]] bool is_live(const Handle& handle) const override { return generations_->live(handle); }
  void ask_live(const std::vector<Handle>& handles, std::function<void(Status)> answer) override;
  [[nodiscard]] Resolver& resolver() override { return *resolver_; }
  [[nodiscard]] bool on_loop() const override { return context_.loop.on_loop(); }
  [[nodiscard]] Status run(std::function<void()> work) override;
  [[nodiscard]] memory::Reaper& reaper() override { return context_.reaper; }
  void post(std::function<void()> task) override { context_.loop.post(std::move(task)); }
  [[nodiscard]] net::Loop::TimerId at(Deadline deadline, std::function<void()> task) override {
    return context_.loop.at(deadline, std::move(task));
  }
  void cancel(net::Loop::TimerId timer) override { context_.loop.cancel(timer); }

 private:
  using Answer = std::function<void(Result<transport::Reply>)>;
  static constexpr std::uint64_t kRetired = std::uint64_t{1} << 63;

  [[nodiscard]] bool begin_use();
  [[nodiscard]] std::shared_ptr<Link> use();
  void end_use();
  [[nodiscard]] const Candidate* copy_share(const transport::Plan& plan);
  [[nodiscard]] bool are_live(const std::vector<Handle>& sources) const;
  void ask_for_better();
  void watch_idleness();
  void look_for_idleness();
  void listen(Dialed dialed);
  std::size_t on_bytes(std::span<const std::byte> bytes, net::Arrival arrival);
  [[nodiscard]] Status on_next_frame(bool& is_last);
  [[nodiscard]] Status on_frame(control::FrameReader::Received received);
  [[nodiscard]] Status on_welcome(const control::FrameReader::Received& received);
  [[nodiscard]] Status take_generations(const control::FrameReader::Received& received);
  [[nodiscard]] Status on_notice(const control::Frame& notice);
  [[nodiscard]] Status on_answer(control::FrameReader::Received received);
  Status watch_process();
  void choose_channels();
  [[nodiscard]] Candidate candidate(transport::Transport& transport);
  void answer(std::uint64_t request, Result<transport::Reply> reply);
  void go_down(const Status& why);

  const transport::Context& context_;
  const std::vector<std::unique_ptr<transport::Transport>>& transports_;
  transport::PeerView peer_;  // constant once ready, as all down to the resolver
  std::string no_unix_socket_;
  int shortfalls_ = 0;
  std::shared_ptr<const memory::GenerationView> generations_;
  std::shared_ptr<net::WatchedProcess> process_;  // shared with whoever else has to know when that process ends
  std::optional<Paths> paths_;
  std::array<const Candidate*, 3> chosen_{};  // by RemoteMemory, of the host
  const std::shared_ptr<Resolver> resolver_;

  std::atomic<std::uint64_t> uses_{0};   // under way, and kRetired
  std::atomic<std::uint64_t> begun_{0};  // uses, ever
  std::atomic<bool> improvable_{false};  // it falls short, and nobody tries to change that just now
  std::atomic<Clock::time_point> improve_at_{};
  std::atomic<bool> up_{true};  // as state_ says

  // Loop thread only.
  std::optional<net::Connection> connection_;
  control::FrameReader frames_;
  Callbacks callbacks_;
  net::WatchedProcess::Subscription death_;
  Clock::duration improve_pause_;
  net::Loop::TimerId idle_timer_ = 0;
  std::uint64_t begun_before_ = 0;  // at the last look for idleness
  int idle_looks_ = 0;              // in a row without a use

  mutable Mutex mutex_;
  Status state_ RAY_HIXL_GUARDED_BY(mutex_);
  std::uint64_t next_request_ RAY_HIXL_GUARDED_BY(mutex_) = 1;
  std::unordered_map<std::uint64_t, Answer> waiting_ RAY_HIXL_GUARDED_BY(mutex_);
};

}  // namespace ray_hixl::link
