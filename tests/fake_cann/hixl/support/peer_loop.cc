// The other side of a PeerProcess.
#include <iostream>
#include <map>
#include <sstream>

#include "hixl/fake_hixl.h"
#include "hixl/support/memory.h"
#include "hixl/support/peer_process.h"
#include "runtime/acl.h"

namespace fake_hixl::test {
namespace {

class PeerLoop {
 public:
  std::string answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "open") return open(words);
    if (command == "allocate") return allocate(words);
    if (command == "finalize") engine_.Finalize();
    if (command == "inbound_links") return std::to_string(fake_hixl_inbound_links());
    if (command == "set") {
      std::string name;
      std::string value;
      words >> name >> value;
      fake_hixl_set(name.c_str(), value.c_str());
    }
    if (command == "connect" || command == "disconnect") {
      std::string remote;
      words >> remote;
      return std::to_string(command == "connect" ? engine_.Connect(remote.c_str(), 5000) : engine_.Disconnect(remote.c_str()));
    }
    if (command == "transfer") return transfer(words);
    return command == "finalize" || command == "set" ? "0" : of_memory(command, words);
  }

 private:
  std::string open(std::istringstream& words) {
    std::string name;
    TestOptions options;
    words >> name;
    for (std::string key; words >> key;) words >> options[key];
    hixl::Status status = hixl::kSuccess;
    if (name == "somewhere") {
      name = initialize_somewhere(engine_, options, status);
    } else {
      status = initialize(engine_, name, options);
    }
    return std::to_string(status) + " " + name;
  }

  std::string allocate(std::istringstream& words) {
    int kind = 0;
    std::size_t size = 0;
    unsigned seed = 0;
    words >> kind >> size >> seed;
    const std::size_t number = memory_.size();
    memory_.push_back(std::make_unique<Memory>(static_cast<hixl::MemType>(kind), size, seed));
    return std::to_string(number) + " " + std::to_string(memory_.back()->address());
  }

  std::string transfer(std::istringstream& words) {
    std::size_t number = 0;
    int op = 0;
    std::string remote;
    std::uintptr_t address = 0;
    words >> number >> op >> remote >> address;
    const Memory& memory = *memory_.at(number);
    return std::to_string(
        engine_.TransferSync(remote.c_str(), static_cast<hixl::TransferOp>(op), {{memory.address(), address, memory.size()}}, 5000));
  }

  std::string of_memory(const std::string& command, std::istringstream& words) {
    std::size_t number = 0;
    unsigned seed = 0;
    words >> number >> seed;
    Memory& memory = *memory_.at(number);
    if (command == "register") return std::to_string(engine_.RegisterMem(memory.desc(), memory.kind(), handles_[number]));
    if (command == "deregister") return std::to_string(engine_.DeregisterMem(handles_[number]));
    if (command == "free") memory.free();
    return command == "holds" && memory.holds(seed) ? "1" : "0";
  }

  std::vector<std::unique_ptr<Memory>> memory_;
  std::map<std::size_t, hixl::MemHandle> handles_;
  hixl::Hixl engine_;  // goes first
};

}  // namespace

int run_peer(int device) {
  if (aclrtSetDevice(device) != 0) return 1;
  PeerLoop loop;
  for (std::string line; std::getline(std::cin, line);) std::cout << loop.answer(line) << std::endl;
  return 0;
}

}  // namespace fake_hixl::test
