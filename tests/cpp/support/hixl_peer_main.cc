// hixl_peer <device>: an engine of HIXL that obeys one command a line on stdin and answers one line each. For tests of HIXL's contract.
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "support/raw_hixl.h"

namespace {

using namespace ray_hixl;
using Arguments = std::istringstream;

template <class T>
T next(Arguments& in) {
  T value{};
  in >> value;
  return value;
}

class HixlPeer {
 public:
  explicit HixlPeer(std::int32_t device) : hixl_(device) {}
  [[nodiscard]] const std::string& failure() const { return hixl_.failure(); }

  std::string obey(const std::string& line) {
    Arguments in(line);
    const auto command = next<std::string>(in);
    if (command == "name") return hixl_.name();
    if (command == "allocate") return allocate(in);
    if (command == "register") return add(in);
    if (command == "deregister") return std::to_string(hixl_->deregister_memory(handles_.at(next<std::size_t>(in))).code);
    if (command == "connect") return std::to_string(hixl_->connect(transport::hixl::Text(next<std::string>(in)), 5000).code);
    if (command == "finalize") {
      hixl_->finalize();
      return "0";
    }
    return "unknown command";
  }

 private:
  std::string allocate(Arguments& in) {
    const auto bytes = next<std::uint64_t>(in);
    return std::to_string(reinterpret_cast<std::uintptr_t>(hixl_.allocate(bytes, next<std::uint64_t>(in)).address));
  }

  std::string add(Arguments& in) {
    const auto address = next<std::uintptr_t>(in);
    handles_.push_back(nullptr);
    return std::to_string(hixl_->register_device_memory(address, next<std::size_t>(in), handles_.back()).code);
  }

  test::RawHixl hixl_;
  std::vector<void*> handles_;
};

}  // namespace

int main(int, char** arguments) {
  test::use_test_cann();
  HixlPeer peer(std::stoi(arguments[1]));
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << (peer.failure().empty() ? peer.obey(line) : peer.failure()) << std::endl;
  }
  return 0;
}
