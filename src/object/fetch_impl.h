// FetchImpl: what the copies of a Fetch share: the metadata, the transfer, and the tensors' memory until it is taken.
//
// Written by the thread that starts the fetch, before anybody else has it; afterwards `tensors` belongs to the first take() or, once the
// fetch failed, to let_tensors_go(). Without a lock, which another thread might hold for ever in a forked child.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "ray_hixl/objects.h"

namespace ray_hixl {

class FetchImpl {
 public:
  FetchImpl(Metadata described, std::shared_ptr<transport::TransferState> state)
      : metadata(std::move(described)), transfer(std::move(state)) {}

  // The fetch failed: nobody will take them.
  void let_tensors_go() {
    if (!taken.exchange(true)) tensors = nullptr;
  }

  const Metadata metadata;
  const Transfer transfer;
  std::shared_ptr<std::vector<FetchedTensor>> tensors;  // not for the loop to let go
  std::atomic<bool> taken{false};
};

}  // namespace ray_hixl
