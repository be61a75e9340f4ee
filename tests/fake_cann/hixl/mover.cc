#include "hixl/mover.h"

#include <algorithm>
#include <chrono>

#include "hixl/counters.h"

namespace fake_hixl {
namespace {

constexpr std::size_t kChunk = std::size_t{4} << 20;

bool is_registered(const Path& path, const Move& move) {
  return own_keys().is_valid(move.local->key) && path.peer->is_registered(*move.remote);
}

// Valid keys before and after: what was freed meanwhile was no longer the region.
bool move_chunk(const Path& path, hixl::TransferOp op, const Move& move, std::size_t done, std::size_t length) {
  if (!is_registered(path, move)) return false;
  std::byte* const here = own_bytes(*move.local, move.local_inside + done);
  const auto start = std::chrono::steady_clock::now();
  if (here == nullptr || !path.peer->move(op, here, *move.remote, move.remote_inside + done, length)) return false;
  count_bytes(length, std::chrono::steady_clock::now() - start);
  return is_registered(path, move);
}

}  // namespace

Moved move(const Path& path, const Request& request, std::size_t most, const std::function<bool()>& is_stopped) {
  std::size_t unchecked = kChunk;  // bytes since the peer was last looked at
  for (const Move& move : request.moves()) {
    for (std::size_t done = 0; done < move.length;) {
      const std::size_t length = std::min({kChunk, move.length - done, most});
      if (length == 0) return Moved::kAll;
      if (is_stopped()) return Moved::kStopped;
      if (unchecked >= kChunk && !path.peer->is_there()) return Moved::kPeerGone;
      unchecked = unchecked >= kChunk ? length : unchecked + length;
      if (!move_chunk(path, request.op(), move, done, length)) return path.peer->is_there() ? Moved::kUnregistered : Moved::kPeerGone;
      done += length;
      most -= length;
    }
    if (move.ends_descriptor) count_op();
  }
  return Moved::kAll;
}

void move_late(const Path& path, const Request& request) {
  for (const Move& move : request.moves()) (void)move_chunk(path, request.op(), move, 0, move.length);
}

std::size_t size_of(const Request& request) {
  std::size_t size = 0;
  for (const Move& move : request.moves()) size += move.length;
  return size;
}

void garble(const Path& path, const Request& request) {
  if (request.moves().empty()) return;
  const Move& move = request.moves().front();
  const std::size_t middle = move.length / 2;
  if (request.op() == hixl::kRead) {
    std::byte* const byte = own_bytes(*move.local, move.local_inside + middle);
    *byte = ~*byte;
    return;
  }
  std::byte byte{};
  (void)path.peer->move(hixl::kRead, &byte, *move.remote, move.remote_inside + middle, 1);
  byte = ~byte;
  (void)path.peer->move(hixl::kWrite, &byte, *move.remote, move.remote_inside + middle, 1);
}

}  // namespace fake_hixl
