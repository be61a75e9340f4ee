#include "transport/stream/serving.h"

#include <utility>

#include "net/socket.h"

namespace ray_hixl::transport::stream {

Serving::Serving(const Context& context, Carrier carrier) : context_(context), carrier_(std::move(carrier)) {}

void Serving::accept(Fd connection, const std::vector<std::byte>& received) {
  if (!net::is_unix(connection)) (void)net::set_dead_peer_timeout(connection, context_.options.stall_timeout_s);
  Senders& senders = *senders_;
  if (senders.all.empty()) (void)senders.copy.open();
  senders.all.emplace_front();
  const auto place = senders.all.begin();
  const auto ended = [weak = std::weak_ptr(senders_), place] {
    const auto still = weak.lock();
    if (!still) return;
    still->all.erase(place);
    if (still->all.empty()) still->copy.close();
  };
  *place = std::make_unique<Sender>(context_, carrier_, senders.copy, std::move(connection), received, ended);
  (*place)->start();
}

}  // namespace ray_hixl::transport::stream
