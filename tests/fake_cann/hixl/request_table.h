// The requests that were not yet polled to their end, by the handles that callers have. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "hixl/link.h"

namespace fake_hixl {

class RequestTable {
 public:
  struct Entry {
    std::shared_ptr<Request> request;
    std::shared_ptr<Link> link;
    std::uint64_t number = 0;  // in the order in which they were started
    bool is_orphan = false;    // its link was disconnected, and that is remembered
  };

  // Handles are counted, or they are addresses: then the handle of an ended request is given to the next one.
  explicit RequestTable(bool counts) : counts_(counts) {}
  ~RequestTable();
  RequestTable(const RequestTable&) = delete;
  RequestTable& operator=(const RequestTable&) = delete;

  [[nodiscard]] hixl::TransferReq add(std::shared_ptr<Request> request, std::shared_ptr<Link> link);
  [[nodiscard]] std::optional<Entry> find(hixl::TransferReq handle);
  void remove(hixl::TransferReq handle);
  // The link was disconnected: its requests are forgotten, or remembered as orphans.
  void drop(const Link& link, bool remembers);
  // In the order in which they were started.
  [[nodiscard]] std::vector<hixl::TransferReq> handles();

 private:
  const bool counts_;
  std::mutex mutex_;
  std::map<hixl::TransferReq, Entry> entries_;  // guarded by mutex_, as below
  std::uint64_t last_number_ = 0;
};

}  // namespace fake_hixl
