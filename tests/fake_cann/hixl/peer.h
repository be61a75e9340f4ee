// A peer as a link's client side sees it: its memory, and whether it still lives.
#pragma once

#include <map>
#include <memory>

#include "hixl/sockets.h"
#include "hixl/wire.h"

namespace fake_hixl {

class Peer {
 public:
  // Opens what the peer offered; null if its process does not let us. Takes the socket over.
  [[nodiscard]] static std::unique_ptr<Peer> open(Fd socket, const Welcome& welcome);

  // False when its process ended or its engine was finalised.
  [[nodiscard]] bool is_there() const { return !is_hung_up(socket_.get()); }
  // Breaks the link.
  void hang_up() const;
  [[nodiscard]] bool is_registered(const Region& region) const { return keys_->is_valid(region.key); }
  // Moves bytes between here and `inside` of a region. False if the memory cannot be reached.
  [[nodiscard]] bool move(hixl::TransferOp op, std::byte* here, const Region& region, std::size_t inside, std::size_t length) const;

 private:
  Peer() = default;
  Fd socket_;
  int pid_ = 0;
  std::unique_ptr<KeyTable> keys_;
  std::map<int, Fd> heaps_;  // by device
};

// Where bytes of this process's own region are; null if they cannot be reached.
[[nodiscard]] std::byte* own_bytes(const Region& region, std::size_t inside);

}  // namespace fake_hixl
