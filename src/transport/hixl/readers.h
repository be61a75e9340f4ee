// Readers: whose links may lead to the HIXL engines of this process, as their sessions tell, and how they are asked to take them down.
//
// While anybody may be linked, no memory can be taken out, and the engine cannot be replaced under him: his requests would fail. A reader
// that was given a description of an engine awaits its recall; recalled, it lets what it reads finish, takes its link down and says so. Who
// asks for a description meanwhile gets it afterwards. Loop thread, but for recall() and reopen().
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "net/loop.h"
#include "transport/hixl/npus.h"
#include "transport/responder.h"

namespace ray_hixl::transport::hixl {

class Readers : public std::enable_shared_from_this<Readers> {
 public:
  // Both outlive it.
  Readers(net::Loop& loop, const Npus& npus) : loop_(loop), npus_(npus) {}

  // The reader may be linked from here on.
  void describe(std::int32_t device, Responder responder);
  void await_recall(std::int32_t device, const std::string& engine, Responder responder);
  void release(std::int32_t device, const std::string& engine, Responder responder);
  // HIXL refuses to link the reader. Where no reader says otherwise the engine may be why, and is replaced.
  void cannot_link(std::int32_t device, const std::string& engine, Responder responder);
  void session_ended(const ReaderView& reader);
  // Lets go of everybody.
  void shut_down();

  // Asks all readers of a device to take their links down, or none where one cannot be asked and not `anyway`. `then` runs, on the loop
  // thread, with true once they have, else with false at the deadline or at once; nobody is told of the device until reopen(). Any thread.
  using Then = std::function<void(bool all)>;
  void recall(std::int32_t device, bool anyway, Deadline deadline, Then then);
  void reopen(std::int32_t device);

 private:
  struct Holder {
    std::optional<Responder> awaits;  // a recall
    bool is_refused = false;          // by this engine
  };
  struct Device {
    std::map<const ReaderView*, Holder> holders;
    std::list<Responder> waiting;  // for a description
    bool recalling = false;
    std::vector<Then> then;
    net::Loop::TimerId timer = 0;
  };

  [[nodiscard]] static bool is_refused_to_all(Device& device, const ReaderView& reader);
  void begin_recall(std::int32_t index, bool anyway, Deadline deadline, Then then);
  void let_go(std::int32_t index, const ReaderView& reader);
  void end_wait(Device& device);

  net::Loop& loop_;
  const Npus& npus_;
  std::map<std::int32_t, Device> devices_;
};

}  // namespace ray_hixl::transport::hixl
