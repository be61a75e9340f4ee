// Transport: a way to move bytes, one per engine and kind. Channel: a transport opened to one peer. Port: what the link gives a channel.
//
// Transports never authenticate and never open control sockets: every descriptor they get was opened and authenticated by the link.
// Moving is driven by the reader; the owner's half is serve() and accept().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/deadline.h"
#include "base/fd.h"
#include "control/descriptor.h"
#include "control/kinds.h"
#include "control/messages.h"
#include "device/devices.h"
#include "memory/arena.h"
#include "memory/copy_pool.h"
#include "memory/reaper.h"
#include "memory/slots.h"
#include "net/identity.h"
#include "net/loop.h"
#include "net/processes.h"
#include "ray_hixl/options.h"
#include "ray_hixl/status.h"
#include "transport/counters.h"
#include "transport/job.h"
#include "transport/responder.h"

namespace ray_hixl::transport {

// Which memory of the peer the bytes lie in. Host memory goes to host memory, device memory to device memory; kAcross: one side is host
// memory, the other one device memory. kPinned: host memory that HIXL knows on one side or both, else device memory; whoever does not move
// it so moves it as what it is otherwise. kOwnersOnly: ordinary memory that the kernel turned out to read for no other process, such as a
// driver's, or a secret memfd's.
enum class RemoteMemory : std::uint8_t { kOrdinary, kSourceArena, kOwnersOnly, kDevice, kAcross, kPinned };
inline constexpr std::size_t kRemoteMemories = 6;
// Host memory on both sides?
[[nodiscard]] constexpr bool is_host(RemoteMemory memory) {
  return memory == RemoteMemory::kOrdinary || memory == RemoteMemory::kSourceArena || memory == RemoteMemory::kOwnersOnly;
}

// What a transport of host memory says of device memory.
[[nodiscard]] inline Status host_memory_only() {
  return Status(Code::kNotAvailable, "it moves host memory; hixl and staged move device memory");
}

// What is known of the peer once its session is up.
struct PeerView {
  control::EngineDescriptor descriptor;
  control::Welcome welcome;
  bool same_host = false;  // same boot id
  bool same_pid_namespace = false;
  bool over_unix_socket = false;   // the control connection can pass descriptors
  bool same_uid = false;           // checked by the kernel (SO_PEERCRED); false over TCP
  bool shows_generations = false;  // the link itself sees whether a slot is live; otherwise the owner has to be asked
};

// The answer to a request.
struct Reply {
  control::MessageType type{};
  std::vector<std::byte> frame;
  std::vector<Fd> fds;
  [[nodiscard]] ByteView body() const { return ByteView(frame).subspan(control::kFrameHeaderBytes); }
};

// The reader's way to its peer. Outlives the channel and its jobs. Any thread may call; callbacks run on the loop thread, exactly once.
class Port {
 public:
  virtual ~Port() = default;
  // A control round trip. `encode` makes the frame with the id it is given. kFailure answers and a lost link come as a Status.
  virtual void request(std::function<std::vector<std::byte>(std::uint64_t id)> encode, std::function<void(Result<Reply>)> answer) = 0;
  // A new authenticated connection, for this transport's own use. kConnectError, kTransferTimeout or kPeerGone otherwise.
  virtual void open_connection(control::TransportKind kind, Deadline deadline, std::function<void(Result<Fd>)> opened) = 0;
  // Is the slot live, as the peer's generation table says? REQUIRES: it is shown (PeerView::shows_generations).
  [[nodiscard]] virtual bool is_live(const Handle& handle) const = 0;
};

// Any thread may call any method but those marked loop thread.
class Channel {
 public:
  virtual ~Channel() = default;
  // ok, or a sentence (kNotAvailable) why bytes of such memory cannot be read this way.
  [[nodiscard]] virtual Status can_read(RemoteMemory memory) const = 0;
  // The same, with what transfers found out a moment ago: which way bytes take now, for who asks.
  [[nodiscard]] virtual Status reads_now(RemoteMemory memory) const { return can_read(memory); }
  // Starts the job; job->done is called exactly once, maybe before this returns. Never blocks for longer than a small copy takes.
  virtual void submit(std::shared_ptr<Job> job) = 0;
  // Copies a share of little (Copies::is_little) right here, if nobody has to be asked or waited for; nothing else is done for it, and
  // nothing counted. False: it may be there in part, and a job has to be submitted.
  [[nodiscard]] virtual bool copy_now(const Share& share) {
    (void)share;
    return false;
  }
  // Jobs whose transfer is stopping end soon, at most some milliseconds later where nothing else has to let go; called after a transfer's
  // stop was requested or its deadline passed.
  virtual void heed_stops() = 0;
  // A notice of the peer. Loop thread.
  virtual void on_notice(const control::Frame& notice) = 0;
  // Every job ends with `why`; later ones, too. Returns at once. Idempotent.
  virtual void close(const Status& why) = 0;
};

// What every transport of an engine is given. All outlive it.
struct Context {
  Incarnation self{};
  net::HostIdentity process;
  const Options& options;
  net::Loop& loop;
  net::Processes& processes;
  memory::SlotTable& slots;
  memory::Arena& source_arena;
  memory::CopyPool& copy_pool;
  memory::Reaper& reaper;
  Counters& counters;
  std::shared_ptr<device::Devices> devices;  // shared with the engine
};

class Transport {
 public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual control::TransportKind kind() const = 0;
  // Do pieces need the owner's addresses (one resolve per slot)? Otherwise they are read by handle and offset.
  [[nodiscard]] virtual bool reads_by_address() const = 0;
  // What this reader must know to read here, for the welcome. Addresses are told to the same user on this host only.
  [[nodiscard]] virtual std::vector<std::byte> describe(const ReaderView& reader) const = 0;
  // A channel to the peer, or a sentence (kNotAvailable) why there cannot be one and what to do about it. `details` is what the peer's
  // describe() gave. Loop thread. Must not block; may try a system call (a probe read).
  [[nodiscard]] virtual Result<std::unique_ptr<Channel>> open(const PeerView& peer, ByteView details, Port& port) = 0;
  // The owner's half: a request. True if it is one for this transport: then it took the responder, and answers now or later. Takes no time
  // in proportion to an object. Loop thread.
  [[nodiscard]] virtual bool serve(const control::Frame& request, Responder& responder) = 0;
  // The owner's half: an authenticated data connection, with bytes that were already read from it. Loop thread.
  virtual void accept(Fd connection, std::vector<std::byte> received) = 0;
  // The session of this reader ended. Loop thread.
  virtual void session_ended(const ReaderView& reader) = 0;
  // Ends what accept() started. Loop thread, before the loop stops.
  virtual void shut_down() = 0;
};

}  // namespace ray_hixl::transport
