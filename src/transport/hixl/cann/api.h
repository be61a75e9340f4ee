// Api: the entries of libcann_hixl.so, and the plain types that they take. Own declarations of a C++ interface: member functions are called
// by their mangled names with the object first (the Itanium ABI of x86-64 and aarch64), so nothing of CANN is needed to build. The
// interface holds no std::string, so that the names and layouts are the same for both of libstdc++'s string ABIs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ray_hixl/status.h"
#include "transport/hixl/cann/codes.h"
#include "transport/hixl/cann/library.h"

namespace ray_hixl::transport::hixl {

struct MemDesc {
  std::uintptr_t address = 0;
  std::size_t length = 0;
  std::uint8_t reserved[128] = {};
};
struct OpDesc {
  std::uintptr_t local = 0;
  std::uintptr_t remote = 0;
  std::size_t length = 0;
};
struct TransferArgs {
  void* user_data = nullptr;
  std::uint8_t reserved[120] = {};
};
struct PollArgs {
  std::uint32_t max_query_count = UINT32_MAX;
  bool skip_waiting = false;
  std::uint8_t reserved[123] = {};
};
struct PollResult {
  void* request = nullptr;
  void* user_data = nullptr;
  std::int32_t status = 0;
  std::uint8_t reserved[108] = {};
};
static_assert(sizeof(MemDesc) == 144 && offsetof(MemDesc, length) == 8);
static_assert(sizeof(OpDesc) == 24 && offsetof(OpDesc, length) == 16);
static_assert(sizeof(TransferArgs) == 128);
static_assert(sizeof(PollArgs) == 128 && offsetof(PollArgs, skip_waiting) == 4);
static_assert(sizeof(PollResult) == 128 && offsetof(PollResult, user_data) == 8 && offsetof(PollResult, status) == 16);

inline constexpr std::int32_t kMemDevice = 0;
inline constexpr std::int32_t kMemHost = 1;
inline constexpr std::int32_t kOpRead = 0;  // from the peer's memory into ours
inline constexpr std::int32_t kWaiting = 0;
inline constexpr std::int32_t kCompleted = 1;
inline constexpr std::int32_t kTransferFailed = 3;
inline constexpr std::int32_t kFeatureClientServer = 1;

// ge::AscendString: one shared pointer to a string that only the library looks into. Filled by the library's constructor, so that the
// string has the library's ABI; copied and destroyed as a shared pointer.
class Text {
 public:
  // REQUIRES: Api::load() has succeeded in this process.
  explicit Text(const std::string& text);
  Text(const Text&) = default;
  Text& operator=(const Text&) = default;
  ~Text() = default;
  [[nodiscard]] const char* c_str() const;
  friend bool operator<(const Text& a, const Text& b);

 private:
  std::shared_ptr<const void> held_;
};
static_assert(sizeof(Text) == 16 && sizeof(std::map<Text, Text>) == 48 && sizeof(std::vector<OpDesc>) == 24);
inline constexpr std::string_view kUnknownVersion = "unknown";

using HixlOptions = std::map<Text, Text>;

struct Api {
  void (*construct)(void* self) = nullptr;
  void (*destroy)(void* self) = nullptr;
  HixlCode (*initialize)(void* self, const Text& name, const HixlOptions& options) = nullptr;
  void (*finalize)(void* self) = nullptr;
  HixlCode (*register_memory)(void* self, const MemDesc& memory, std::int32_t type, void*& handle) = nullptr;
  HixlCode (*deregister_memory)(void* self, void* handle) = nullptr;
  HixlCode (*connect)(void* self, const Text& peer, std::int32_t timeout_ms) = nullptr;
  HixlCode (*disconnect)(void* self, const Text& peer, std::int32_t timeout_ms) = nullptr;
  HixlCode (*transfer_async)(void* self, const Text& peer, std::int32_t op, const std::vector<OpDesc>& ops, const TransferArgs& args,
                             void*& request) = nullptr;
  HixlCode (*poll)(void* self, void* const& request, std::int32_t& status) = nullptr;

  // From CANN 9.1 on; null before.
  HixlCode (*poll_all)(void* self, const PollArgs& args, std::vector<PollResult>& results) = nullptr;
  HixlCode (*get_capability)(std::int32_t feature, std::int32_t& value) = nullptr;

  std::string path;     // of the library, for people
  std::string version;  // "9.1.0"; "unknown" where CANN does not say; FAKE for the tests' library

  // kNotAvailable names what is missing.
  [[nodiscard]] static Result<Api> load(const Places& places);
  // Does this library have the engine with strict regions and batched polls (HIXL's client-server mode)? Else its communicator engine, as
  // in CANN 8.5 and 9.0.
  [[nodiscard]] bool has_client_server() const;
};

}  // namespace ray_hixl::transport::hixl
