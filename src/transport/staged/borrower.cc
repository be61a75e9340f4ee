#include "transport/staged/borrower.h"

#include <algorithm>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "device/name.h"
#include "device/staging.h"
#include "transport/fetched.h"
#include "transport/mappings.h"
#include "transport/staged/borrowed_part.h"
#include "transport/staged/parts.h"

namespace ray_hixl::transport::staged {
namespace {

constexpr std::uint32_t kMostParts = 4;                          // one that is copied here, one that is copied there, and those under way
constexpr int kMostLost = 16;                                    // parts on end that the owner took back
constexpr std::uint64_t kInlineBytes = std::uint64_t{64} << 10;  // copied on the loop: a switch of threads would take as long

}  // namespace

// A job, as far as it came.
struct Borrower::Borrowing {
  explicit Borrowing(std::shared_ptr<Job> the_job) : job(std::move(the_job)) {}

  std::shared_ptr<Job> job;  // null once it has ended
  std::size_t piece = 0;     // the next byte to ask for belongs to this piece,
  std::uint64_t in_piece = 0;
  std::deque<std::shared_ptr<BorrowedPart>> rests;  // which the owner did not stage along with what was before them
  std::size_t asked = 0;                            // parts
  std::size_t mapping = 0;                          // parts whose segment was asked for
  std::size_t copying = 0;                          // parts
  std::uint64_t moved = 0;                          // bytes
  bool is_refused = false;                          // by the owner
  Status failed;
  int lost = 0;                // parts that were taken back, since one that was not
  std::uint64_t progress = 0;  // grows with every part
  net::Loop::TimerId stall_timer = 0;

  [[nodiscard]] bool waits_for_owner() const { return asked + mapping > 0; }
  [[nodiscard]] bool is_to_end() const { return !job || !failed.is_ok(); }
  [[nodiscard]] bool wants_more() const { return failed.is_ok() && (!rests.empty() || piece < job->pieces().size()); }
  [[nodiscard]] std::shared_ptr<BorrowedPart> next();
};

std::shared_ptr<BorrowedPart> Borrower::Borrowing::next() {
  if (!rests.empty()) {
    auto rest = std::move(rests.front());
    rests.pop_front();
    return rest;
  }
  auto part = std::make_shared<BorrowedPart>();
  part->device = device_of(*job, job->pieces()[piece]);
  while (piece < job->pieces().size() && part->length < device::Staging::kBufferBytes && part->copies.size() < control::Stage::kMostSpans) {
    const Piece& from = job->pieces()[piece];
    if (device_of(*job, from) != part->device) break;
    const std::uint64_t length = std::min(from.length - in_piece, device::Staging::kBufferBytes - part->length);
    part->add({from.local + in_piece, job->plan->sources[from.source], from.offset + in_piece, length});
    in_piece += length;
    if (in_piece < from.length) continue;
    ++piece;
    in_piece = 0;
  }
  return part;
}

// Loop thread only, but for copies. A job's end may be the link's, and the port's: it comes last.
struct Borrower::Impl : std::enable_shared_from_this<Borrower::Impl> {
  using BorrowingPtr = std::shared_ptr<Borrowing>;

  Impl(const Context& the_context, Port& the_port, std::uint32_t the_most, Otherwise the_otherwise)
      : context(the_context),
        port(the_port),
        most(std::min(the_most, kMostParts)),
        otherwise(std::move(the_otherwise)),
        mappings(std::make_shared<Mappings>(port, context.copy_pool, context.reaper)) {}

  const Context& context;
  Port& port;
  const std::uint32_t most;
  const Otherwise otherwise;
  const std::shared_ptr<Mappings> mappings;
  std::vector<BorrowingPtr> all;
  std::deque<BorrowingPtr> turns;  // those that may want more, each a part a turn
  std::uint32_t parts = 0;         // asked for, or not given back
  std::uint64_t progress = 0;      // of all
  bool is_stuck = false;           // none of the parts has come back for long
  std::vector<Handle> returned;    // to be told with the next request
  Status closed;                   // ok until close()

  void submit(std::shared_ptr<Job> job);
  void go_on();
  void ask(const BorrowingPtr& borrowing);
  void ask_again(const BorrowingPtr& borrowing, std::shared_ptr<BorrowedPart> rest);
  void send(std::vector<control::ReadSpan> spans, std::function<void(Result<Reply>)> answer);
  void answered(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, const Result<Reply>& reply);
  [[nodiscard]] Status take(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, const control::Staged& staged);
  void map(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, const control::Staged& staged);
  void mapped(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, std::uint64_t offset, const Result<View>& view);
  void later(const BorrowingPtr& borrowing, std::function<void()> step);
  void copy(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part);
  void copied(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, const Status& status);
  void lost(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part);
  void note_progress(Borrowing& borrowing);
  void count(const Borrowing& borrowing) const;
  void give_back(const Handle& part);
  void fail(Borrowing& borrowing, const Status& why, bool is_refused = false);
  void end_if_done(const BorrowingPtr& borrowing);
  void watch_stall(const BorrowingPtr& borrowing);
  void stalled(const BorrowingPtr& borrowing, bool waits_for_others);
  void heed_stops();
  void close(const Status& why);
};

void Borrower::Impl::submit(std::shared_ptr<Job> job) {
  if (!closed.is_ok()) return job->end(closed);
  if (is_stuck && parts == most) return otherwise(std::move(job));
  const auto borrowing = std::make_shared<Borrowing>(std::move(job));
  all.push_back(borrowing);
  turns.push_back(borrowing);
  watch_stall(borrowing);
  go_on();
}

void Borrower::Impl::go_on() {
  if (!closed.is_ok()) return;
  while (parts < most && !turns.empty()) {
    const BorrowingPtr borrowing = std::move(turns.front());
    turns.pop_front();
    if (!borrowing->job || !borrowing->wants_more()) continue;
    ask(borrowing);
    turns.push_back(borrowing);
  }
  if (!returned.empty()) send({}, [](const Result<Reply>&) {});
}

void Borrower::Impl::ask(const BorrowingPtr& borrowing) {
  const std::shared_ptr<BorrowedPart> part = borrowing->next();
  ++parts;
  ++borrowing->asked;
  send(part->spans(), [self = shared_from_this(), borrowing, part](const Result<Reply>& reply) { self->answered(borrowing, part, reply); });
}

void Borrower::Impl::send(std::vector<control::ReadSpan> spans, std::function<void(Result<Reply>)> answer) {
  control::Stage stage{std::exchange(returned, {}), std::move(spans)};
  port.request([stage = std::move(stage)](std::uint64_t id) { return control::encode(id, stage); }, std::move(answer));
}

// What comes for a job that has ended goes back untouched.
void Borrower::Impl::answered(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, const Result<Reply>& reply) {
  --borrowing->asked;
  note_progress(*borrowing);
  Status taken = reply.status();
  if (taken.is_ok()) {
    const Result<control::Staged> staged = control::decode_staged(reply->body());
    const bool is_staged = reply->type == control::MessageType::kStaged && staged.is_ok();
    taken = is_staged ? take(borrowing, part, *staged) : Status(Code::kInternal, "the peer gave another answer than asked for");
  }
  if (!taken.is_ok()) {
    --parts;
    fail(*borrowing, taken, true);
  }
  go_on();
  end_if_done(borrowing);
}

void Borrower::Impl::ask_again(const BorrowingPtr& borrowing, std::shared_ptr<BorrowedPart> rest) {
  borrowing->rests.push_back(std::move(rest));
  if (std::ranges::find(turns, borrowing) == turns.end()) turns.push_back(borrowing);
}

Status Borrower::Impl::take(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, const control::Staged& staged) {
  if (staged.length == 0 || staged.length > part->length)
    return Status(Code::kInternal, "the peer staged other bytes than it was asked for");
  part->lent = staged.part;
  if (borrowing->is_to_end()) {
    give_back(staged.part);
    return Status::ok();
  }
  if (auto rest = part->split(staged.length)) ask_again(borrowing, std::move(rest));
  map(borrowing, part, staged);
  return Status::ok();
}

// A step of a job, on the loop, and what is due after it. Any thread.
void Borrower::Impl::later(const BorrowingPtr& borrowing, std::function<void()> step) {
  context.loop.post([self = shared_from_this(), borrowing, step = std::move(step)] {
    step();
    self->go_on();
    self->end_if_done(borrowing);
  });
}

void Borrower::Impl::map(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, const control::Staged& staged) {
  ++borrowing->mapping;
  mappings->get(staged.segment, [self = shared_from_this(), borrowing, part, offset = staged.offset](const Result<View>& view) {
    self->later(borrowing, [raw = self.get(), borrowing, part, offset, view] { raw->mapped(borrowing, part, offset, view); });
  });
}

// The segment of a part that was taken back may have been given back, too: that is no fault of the memory that was asked for.
void Borrower::Impl::mapped(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, std::uint64_t offset,
                            const Result<View>& view) {
  --borrowing->mapping;
  note_progress(*borrowing);
  if (borrowing->is_to_end()) return give_back(part->lent);
  if (!port.is_live(part->lent)) return lost(borrowing, part);
  const Status found = view.is_ok() ? part->find_in(*view, offset) : view.status();
  if (found.is_ok()) return copy(borrowing, part);
  give_back(part->lent);
  fail(*borrowing, found, true);
}

// On the thread of the device, or the pool's, which both stop before the loop.
void Borrower::Impl::copy(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part) {
  ++borrowing->copying;
  const std::shared_ptr<TransferState> transfer = borrowing->job->transfer;
  const auto told = [self = shared_from_this(), borrowing, part](const Status& status) {
    self->later(borrowing, [raw = self.get(), borrowing, part, status] { raw->copied(borrowing, part, status); });
  };
  const auto copy_to_host = [transfer, part, is_callers = borrowing->job->plan->callers_memory] {
    return transfer->stopping() ? transfer->stop_reason() : part->copy_to_host(is_callers);
  };
  if (part->device == kHost && part->length <= kInlineBytes) return copied(borrowing, part, copy_to_host());
  Status taken;
  if (part->device == kHost) {
    taken = context.copy_pool.run([copy_to_host, told] { told(copy_to_host()); });
  } else if (const std::shared_ptr<device::Device> device = context.devices->find(part->device)) {
    const auto copy_to_device = [transfer, part](device::StagingRuntime& runtime) {
      return transfer->stopping() ? transfer->stop_reason() : part->copy_to_device(runtime);
    };
    taken = device->staging().run(copy_to_device, told);
  } else {
    taken = device::npu_closed(part->device);
  }
  if (!taken.is_ok()) copied(borrowing, part, taken);
}

// Nothing writes for this part any more. Where the owner took it back meanwhile, what was copied may be of others.
void Borrower::Impl::copied(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part, const Status& status) {
  --borrowing->copying;
  note_progress(*borrowing);
  part->view.reset();
  if (status.is_ok() && !port.is_live(part->lent)) return lost(borrowing, part);
  give_back(part->lent);
  if (!status.is_ok()) return fail(*borrowing, status);
  borrowing->lost = 0;
  borrowing->moved += part->length;
}

// The owner took it back, since others waited for it, and this process was stopped or overloaded. It is asked for again.
void Borrower::Impl::lost(const BorrowingPtr& borrowing, const std::shared_ptr<BorrowedPart>& part) {
  give_back(part->lent);
  if (++borrowing->lost < kMostLost) return ask_again(borrowing, part);
  fail(*borrowing, Status(Code::kNotAvailable, "the peer takes its parts back before they are copied"), true);
}

void Borrower::Impl::note_progress(Borrowing& borrowing) {
  ++borrowing.progress;
  ++progress;
  is_stuck = false;
}

void Borrower::Impl::count(const Borrowing& borrowing) const {
  count_fetched(*borrowing.job->transfer, context.counters, control::TransportKind::kStaged, borrowing.moved);
  context.counters.staged_mapped.fetch_add(borrowing.moved, std::memory_order_relaxed);
}

void Borrower::Impl::give_back(const Handle& part) {
  --parts;
  returned.push_back(part);
}

void Borrower::Impl::fail(Borrowing& borrowing, const Status& why, bool is_refused) {
  if (!borrowing.failed.is_ok()) return;
  borrowing.failed = why;
  borrowing.is_refused = is_refused;
}

// Parts that are still to come are given back when they do.
void Borrower::Impl::end_if_done(const BorrowingPtr& borrowing) {
  if (!borrowing->job || borrowing->copying > 0 || borrowing->wants_more()) return;
  if (borrowing->failed.is_ok() && borrowing->waits_for_owner()) return;
  if (borrowing->stall_timer != 0) context.loop.cancel(std::exchange(borrowing->stall_timer, 0));
  std::erase(all, borrowing);
  const Status& failed = borrowing->failed;
  const bool cannot = failed.code() == Code::kNotAvailable || failed.code() == Code::kOutOfMemory;
  const bool is_refused = borrowing->is_refused && cannot && closed.is_ok() && !borrowing->job->transfer->stopping();
  if (!is_refused) count(*borrowing);
  std::shared_ptr<Job> job = std::exchange(borrowing->job, nullptr);
  if (is_refused) return otherwise(std::move(job));  // from its beginning: what was moved is moved again
  job->end(failed);                                  // last: it wakes threads that submit
}

// One timer per job, set again where there was progress, or where it is not the owner who takes so long. A job that waits for its turn
// behind parts that do not come back, of an NPU that hangs there or here, goes otherwise.
void Borrower::Impl::watch_stall(const BorrowingPtr& borrowing) {
  const Deadline deadline = Deadline::in(seconds_to_duration(context.options.stall_timeout_s));
  const auto look = [self = weak_from_this(), borrowing, seen = borrowing->progress, seen_of_all = progress] {
    const auto alive = self.lock();
    if (!alive) return;
    borrowing->stall_timer = 0;
    const bool waits_for_others = !borrowing->waits_for_owner();
    const bool is_late = waits_for_others ? seen_of_all == alive->progress : seen == borrowing->progress;
    if (!is_late || borrowing->copying > 0) return alive->watch_stall(borrowing);
    alive->stalled(borrowing, waits_for_others);
  };
  borrowing->stall_timer = context.loop.at(deadline, look);
}

void Borrower::Impl::stalled(const BorrowingPtr& borrowing, bool waits_for_others) {
  const std::string time = std::to_string(context.options.stall_timeout_s) + " s (stall_timeout_s)";
  is_stuck = true;
  if (waits_for_others) {
    fail(*borrowing, Status(Code::kNotAvailable, "parts for others have not come back for " + time), true);
  } else {
    fail(*borrowing, Status(Code::kPeerGone, "nothing of what it was asked for came for " + time + ": its process or its NPU is stopped"));
  }
  end_if_done(borrowing);
}

void Borrower::Impl::heed_stops() {
  const auto jobs = all;  // of which those that end take themselves away
  for (const BorrowingPtr& borrowing : jobs) {
    if (!borrowing->job || !borrowing->job->transfer->stopping()) continue;
    fail(*borrowing, borrowing->job->transfer->stop_reason());
    end_if_done(borrowing);
  }
}

void Borrower::Impl::close(const Status& why) {
  if (!closed.is_ok()) return;
  closed = why;
  turns.clear();
  mappings->forget_all();
  const auto jobs = all;
  for (const BorrowingPtr& borrowing : jobs) {
    fail(*borrowing, why);
    end_if_done(borrowing);
  }
}

Borrower::Borrower(const Context& context, Port& port, std::uint32_t parts, Otherwise otherwise)
    : impl_(std::make_shared<Impl>(context, port, parts, std::move(otherwise))) {}

Borrower::~Borrower() { close(Status(Code::kClosed, "the link was closed")); }

void Borrower::submit(std::shared_ptr<Job> job) {
  const bool posted = impl_->context.loop.post([impl = impl_, job] { impl->submit(job); });
  if (!posted) job->end(Status(Code::kClosed, "the engine was closed"));
}

void Borrower::heed_stops() {
  impl_->context.loop.post([impl = impl_] { impl->heed_stops(); });
}

void Borrower::close(const Status& why) {
  impl_->context.loop.post([impl = impl_, why] { impl->close(why); });
}

void Borrower::forget(std::uint32_t segment) { impl_->mappings->forget(segment); }

}  // namespace ray_hixl::transport::staged
