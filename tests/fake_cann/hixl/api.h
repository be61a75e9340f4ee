// The C++ interface of libcann_hixl.so, declared from facts: names, numbers, layouts. The fake defines it; its tests call it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

// NOLINTBEGIN(readability-identifier-naming): the names are part of the interface.
namespace ge {

// A string behind a pointer, so that callers with the other ABI of std::string never look inside. ascend_string.cc is compiled with the old
// one, as CANN is.
class AscendString {
 public:
  AscendString() = default;
  AscendString(const char* text);
  [[nodiscard]] const char* GetString() const;
  [[nodiscard]] std::size_t GetLength() const;
  bool operator<(const AscendString& other) const;

 private:
  std::shared_ptr<std::string> text_;
};
static_assert(sizeof(AscendString) == 16);

}  // namespace ge

namespace hixl {

using ge::AscendString;
using Status = std::uint32_t;
using MemHandle = void*;
using TransferReq = void*;

inline constexpr Status kSuccess = 0;
inline constexpr Status kParamInvalid = 103900;
inline constexpr Status kTimeout = 103901;
inline constexpr Status kNotConnected = 103902;
inline constexpr Status kAlreadyConnected = 103903;
inline constexpr Status kNotifyFailed = 103904;
inline constexpr Status kUnsupported = 103905;
inline constexpr Status kResourceExhausted = 203900;
inline constexpr Status kFailed = 503900;

enum MemType : int { kMemDevice = 0, kMemHost = 1 };
enum TransferOp : int { kRead = 0, kWrite = 1 };  // remote to local, local to remote
enum class TransferStatus : int { WAITING = 0, COMPLETED = 1, TIMEOUT = 2, FAILED = 3 };
enum class FeatureType : int { kAutoConnect = 0, kClientServerComm = 1 };
enum class AsyncConnectStatus : int {
  kNotConnect = 0,
  kConnectPending = 1,
  kConnecting = 2,
  kConnected = 3,
  kConnectFailed = 4,
  kDisconnectPending = 5,
  kDisconnecting = 6,
};

struct MemDesc {
  std::uintptr_t addr = 0;
  std::size_t len = 0;
  std::uint8_t reserved[128] = {};
};
static_assert(sizeof(MemDesc) == 144);

struct TransferOpDesc {
  std::uintptr_t local_addr = 0;
  std::uintptr_t remote_addr = 0;
  std::size_t len = 0;
};
static_assert(sizeof(TransferOpDesc) == 24);

struct TransferArgs {
  void* user_data = nullptr;
  std::uint8_t reserved[120] = {};
};
static_assert(sizeof(TransferArgs) == 128);

struct GetTransferStatusArgs {
  std::uint32_t max_query_count = UINT32_MAX;
  bool skip_waiting = false;
  std::uint8_t reserved[123] = {};
};
static_assert(sizeof(GetTransferStatusArgs) == 128);

struct TransferResult {
  TransferReq req = nullptr;
  void* user_data = nullptr;
  TransferStatus status = TransferStatus::WAITING;
  std::uint8_t reserved[108] = {};
};
static_assert(sizeof(TransferResult) == 128);

struct NotifyDesc {
  AscendString name;
  AscendString notify_msg;
};
static_assert(sizeof(NotifyDesc) == 32);

// Where a caller finds the methods of an object; see hixl.cc.
struct Handle;

class Hixl {
 public:
  Hixl();
  ~Hixl();
  Hixl(const Hixl&) = delete;
  Hixl& operator=(const Hixl&) = delete;

  Status Initialize(const AscendString& local_engine, const std::map<AscendString, AscendString>& options);
  void Finalize();

  Status RegisterMem(const MemDesc& mem, MemType type, MemHandle& mem_handle);
  Status DeregisterMem(MemHandle mem_handle);

  Status Connect(const AscendString& remote_engine, std::int32_t timeout_in_millis = 1000);
  Status Disconnect(const AscendString& remote_engine, std::int32_t timeout_in_millis = 1000);

  Status TransferSync(const AscendString& remote_engine, TransferOp operation, const std::vector<TransferOpDesc>& op_descs,
                      std::int32_t timeout_in_millis = 1000);
  Status TransferAsync(const AscendString& remote_engine, TransferOp operation, const std::vector<TransferOpDesc>& op_descs,
                       const TransferArgs& optional_args, TransferReq& req);
  Status GetTransferStatus(const TransferReq& req, TransferStatus& status);

  Status SendNotify(const AscendString& remote_engine, const NotifyDesc& notify, std::int32_t timeout_in_millis = 1000);
  Status GetNotifies(std::vector<NotifyDesc>& notifies);

  // Since 9.1.
  static Status GetCapability(FeatureType feature, std::int32_t& value);
  Status ConnectAsync(const AscendString& remote_engine, std::int32_t timeout_in_millis = 1000);
  Status DisconnectAsync(const AscendString& remote_engine, std::int32_t timeout_in_millis = 1000);
  Status GetAsyncConnectStatus(const AscendString& remote_engine, AsyncConnectStatus& status);
  Status GetAsyncConnectStatus(std::map<AscendString, AsyncConnectStatus>& statuses);
  Status GetTransferStatus(const GetTransferStatusArgs& args, std::vector<TransferResult>& results);

 private:
  Handle* handle_;
};
static_assert(sizeof(Hixl) == 8);
static_assert(sizeof(MemType) == 4 && sizeof(TransferOp) == 4 && sizeof(TransferStatus) == 4 && sizeof(FeatureType) == 4 &&
              sizeof(AsyncConnectStatus) == 4);
static_assert(sizeof(std::map<AscendString, AscendString>) == 48);

}  // namespace hixl
// NOLINTEND(readability-identifier-naming)
