// An engine's listener and its inbound links, in a thread of its own.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "hixl/sockets.h"
#include "hixl/wire.h"

namespace fake_hixl {

class Listener {
 public:
  // Answers a client; called in the listener's thread with the number of inbound links that there are.
  using Greeter = std::function<Welcome(const Hello&, std::size_t)>;

  // `names_are_identities`: a client that comes again by the same name replaces its earlier link.
  Listener(Fd fd, bool names_are_identities, Greeter greeter);
  // Every inbound link breaks.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] std::size_t links() const { return links_; }

 private:
  struct Client {
    Fd fd;
    std::string arrived;
    std::string name;
    bool is_linked = false;
  };

  void run();
  void accept_all();
  // False when the client is to be forgotten.
  bool serve(Client& client);
  bool greet(Client& client, const std::string& body);
  void count_links();

  const Fd fd_;
  const bool names_are_identities_;
  const Greeter greeter_;
  Fd stop_read_;
  Fd stop_write_;
  std::vector<std::unique_ptr<Client>> clients_;  // the thread's own
  std::atomic<std::size_t> links_{0};
  std::thread thread_;
};

}  // namespace fake_hixl
