// engine_peer <transports> [<option>=<value>]...: an engine that obeys one command a line on stdin and answers one line each. See
// peer_process.h.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "engine/engine_impl.h"
#include "ray_hixl/ray_hixl.h"
#include "support/device_memory.h"
#include "support/pattern.h"
#include "support/regions.h"
#include "transport/hixl/npu.h"

namespace {

using namespace ray_hixl;
using Arguments = std::istringstream;
constexpr std::int32_t kDevice = 1;

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
  // The engine's devices are all of hixl.
  transport::hixl::Npu& npu() { return static_cast<transport::hixl::Npu&>(*engine_.impl()->devices().find(kDevice)); }

  std::string add_region(Arguments& in) {
    const auto bytes = next<std::uint64_t>(in);
    const auto seed = next<std::uint64_t>(in);
    regions_.push_back(test::make_region(engine_, bytes, seed, static_cast<test::SourceMemory>(next<int>(in)), kDevice));
    // What the pattern's writes come before is told by messages through another process. ThreadSanitizer sees them only where the table of
    // slots is used once more.
    [[maybe_unused]] const Result<Region> after = engine_.register_memory({}, false, nullptr);
    return to_hex(regions_.back().descriptor());
  }

  using Owners = std::vector<std::shared_ptr<const void>>;

  // Memory for tensors of these sizes; `owners` keeps it.
  std::vector<MemoryRange> tensor_memory(test::SourceMemory memory, const std::vector<std::uint64_t>& sizes, Owners& owners) {
    std::vector<MemoryRange> ranges;
    if (memory == test::SourceMemory::kDevice) {  // one allocation, as torch would have it
      constexpr std::uint64_t kStep = 512;
      std::uint64_t bytes = 1;
      for (const std::uint64_t size : sizes) bytes += (size + kStep - 1) / kStep * kStep;
      test::DeviceMemory own = test::device_memory(bytes, kDevice);
      owners.push_back(std::move(own.owner));
      for (const std::uint64_t size : sizes) {
        ranges.push_back({own.range.address, size, MemoryKind::kDevice, kDevice});
        own.range.address += (size + kStep - 1) / kStep * kStep;
      }
      return ranges;
    }
    for (const std::uint64_t size : sizes) {
      if (memory == test::SourceMemory::kOrdinary) {
        const auto bytes = std::make_shared<Bytes>(size);
        owners.push_back(bytes);
        ranges.push_back({bytes->data(), size});
      } else {
        const bool on_device = memory == test::SourceMemory::kSlab;
        const Region region = engine_.allocate(size, on_device ? MemoryKind::kDevice : MemoryKind::kHost, on_device ? kDevice : 0).value();
        owners.push_back(std::make_shared<const Region>(region));
        ranges.push_back(region.range());
      }
    }
    return ranges;
  }

  std::string publish(Arguments& in) {
    const auto memory = static_cast<test::SourceMemory>(next<int>(in));
    const auto seed = next<std::uint64_t>(in);
    std::vector<std::uint64_t> sizes;
    for (std::uint64_t size = 0; in >> size;) sizes.push_back(size);
    auto owners = std::make_shared<Owners>();
    const std::vector<MemoryRange> ranges = tensor_memory(memory, sizes, *owners);
    std::vector<Layout> layouts;
    std::vector<SourceTensor> tensors;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      test::fill(ranges[i], seed + i);
      if (layouts.empty() || layouts.back().shape[0] != sizes[i]) layouts.push_back({"uint8", 1, {sizes[i]}});
      tensors.push_back({ranges[i], static_cast<std::uint32_t>(layouts.size() - 1)});
    }
    return to_hex(objects_.publish(layouts, tensors, owners));
  }

  std::string fetch(Arguments& in) {
    const auto seed = next<std::uint64_t>(in);
    const Fetch fetch = objects_.fetch(from_hex(next<std::string>(in)), {}, nullptr, std::chrono::seconds(20));
    (void)fetch.transfer().wait();
    const auto tensors = fetch.take();
    if (!tensors.is_ok()) return tensors.status().to_string();
    for (std::size_t i = 0; i < tensors->size(); ++i) {
      const FetchedTensor& tensor = (*tensors)[i];
      if (!test::holds_pattern(MemoryRange{tensor.address, tensor.length, tensor.kind, tensor.device}, seed + i)) return "wrong bytes";
    }
    return "ok";
  }

  std::string stat(Arguments& in) {
    const Stats stats = engine_.stats();
    const auto used = std::ranges::find(stats.devices, kDevice, &DeviceStats::device);
    const DeviceStats device = used == stats.devices.end() ? DeviceStats{} : *used;
    const std::map<std::string, std::uint64_t> fields = {
        {"regions", stats.regions},    {"objects", stats.objects},
        {"resolved", stats.resolved},  {"served_bytes", stats.served_bytes},
        {"sessions", stats.sessions},  {"links", stats.links},
        {"connects", device.connects}, {"refreshes", device.refreshes},
        {"retries", device.retries},   {"broken", device.links_broken + device.connects_failed}};
    return std::to_string(fields.at(next<std::string>(in)));
  }

  std::string set_fake(Arguments& in) {
    const auto name = next<std::string>(in);
    const auto value = next<std::string>(in);
    test::set_fake_hixl(name.c_str(), value.c_str());
    return "ok";
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
      {"close_region", [](EnginePeer& self, Arguments& in) { return self.close_region(in); }},
      {"publish", [](EnginePeer& self, Arguments& in) { return self.publish(in); }},
      {"release", [](EnginePeer& self, Arguments& in) { return self.objects_.release(from_hex(next<std::string>(in))) ? "1" : "0"; }},
      {"fetch", [](EnginePeer& self, Arguments& in) { return self.fetch(in); }},
      {"reserve", [](EnginePeer& self, Arguments& in) { return self.engine_.reserve(kDevice, next<std::uint64_t>(in)).to_string(); }},
      {"hixl_name", [](EnginePeer& self, Arguments&) { return self.npu().engine_name(); }},
      {"set_fake", [](EnginePeer& self, Arguments& in) { return self.set_fake(in); }},
      {"fake_count", [](EnginePeer&, Arguments& in) { return std::to_string(test::fake_count(next<std::string>(in))); }},
      {"stat", [](EnginePeer& self, Arguments& in) { return self.stat(in); }},
      {"close_engine", [](EnginePeer& self, Arguments&) { return self.close_engine(); }},
  };
};

}  // namespace

int main(int count, char** arguments) {
  test::use_test_cann();
  Options options;
  if (const Status status = set_option(options, "transports", arguments[1]); !status.is_ok()) return 1;
  for (int i = 2; i < count; ++i) {
    const std::string given = arguments[i];
    const std::size_t equals = given.find('=');
    if (const Status status = set_option(options, given.substr(0, equals), given.substr(equals + 1)); !status.is_ok()) return 1;
  }
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
