// What a client and a listener say to each other at Connect: one message there, one back, and nothing afterwards. Peers run the same fake.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "hixl/endpoints.h"
#include "hixl/regions.h"

namespace fake_hixl {

struct Hello {
  Kind kind = Kind::kHixlEngine;
  std::string client;  // its local_engine
  std::string server;  // what it calls the peer
  std::string nic_ip;
};

struct Welcome {
  Status status = hixl::kSuccess;
  std::string why;
  int pid = 0;
  int keys_fd = -1;
  std::string nic_ip;
  Endpoints endpoints;
  std::map<int, int> heaps;  // descriptors, by device
  std::vector<Region> regions;
};

[[nodiscard]] std::string encode(const Hello& hello);
[[nodiscard]] std::string encode(const Welcome& welcome);
[[nodiscard]] std::optional<Hello> decode_hello(const std::string& body);
[[nodiscard]] std::optional<Welcome> decode_welcome(const std::string& body);

}  // namespace fake_hixl
