// Serving: the owner's half: a sender for each data connection.
#pragma once

#include <list>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "transport/stream/carrier.h"
#include "transport/stream/checked_copy.h"
#include "transport/stream/sender.h"
#include "transport/transport.h"

namespace ray_hixl::transport::stream {

// Loop thread only.
class Serving {
 public:
  Serving(const Context& context, Carrier carrier);

  // See Transport::accept().
  void accept(Fd connection, const std::vector<std::byte>& received);

 private:
  struct Senders {
    CheckedCopy copy;  // has descriptors while there are senders
    std::list<std::unique_ptr<Sender>> all;
  };
  const Context& context_;
  const Carrier carrier_;
  const std::shared_ptr<Senders> senders_ = std::make_shared<Senders>();
};

}  // namespace ray_hixl::transport::stream
