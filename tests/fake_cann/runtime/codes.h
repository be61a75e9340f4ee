// The return codes and enum values that the fake uses. Facts of the C interface.
#pragma once

namespace fake_cann {

enum Code : int {
  kOk = 0,
  kRepeatedInit = 100002,
  kBadParameter = 107000,
  kBadDevice = 107001,
  kNoContext = 107002,
  kBadStream = 107003,
  kUnsupported = 207000,
  kOutOfMemory = 207001,
  kOperatorFailed = 500001,
  kStreamTimeout = 507046,
  kHostAlreadyRegistered = 507910,
  kHostNotRegistered = 507911,
  kBadOperand = 161001,
  kNoSuchCast = 161002,
};

enum CopyKind : int {
  kHostToHost = 0,
  kHostToDevice = 1,
  kDeviceToHost = 2,
  kDeviceToDevice = 3,
  kByPointers = 4,
  kHostBufferToDevice = 5,
  kInnerDevice = 6,
  kInterDevice = 7,
};

enum MallocPolicy : int { kHugeFirst = 0, kHugeOnly = 1, kNormalOnly = 2 };

enum PointerLocation : unsigned { kHostPinned = 0, kDevice = 1, kUnregistered = 2 };

}  // namespace fake_cann
