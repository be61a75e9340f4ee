// Registered memory of one engine, and what a link saw of it when it was connected.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "hixl/endpoints.h"
#include "hixl/keys.h"
#include "hixl/rules.h"

namespace fake_hixl {

inline constexpr std::size_t kMostRegions = 4096;  // of a peer, that a Connect takes

struct Region {
  std::uintptr_t address = 0;
  std::size_t length = 0;
  hixl::MemType kind = hixl::kMemDevice;
  int device = -1;         // physical; -1: memory of the host
  std::size_t offset = 0;  // in the device's heap
  Key key;
};

// The registered regions of an engine, or those of a peer, as a link knows them. Constant.
class Snapshot {
 public:
  explicit Snapshot(std::vector<Region> regions);

  // Bytes inside of one region.
  struct Piece {
    const Region* region = nullptr;
    std::size_t inside = 0;  // where they start in it
    std::size_t length = 0;
  };
  // What a range consists of: it may span regions that touch. Empty if a byte of it is not registered.
  [[nodiscard]] std::vector<Piece> find(std::uintptr_t address, std::size_t length) const;

 private:
  std::vector<Region> regions_;
  struct Part {
    std::uintptr_t end = 0;
    std::size_t region = 0;
  };
  std::map<std::uintptr_t, Part> parts_;  // by start; they do not overlap
};

// Any thread.
class RegionTable {
 public:
  RegionTable(const Rules& rules, Soc soc, int device, Endpoints endpoints)
      : rules_(rules), soc_(soc), device_(device), endpoints_(std::move(endpoints)) {}
  ~RegionTable();
  RegionTable(const RegionTable&) = delete;
  RegionTable& operator=(const RegionTable&) = delete;

  [[nodiscard]] Status add(const hixl::MemDesc& memory, hixl::MemType kind, hixl::MemHandle& handle);
  // A handle that is not known is passed over, as the real one does.
  void remove(hixl::MemHandle handle);
  [[nodiscard]] std::vector<Region> list();
  [[nodiscard]] std::size_t size();
  // Memory is freed: its regions are no longer reachable. True if there were any.
  [[nodiscard]] bool memory_goes(int device, std::size_t offset, std::size_t size);

 private:
  [[nodiscard]] Status locate(Region& region) const;

  const Rules rules_;
  const Soc soc_;
  const int device_;  // physical
  const Endpoints endpoints_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Region>> regions_;  // guarded by mutex_; handles are their addresses
};

}  // namespace fake_hixl
