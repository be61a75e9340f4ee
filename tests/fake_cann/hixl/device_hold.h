// What a HixlEngine holds of its device from Initialize to Finalize: the slots, which it shares, and memory for a flag of its own.
#pragma once

#include <memory>

#include "hixl/errors.h"
#include "hixl/huge_block.h"

namespace fake_hixl {

class DeviceHold {
 public:
  [[nodiscard]] static Status take(int device, long slots, std::unique_ptr<DeviceHold>& hold);
  ~DeviceHold();
  DeviceHold(const DeviceHold&) = delete;
  DeviceHold& operator=(const DeviceHold&) = delete;

 private:
  DeviceHold(int device, std::unique_ptr<HugeBlock> flag) : device_(device), flag_(std::move(flag)) {}
  const int device_;  // physical
  const std::unique_ptr<HugeBlock> flag_;
};

// An Initialize that cannot listen at its address gives nothing back: until the process ends.
void leave_behind(std::unique_ptr<DeviceHold> hold);

}  // namespace fake_hixl
