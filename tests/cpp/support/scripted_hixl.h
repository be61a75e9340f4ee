// ScriptedHixl: a HIXL library that answers as a test says, behind the same table of entries as a real one. It moves nothing. Any thread.
//
// One at a time, since entries are plain functions. Strings are those of the FAKE library, which is loaded for them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "transport/hixl/cann/hixl.h"

namespace ray_hixl::test {

class ScriptedHixl {
 public:
  using Code = transport::hixl::HixlCode;
  // A transfer that may write: the library took it, or failed in the middle of taking it, and nobody has seen its end. Handles come again,
  // as addresses do.
  struct Request {
    std::uint64_t id = 0;
    void* handle = nullptr;
    std::string peer;
    std::vector<transport::hixl::OpDesc> ops;
    std::optional<std::pair<Code, std::int32_t>> end;  // what a poll answers; nothing: it is waiting
  };

  // `batches`: is there a poll for all requests?
  explicit ScriptedHixl(bool batches = true);
  ~ScriptedHixl();
  ScriptedHixl(const ScriptedHixl&) = delete;
  ScriptedHixl& operator=(const ScriptedHixl&) = delete;

  [[nodiscard]] const transport::hixl::Api& api() const { return api_; }
  [[nodiscard]] const transport::hixl::Acl& acl() const { return acl_; }
  [[nodiscard]] std::unique_ptr<transport::hixl::Hixl> make_hixl() const;

  // What the next calls of an entry ("connect", "disconnect", "read", "register", "deregister", "poll_all") answer, in order; afterwards
  // ok.
  void answer(const std::string& entry, std::vector<Code> codes);
  // Calls of the entry ("disconnect"), or to one peer ("disconnect 1.2.3.4:5"), wait until let_go(), or until this object goes. Then no
  // thread may call any more. "disconnected": at the end of a disconnect, when its requests are forgotten.
  void hold(const std::string& entry);
  void let_go(const std::string& entry);

  // Calls so far but polls: "connect 1.2.3.4:5", "read 1.2.3.4:5 12" (the number of ops), "register", "deregister", ...
  [[nodiscard]] std::vector<std::string> calls();
  [[nodiscard]] std::vector<std::string> take_calls();          // and forgets them
  [[nodiscard]] std::uint64_t count(const std::string& entry);  // "poll", "poll_all" and the others
  [[nodiscard]] std::vector<Request> requests();
  // The end that the next poll tells; for tests without polls it is seen at once.
  void end(std::uint64_t id, std::int32_t status, Code code = transport::hixl::kHixlOk);
  void end_seen(std::uint64_t id);
  // Has the first `most` of the requests that have no end yet completed, all at once.
  void complete(std::size_t most = SIZE_MAX);

 private:
  friend struct ScriptedEntries;
  Code call(const std::string& entry, const std::string& logged);
  [[nodiscard]] void* free_handle() const;
  [[nodiscard]] std::map<std::uint64_t, Request>::iterator find(void* handle);

  transport::hixl::Api api_;
  transport::hixl::Acl acl_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::deque<Code>> answers_;  // guarded by mutex_, as below
  std::set<std::string> held_;
  std::map<std::string, std::uint64_t> counts_;
  std::vector<std::string> calls_;
  std::map<std::uint64_t, Request> requests_;
  int inside_ = 0;  // calls that wait or were let go
  bool ending_ = false;
};

}  // namespace ray_hixl::test
