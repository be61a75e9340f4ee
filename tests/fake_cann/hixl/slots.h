// max_active_channels: a device's slots, which the links of the process share while they have requests. Each has a stream and a notify. The
// order in which they go round and are aborted is HIXL's own, 9.1 to 9.2, and so is what goes wrong with it. Any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "hixl/errors.h"
#include "hixl/notify.h"

namespace fake_hixl {

// A slot's stream, of which only this is modelled.
struct SlotStream {
  std::atomic<bool> is_aborted{false};
};

// A slot as it was when a link took it. An abort gives the slot another stream; its notify stays.
class Lease {
 public:
  Lease(int device, std::size_t index, std::shared_ptr<Notify> notify, std::shared_ptr<const SlotStream> stream)
      : device_(device), index_(index), notify_(std::move(notify)), stream_(std::move(stream)) {}

  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] Notify& notify() const { return *notify_; }
  // The stream is gone: what waited on it waits for ever, and nothing can be launched.
  [[nodiscard]] bool is_aborted() const { return stream_->is_aborted; }

 private:
  const int device_;  // physical
  const std::size_t index_;
  const std::shared_ptr<Notify> notify_;
  const std::shared_ptr<const SlotStream> stream_;
};

// An engine comes: the slots are made for the first one on the device, and another number is a bad parameter while any lives.
[[nodiscard]] Status attach_slots(int device, long count);
// The slots of a device go with its last engine.
void detach_slots(int device);

// Null if all are taken. The one that has been free for longest.
[[nodiscard]] std::shared_ptr<const Lease> take_slot(int device);
// The slot of that number is free, whoever has it by now.
void give_slot_back(const Lease& lease);
// The stream of the slot of that number is aborted, its notify is reset, its thread is freed, and it is free: whoever has it by now. If
// nobody has it, nothing happens.
void abort_slot(const Lease& lease);

}  // namespace fake_hixl
