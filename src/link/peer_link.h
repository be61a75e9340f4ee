// PeerLink: the Link of one peer, from its authenticated control connection to its end.
//
// The loop thread owns the connection and the process watch; whatever other threads ask for is posted there. Links keeps it while it is up;
// flights keep it while they run.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "control/frame_reader.h"
#include "link/dialer.h"
#include "link/flight.h"
#include "link/link.h"
#include "link/resolver.h"
#include "memory/slots.h"
#include "net/connection.h"
#include "net/identity.h"

namespace ray_hixl::link {

class PeerLink final : public Link, public transport::Port, public FlightHost, public std::enable_shared_from_this<PeerLink> {
 public:
  using Ready = std::function<void(Status)>;
  using Gone = std::function<void()>;

  // Loop thread. Waits for the welcome and chooses channels; `ready` runs once, `gone` once after a link that was ready went down.
  static std::shared_ptr<PeerLink> start(const transport::Context& context,
                                         const std::vector<std::unique_ptr<transport::Transport>>& transports,
                                         const control::EngineDescriptor& peer, Dialed dialed, Ready ready, Gone gone);
  PeerLink(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports,
           const control::EngineDescriptor& peer);

  [[nodiscard]] bool is_ready() const { return paths_.has_value(); }  // loop thread

  // Link.
  void submit(std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state) override;
  void locate(const Handle& handle, Deadline deadline, std::function<void(Result<transport::RemoteMemory>)> answer) override;
  [[nodiscard]] const transport::PeerView& peer() const override { return peer_; }
  [[nodiscard]] const Paths& paths() const override { return *paths_; }
  [[nodiscard]] Status state() const override;
  void close(const Status& why) override;

  // Port.
  void request(std::function<std::vector<std::byte>(std::uint64_t id)> encode,
               std::function<void(Result<transport::Reply>)> answer) override;
  void open_connection(control::TransportKind kind, Deadline deadline, std::function<void(Result<Fd>)> opened) override;

  // FlightHost. Asking for the channel of device memory may load CANN.
  [[nodiscard]] const Candidate* choose(transport::RemoteMemory memory) const override;
  [[nodiscard]] Status no_path(transport::RemoteMemory memory) const override;
  [[nodiscard]] std::string peer_name() const override { return peer_.descriptor.name(); }
  [[nodiscard]] transport::Counters& counters() const override { return context_.counters; }
  [[nodiscard]] Status check_alive() const override;
  [[nodiscard]] bool shows_generations() const override { return generations_ != nullptr; }
  [[nodiscard]] bool is_live(const Handle& handle) const override { return generations_->live(handle); }
  void ask_live(const std::vector<Handle>& handles, std::function<void(Status)> answer) override;
  [[nodiscard]] Resolver& resolver() override { return resolver_; }
  [[nodiscard]] bool on_loop() const override { return context_.loop.on_loop(); }
  [[nodiscard]] Status run(std::function<void()> work) override;
  void post(std::function<void()> task) override { context_.loop.post(std::move(task)); }
  [[nodiscard]] net::Loop::TimerId at(Deadline deadline, std::function<void()> task) override {
    return context_.loop.at(deadline, std::move(task));
  }
  void cancel(net::Loop::TimerId timer) override { context_.loop.cancel(timer); }

 private:
  using Answer = std::function<void(Result<transport::Reply>)>;

  void listen(Dialed dialed);
  std::size_t on_bytes(std::span<const std::byte> bytes, net::Arrival arrival);
  [[nodiscard]] Status on_next_frame(bool& is_last);
  [[nodiscard]] Status on_frame(control::FrameReader::Received received);
  [[nodiscard]] Status on_welcome(const control::FrameReader::Received& received);
  [[nodiscard]] Status on_notice(const control::Frame& notice);
  [[nodiscard]] Status on_answer(control::FrameReader::Received received);
  Status watch_process();
  void choose_channels();
  [[nodiscard]] Candidate candidate(transport::Transport& transport);
  void answer(std::uint64_t request, Result<transport::Reply> reply);
  void go_down(const Status& why);

  const transport::Context& context_;
  const std::vector<std::unique_ptr<transport::Transport>>& transports_;
  transport::PeerView peer_;  // constant once ready, as the four below
  std::string no_unix_socket_;
  std::shared_ptr<const memory::GenerationView> generations_;
  std::optional<net::ProcessWatch> process_;
  std::optional<Paths> paths_;
  std::array<const Candidate*, 2> chosen_{};  // by RemoteMemory, of the host
  Resolver resolver_{*this};

  // Loop thread only.
  std::optional<net::Connection> connection_;
  control::FrameReader frames_;
  Ready ready_;
  Gone gone_;

  mutable Mutex mutex_;
  Status state_ RAY_HIXL_GUARDED_BY(mutex_);
  std::uint64_t next_request_ RAY_HIXL_GUARDED_BY(mutex_) = 1;
  std::unordered_map<std::uint64_t, Answer> waiting_ RAY_HIXL_GUARDED_BY(mutex_);
};

}  // namespace ray_hixl::link
