// Lender: the owner's half of staged for readers who map its source segments: what they ask for is copied into staging buffers, part by
// part, and lent to them until they have copied it out.
//
// A part is a slot of its own, and its reader looks at its generation after he has copied. So a buffer can be taken back whenever that is
// needed, by one store before anything else is written there, and nobody delivers what was not his: when he gives it back, when his session
// ends, and when he has kept it for half of stall_timeout_s while others lack buffers, whose patience is not over by then. Loop thread
// only.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "device/device.h"
#include "transport/transport.h"

namespace ray_hixl::transport::staged {

class Lender : public std::enable_shared_from_this<Lender> {
 public:
  static constexpr std::uint32_t kMostParts = 4;  // that one session has, or has asked for

  // `context` outlives what it answers.
  explicit Lender(const Context& context) : context_(context) {}

  // Answers once the first part of what is wanted was copied. What is given back is free before.
  void stage(const control::Stage& wanted, Responder responder);
  void session_ended(const ReaderView& reader);
  // Takes all parts back.
  void shut_down();

 private:
  struct Loan {
    Handle part;
    std::shared_ptr<device::Device> device;
    device::Staging::Buffer buffer;
    net::Loop::TimerId timer = 0;
  };
  struct Reader {
    std::size_t asked = 0;  // parts that are not his yet
    std::vector<Loan> loans;
    std::shared_ptr<std::atomic<bool>> has_gone = std::make_shared<std::atomic<bool>>(false);  // what is not copied yet looks at it
  };
  struct Coming;

  [[nodiscard]] Status begin(const control::Stage& wanted, const std::shared_ptr<Coming>& coming) const;
  static void copy(const std::shared_ptr<Coming>& coming);
  void copied(Coming& coming, const Status& status);
  [[nodiscard]] Status lend(Coming& coming, Reader& reader);
  [[nodiscard]] net::Loop::TimerId watch(const ReaderView* reader, const Handle& part);
  void kept_long(const ReaderView* reader, const Handle& part);
  void take_back(Reader& reader, const Handle& part);
  void end(const Loan& loan);

  const Context& context_;
  std::map<const ReaderView*, Reader> readers_;  // which their sessions, and answers that are to come, keep
};

}  // namespace ray_hixl::transport::staged
