// engine_peer <transports>: an engine that obeys one command a line on stdin and answers one line each. See peer_process.h.
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "ray_hixl/ray_hixl.h"
#include "support/pattern.h"

namespace {

using namespace ray_hixl;
using Arguments = std::istringstream;

std::string to_hex(const Bytes& bytes) {
  std::string text;
  char digits[3];
  for (const std::byte byte : bytes) {
    std::snprintf(digits, sizeof(digits), "%02x", std::to_integer<unsigned>(byte));
    text += digits;
  }
  return text;
}

Bytes from_hex(const std::string& text) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

template <class T>
T next(Arguments& in) {
  T value{};
  in >> value;
  return value;
}

class EnginePeer {
 public:
  explicit EnginePeer(Engine engine) : engine_(std::move(engine)), objects_(Objects::create(engine_).value()) {}

  std::string obey(const std::string& line) {
    Arguments in(line);
    const auto command = next<std::string>(in);
    const auto found = commands_.find(command);
    return found == commands_.end() ? "unknown command" : found->second(*this, in);
  }

 private:
  std::string add_region(Arguments& in) {
    const auto bytes = next<std::uint64_t>(in);
    auto memory = std::make_shared<Bytes>(bytes);
    test::fill_pattern(*memory, next<std::uint64_t>(in));
    regions_.push_back(engine_.register_memory({memory->data(), bytes}, false, memory).value());
    return to_hex(regions_.back().descriptor());
  }

  std::string allocate_region(Arguments& in) {
    regions_.push_back(engine_.allocate(next<std::uint64_t>(in)).value());
    const MemoryRange range = regions_.back().range();
    test::fill_pattern({range.address, range.length}, next<std::uint64_t>(in));
    // What the pattern's writes come before is told by messages through another process. ThreadSanitizer sees them only where the table of
    // slots is used once more.
    [[maybe_unused]] const Result<Region> after = engine_.register_memory({}, false, nullptr);
    return to_hex(regions_.back().descriptor());
  }

  std::string publish(Arguments& in, bool in_arena) {
    auto seed = next<std::uint64_t>(in);
    std::vector<Layout> layouts;
    std::vector<SourceTensor> tensors;
    auto owner = std::make_shared<std::pair<std::vector<Bytes>, std::vector<Region>>>();
    for (std::uint64_t size = 0; in >> size; ++seed) {
      MemoryRange range;
      if (in_arena && size != 0) {
        range = owner->second.emplace_back(engine_.allocate(size).value()).range();
      } else {
        range = {owner->first.emplace_back(size).data(), size};
      }
      test::fill_pattern({range.address, range.length}, seed);
      if (layouts.empty() || layouts.back().shape[0] != size) layouts.push_back({"uint8", 1, {size}});
      tensors.push_back({range, static_cast<std::uint32_t>(layouts.size() - 1)});
    }
    return to_hex(objects_.publish(layouts, tensors, owner));
  }

  std::string fetch(Arguments& in) {
    const auto seed = next<std::uint64_t>(in);
    const Fetch fetch = objects_.fetch(from_hex(next<std::string>(in)), {}, nullptr, std::chrono::seconds(20));
    (void)fetch.transfer().wait();
    const auto tensors = fetch.take();
    if (!tensors.is_ok()) return tensors.status().to_string();
    for (std::size_t i = 0; i < tensors->size(); ++i) {
      if (!test::is_pattern({(*tensors)[i].address, (*tensors)[i].length}, seed + i)) return "wrong bytes";
    }
    return "ok";
  }

  std::string stat(Arguments& in) {
    const Stats stats = engine_.stats();
    const std::map<std::string, std::uint64_t> fields = {{"regions", stats.regions},
                                                         {"objects", stats.objects},
                                                         {"resolved", stats.resolved},
                                                         {"served_bytes", stats.served_bytes},
                                                         {"sessions", stats.sessions}};
    return std::to_string(fields.at(next<std::string>(in)));
  }

  std::string close_region(Arguments& in) {
    regions_.at(next<std::size_t>(in)).close();
    return "ok";
  }

  std::string close_engine() {
    engine_.close();
    return "ok";
  }

  Engine engine_;
  Objects objects_;
  std::vector<Region> regions_;
  const std::map<std::string, std::function<std::string(EnginePeer&, Arguments&)>> commands_ = {
      {"descriptor", [](EnginePeer& self, Arguments&) { return to_hex(self.engine_.descriptor()); }},
      {"add_region", [](EnginePeer& self, Arguments& in) { return self.add_region(in); }},
      {"allocate_region", [](EnginePeer& self, Arguments& in) { return self.allocate_region(in); }},
      {"close_region", [](EnginePeer& self, Arguments& in) { return self.close_region(in); }},
      {"publish", [](EnginePeer& self, Arguments& in) { return self.publish(in, false); }},
      {"publish_arena", [](EnginePeer& self, Arguments& in) { return self.publish(in, true); }},
      {"release", [](EnginePeer& self, Arguments& in) { return self.objects_.release(from_hex(next<std::string>(in))) ? "1" : "0"; }},
      {"fetch", [](EnginePeer& self, Arguments& in) { return self.fetch(in); }},
      {"stat", [](EnginePeer& self, Arguments& in) { return self.stat(in); }},
      {"close_engine", [](EnginePeer& self, Arguments&) { return self.close_engine(); }},
  };
};

}  // namespace

int main(int, char** arguments) {
  Options options;
  if (const Status status = set_option(options, "transports", arguments[1]); !status.is_ok()) return 1;
  Result<Engine> engine = Engine::create(options);
  if (!engine.is_ok()) {
    std::cerr << engine.status().to_string() << "\n";
    return 1;
  }
  EnginePeer peer(*engine);
  for (std::string line; std::getline(std::cin, line);) std::cout << peer.obey(line) << std::endl;
  engine->close();
  return 0;
}
