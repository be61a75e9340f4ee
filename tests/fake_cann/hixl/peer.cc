#include "hixl/peer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <mutex>

#include "runtime/fake_cann.h"

namespace fake_hixl {
namespace {

Fd open_of(int pid, int fd, int flags) {
  return Fd(::open(("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd)).c_str(), flags | O_CLOEXEC));
}

// System calls without their wrappers, which sanitizers look into: what a NIC writes is not the work of a thread.
bool move_in_heap(hixl::TransferOp op, int fd, std::byte* here, std::size_t offset, std::size_t length) {
  while (length > 0) {
    const long count = ::syscall(op == hixl::kRead ? SYS_pread64 : SYS_pwrite64, fd, here, length, offset);
    if (count <= 0) return false;
    here += count;
    offset += static_cast<std::size_t>(count);
    length -= static_cast<std::size_t>(count);
  }
  return true;
}

bool move_in_host(hixl::TransferOp op, int pid, std::byte* here, std::uintptr_t address, std::size_t length) {
  while (length > 0) {
    const iovec local{here, length};
    const iovec remote{reinterpret_cast<void*>(address), length};
    const long count = ::syscall(op == hixl::kRead ? SYS_process_vm_readv : SYS_process_vm_writev, pid, &local, 1UL, &remote, 1UL, 0UL);
    if (count <= 0) return false;
    here += count;
    address += static_cast<std::uintptr_t>(count);
    length -= static_cast<std::size_t>(count);
  }
  return true;
}

// This process's device heaps, mapped for good.
struct OwnHeaps {
  std::mutex mutex;
  std::map<int, std::byte*> views;  // guarded by mutex
};

std::byte* own_heap(int device) {
  static OwnHeaps& heaps = *new OwnHeaps;
  const std::lock_guard lock(heaps.mutex);
  std::byte*& view = heaps.views[device];
  struct stat heap = {};
  if (view != nullptr || ::fstat(fake_cann_heap_fd(device), &heap) != 0) return view;
  const auto size = static_cast<std::size_t>(heap.st_size);
  void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fake_cann_heap_fd(device), 0);
  if (mapped == MAP_FAILED) return nullptr;
  ::madvise(mapped, size, MADV_DONTFORK);
  return view = static_cast<std::byte*>(mapped);
}

}  // namespace

std::unique_ptr<Peer> Peer::open(Fd socket, const Welcome& welcome) {
  std::unique_ptr<Peer> peer(new Peer);
  peer->socket_ = std::move(socket);
  peer->pid_ = welcome.pid;
  const Fd keys = open_of(welcome.pid, welcome.keys_fd, O_RDONLY);
  if (keys.is_open()) peer->keys_ = KeyTable::map(keys.get(), false);
  if (peer->keys_ == nullptr) return nullptr;
  for (const auto& [device, fd] : welcome.heaps) {
    if (!(peer->heaps_[device] = open_of(welcome.pid, fd, O_RDWR)).is_open()) return nullptr;
  }
  return peer;
}

void Peer::hang_up() const { ::shutdown(socket_.get(), SHUT_RDWR); }

bool Peer::move(hixl::TransferOp op, std::byte* here, const Region& region, std::size_t inside, std::size_t length) const {
  if (region.device < 0) return move_in_host(op, pid_, here, region.address + inside, length);
  const auto heap = heaps_.find(region.device);
  return heap != heaps_.end() && move_in_heap(op, heap->second.get(), here, region.offset + inside, length);
}

std::byte* own_bytes(const Region& region, std::size_t inside) {
  if (region.device < 0) return reinterpret_cast<std::byte*>(region.address) + inside;
  std::byte* const heap = own_heap(region.device);
  return heap == nullptr ? nullptr : heap + region.offset + inside;
}

}  // namespace fake_hixl
