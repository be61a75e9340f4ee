// Server: the owner's side. Listens, authenticates, and answers the sessions of other engines' links.
#pragma once

#include <memory>
#include <vector>

#include "control/auth.h"
#include "control/descriptor.h"
#include "ray_hixl/status.h"
#include "transport/transport.h"

namespace ray_hixl::link {

class Server {
 public:
  // Listens on options.host (TCP) and on a random abstract Unix name, and starts to accept: see greeter.h.
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(const transport::Context& context, const control::Key& key,
                                                              const std::vector<std::unique_ptr<transport::Transport>>& transports);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // How others reach this engine.
  [[nodiscard]] const control::EngineDescriptor& descriptor() const;
  // Tells every session to let go of a source segment. Any thread.
  void segment_retired(std::uint32_t id);
  // Stops listening, closes every session. Any thread but the loop's: waits until the loop let go of them.
  void close();

 private:
  struct Impl;
  explicit Server(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace ray_hixl::link
