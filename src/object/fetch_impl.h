// FetchImpl: what the copies of a Fetch share: the metadata, the transfer, and the tensors' memory until it is taken.
//
// Written by the thread that starts the fetch, before anybody else has it; afterwards only `tensors` changes, under the mutex.
#pragma once

#include <vector>

#include "base/mutex.h"
#include "ray_hixl/objects.h"

namespace ray_hixl {

class FetchImpl {
 public:
  FetchImpl(Metadata described, std::shared_ptr<transport::TransferState> state)
      : metadata(std::move(described)), transfer(std::move(state)) {}

  // The fetch failed: nobody will take them.
  void let_tensors_go() {
    std::vector<FetchedTensor> dropped;  // after the lock
    const MutexLock lock(mutex);
    dropped.swap(tensors);
  }

  const Metadata metadata;
  const Transfer transfer;
  Mutex mutex;
  std::vector<FetchedTensor> tensors RAY_HIXL_GUARDED_BY(mutex);  // moved out by take(), or let go
  bool taken RAY_HIXL_GUARDED_BY(mutex) = false;
};

}  // namespace ray_hixl
