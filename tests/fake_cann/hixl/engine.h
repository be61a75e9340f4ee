// An engine: its name and listener, its registered memory, its links and their requests. Any thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hixl/connect_pool.h"
#include "hixl/device_hold.h"
#include "hixl/link.h"
#include "hixl/listener.h"
#include "hixl/nic.h"
#include "hixl/options.h"
#include "hixl/request_table.h"

namespace fake_hixl {

class Engine {
 public:
  // In a thread that has a context.
  [[nodiscard]] static Status create(const std::string& name, const OptionMap& given, std::shared_ptr<Engine>& engine);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  // The connect pool goes first, then the listener, then the links.
  void finalize();

  [[nodiscard]] Status add_region(const hixl::MemDesc& memory, hixl::MemType kind, hixl::MemHandle& handle);
  [[nodiscard]] Status remove_region(hixl::MemHandle handle);

  [[nodiscard]] Status connect(const std::string& remote, int timeout_ms);
  [[nodiscard]] Status disconnect(const std::string& remote);
  [[nodiscard]] ConnectPool& connect_pool() { return *connect_pool_; }

  [[nodiscard]] Status transfer(const std::string& remote, hixl::TransferOp op, const std::vector<hixl::TransferOpDesc>& descriptors,
                                int timeout_ms);
  [[nodiscard]] Status start(const std::string& remote, hixl::TransferOp op, const std::vector<hixl::TransferOpDesc>& descriptors,
                             void* user_data, hixl::TransferReq& handle);
  [[nodiscard]] Status poll(hixl::TransferReq handle, hixl::TransferStatus& status);
  [[nodiscard]] Status poll_all(const hixl::GetTransferStatusArgs& args, std::vector<hixl::TransferResult>& results);

  // For the counters, and for memory that is freed.
  [[nodiscard]] std::size_t links();
  [[nodiscard]] std::size_t inbound_links() const { return listener_ == nullptr ? 0 : listener_->links(); }
  [[nodiscard]] RegionTable& regions() { return regions_; }

 private:
  Engine(Self self, const Options& options, std::unique_ptr<DeviceHold> hold, Nic nic);

  [[nodiscard]] Welcome greet(const Hello& hello, std::size_t inbound_links);
  void forget(const std::shared_ptr<Link>& link);
  [[nodiscard]] std::shared_ptr<Link> find(const std::string& remote);
  [[nodiscard]] Status close(const std::shared_ptr<Link>& link);
  [[nodiscard]] Status close(const std::string& remote);
  // Runs `use` with the link's mutex held. With AutoConnect connects before, and disconnects if it failed.
  [[nodiscard]] Status with_link(const std::string& remote, int timeout_ms, const std::function<Status(const std::shared_ptr<Link>&)>& use);
  [[nodiscard]] Status see_end(hixl::TransferReq handle, const RequestTable::Entry& entry, hixl::TransferStatus& status);

  const Self self_;
  const Options options_;
  std::unique_ptr<DeviceHold> hold_;  // until Finalize
  Nic nic_;                           // its listener is opened by the thread of listener_, where Initialize did not
  RegionTable regions_;
  RequestTable requests_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Link>> links_;  // guarded by mutex_; those that are being connected, too
  bool is_finalized_ = false;                           // guarded by mutex_
  std::unique_ptr<Listener> listener_;                  // these change only where nobody else may call
  std::unique_ptr<ConnectPool> connect_pool_;
};

}  // namespace fake_hixl
