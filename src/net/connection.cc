#include "net/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <deque>
#include <new>

namespace ray_hixl::net {
namespace {

constexpr std::size_t kReadStep = 64 * 1024;
// By what has come and not by what is only named; and in two steps, for each of them moves what is there: 64 KiB, 2 MiB, 64 MiB.
constexpr std::size_t kGrowth = 32;
constexpr std::size_t kKeptBytes = 4 * kReadStep;  // of a buffer that is empty
constexpr std::size_t kMostFds = 16;               // in one message

Status hung_up() { return Status(Code::kPeerGone, "the peer closed the connection: its engine was closed, or its process has ended"); }

struct Outgoing {
  std::vector<std::byte> bytes;
  std::vector<Fd> fds;
  std::size_t sent = 0;
};

// Room for kMostFds descriptors beside a message.
union ControlBuffer {
  std::array<char, CMSG_SPACE(sizeof(int) * kMostFds)> bytes;
  cmsghdr align;
};

// One recvmsg, with the descriptors that came along.
ssize_t receive_with_fds(int socket, std::span<std::byte> into, Arrival& arrival) {
  ControlBuffer control{};
  iovec io{into.data(), into.size()};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  const NoFork no_fork;  // until every descriptor has its Fd
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0) return got;
  arrival.fds_lost = (message.msg_flags & MSG_CTRUNC) != 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      arrival.fds.emplace_back(fd);
    }
  }
  return got;
}

// One sendmsg; the descriptors go with the first byte.
ssize_t transmit(int socket, const Outgoing& outgoing) {
  ControlBuffer control{};
  iovec io{const_cast<std::byte*>(outgoing.bytes.data()) + outgoing.sent, outgoing.bytes.size() - outgoing.sent};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  if (outgoing.sent == 0 && !outgoing.fds.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * outgoing.fds.size());
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int) * outgoing.fds.size());
    for (std::size_t i = 0; i < outgoing.fds.size(); ++i) {
      const int fd = outgoing.fds[i].get();
      std::memcpy(CMSG_DATA(part) + i * sizeof(int), &fd, sizeof(int));
    }
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL);
}

}  // namespace

struct Connection::Impl : std::enable_shared_from_this<Connection::Impl> {
  Impl(Loop& the_loop, Fd the_socket, std::size_t the_longest, Callbacks the_callbacks, Passing the_passing)
      : loop(the_loop), socket(std::move(the_socket)), longest(the_longest), passing(the_passing), callbacks(std::move(the_callbacks)) {}

  Loop& loop;
  Fd socket;
  const std::size_t longest;
  const Passing passing;
  Callbacks callbacks;
  std::vector<std::byte> input;  // read and not consumed
  std::size_t expected = 0;      // how long it will be, once on_bytes has returned; 0 if that is not known
  bool taken = false;            // by who was shown it
  std::deque<Outgoing> output;
  std::size_t backlog = 0;  // bytes in output
  bool open = true;
  bool reading = true;
  bool showing = false;  // what was kept is about to be shown again: until then nothing is read behind it
  std::uint32_t watched = EPOLLIN;

  void on_event(std::uint32_t events);
  [[nodiscard]] bool make_room();
  void read_some();
  [[nodiscard]] ssize_t receive(std::span<std::byte> into, Arrival& arrival) const;
  void consume(Arrival arrival);
  void show_again();
  void watch_what_is_wanted();
  [[nodiscard]] Status flush();
  void fail_later(Status why);
  void fail(Status why);
  void shut();
};

void Connection::Impl::on_event(std::uint32_t events) {
  const auto self = shared_from_this();
  if ((events & EPOLLOUT) != 0) {
    const std::size_t before = backlog;
    if (Status sent = flush(); !sent.is_ok()) return fail(std::move(sent));
    if (backlog < before && callbacks.on_sent) callbacks.on_sent();
  }
  if (!open) return;
  // Nobody is there to answer: what it asked for before does not matter any more, and epoll would go on and on telling of it.
  if (!reading && (events & (EPOLLHUP | EPOLLERR)) != 0) return fail(hung_up());
  if (reading && !showing && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_some();
}

// Bytes that nobody may pass descriptors with are read without room for any: the kernel closes them.
ssize_t Connection::Impl::receive(std::span<std::byte> into, Arrival& arrival) const {
  if (passing == Passing::kAccepted) return receive_with_fds(socket.get(), into, arrival);
  return ::recv(socket.get(), into.data(), into.size(), 0);
}

// For the next step. False if there is no memory.
bool Connection::Impl::make_room() {
  const std::size_t most = expected > input.size() ? expected : longest + 1;
  const std::size_t needed = input.size() + std::min(kReadStep, most - input.size());
  try {
    if (needed > input.capacity()) input.reserve(std::min(most, kGrowth * needed));
    input.resize(needed);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void Connection::Impl::read_some() {
  const std::size_t before = input.size();
  if (!make_room()) return fail(Status(Code::kPeerGone, "there is no memory for what the peer sends (ulimit -v)"));
  Arrival arrival;
  const ssize_t got = receive(std::span(input).subspan(before), arrival);
  const int error = errno;
  input.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  arrival.fresh = input.size() - before;
  if (got > 0) return consume(std::move(arrival));
  if (got == 0) return fail(hung_up());
  if (error == EAGAIN || error == EINTR) return;
  errno = error;
  fail(errno_status(Code::kPeerGone, "the connection broke"));
}

void Connection::Impl::consume(Arrival arrival) {
  expected = 0;
  taken = false;
  const std::size_t used = callbacks.on_bytes(input, std::move(arrival));
  if (!open || taken) return;
  assert(used <= input.size());
  input.erase(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(used));
  if (input.empty() && input.capacity() > kKeptBytes) input = {};
  if (input.size() > longest) fail(Status(Code::kPeerGone, "the peer sent more than " + std::to_string(longest) + " bytes in one message"));
}

// In a turn of its own, once, however often reading stopped and went on meanwhile.
void Connection::Impl::show_again() {
  showing = true;
  loop.post([weak = weak_from_this()] {
    const auto impl = weak.lock();
    if (!impl || !impl->open) return;
    impl->showing = false;
    if (impl->reading && !impl->input.empty()) impl->consume({});
    if (impl->open) impl->watch_what_is_wanted();
  });
}

// Sends what the socket takes; not ok if it broke.
Status Connection::Impl::flush() {
  while (!output.empty()) {
    Outgoing& next = output.front();
    const ssize_t sent = transmit(socket.get(), next);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      return errno_status(Code::kPeerGone, "the connection broke");
    }
    next.sent += static_cast<std::size_t>(sent);
    backlog -= static_cast<std::size_t>(sent);
    next.fds.clear();
    if (next.sent == next.bytes.size()) output.pop_front();
  }
  watch_what_is_wanted();
  return Status::ok();
}

void Connection::Impl::watch_what_is_wanted() {
  const std::uint32_t wanted = (reading && !showing ? EPOLLIN : 0u) | (output.empty() ? 0u : EPOLLOUT);
  if (wanted != watched) loop.change(socket.get(), watched = wanted);
}

// For callers that are using what their own on_closed destroys.
void Connection::Impl::fail_later(Status why) {
  loop.post([weak = weak_from_this(), why = std::move(why)] {
    if (const auto impl = weak.lock()) impl->fail(why);
  });
}

void Connection::Impl::fail(Status why) {
  if (!open) return;
  shut();
  const auto on_closed = std::move(callbacks.on_closed);
  callbacks = {};
  if (on_closed) on_closed(std::move(why));
}

void Connection::Impl::shut() {
  if (!open) return;
  open = false;
  loop.unwatch(socket.get());
  socket.reset();
  output.clear();
  backlog = 0;
}

Connection::Connection(Loop& loop, Fd socket, std::size_t longest_message, Callbacks callbacks, Passing passing)
    : impl_(std::make_shared<Impl>(loop, std::move(socket), longest_message, std::move(callbacks), passing)) {
  const Status watched = loop.watch(impl_->socket.get(), EPOLLIN, [weak = std::weak_ptr(impl_)](std::uint32_t events) {
    if (const auto impl = weak.lock()) impl->on_event(events);
  });
  if (!watched.is_ok()) impl_->fail_later(watched);
}

Connection::~Connection() { close(); }

void Connection::send(std::vector<std::byte> bytes, std::vector<Fd> fds) {
  if (!impl_->open || bytes.empty()) return;
  assert(fds.size() <= kMostFds);
  impl_->backlog += bytes.size();
  const bool idle = impl_->output.empty();
  impl_->output.push_back({std::move(bytes), std::move(fds), 0});
  Status sent = idle ? impl_->flush() : Status::ok();
  if (sent.is_ok() && impl_->backlog > kLongestBacklog) sent = Status(Code::kPeerGone, "the peer does not read what it asked for");
  if (!sent.is_ok()) impl_->fail_later(std::move(sent));
}

std::size_t Connection::queued() const { return impl_->backlog; }

void Connection::expect(std::size_t bytes) { impl_->expected = bytes; }

std::vector<std::byte> Connection::take_bytes() {
  impl_->taken = true;
  return std::exchange(impl_->input, {});
}

void Connection::pause_reading() {
  if (!impl_->open) return;
  impl_->reading = false;
  impl_->watch_what_is_wanted();
}

void Connection::resume_reading() {
  if (!impl_->open || impl_->reading) return;
  impl_->reading = true;
  if (!impl_->showing && !impl_->input.empty()) impl_->show_again();
  impl_->watch_what_is_wanted();
}

std::pair<Fd, std::vector<std::byte>> Connection::detach() {
  assert(impl_->output.empty());
  impl_->open = false;
  impl_->loop.unwatch(impl_->socket.get());
  return {std::move(impl_->socket), std::move(impl_->input)};
}

void Connection::close() {
  const auto self = impl_;
  self->shut();
}

bool Connection::is_open() const { return impl_->open; }
const Fd& Connection::socket() const { return impl_->socket; }

}  // namespace ray_hixl::net
