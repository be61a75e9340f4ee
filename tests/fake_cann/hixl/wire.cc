#include "hixl/wire.h"

#include <cstdint>
#include <cstring>

namespace fake_hixl {
namespace {

constexpr std::uint64_t kHelloMagic = 0xFA4E0001;
constexpr std::uint64_t kWelcomeMagic = 0xFA4E0002;
constexpr std::size_t kNumber = sizeof(std::uint64_t);

class Packer {
 public:
  Packer& number(std::uint64_t value) {
    body_.append(reinterpret_cast<const char*>(&value), kNumber);
    return *this;
  }
  Packer& text(const std::string& value) {
    number(value.size());
    body_ += value;
    return *this;
  }
  [[nodiscard]] std::string body() const { return body_; }

 private:
  std::string body_;
};

class Unpacker {
 public:
  explicit Unpacker(const std::string& body) : body_(body) {}
  std::uint64_t number() {
    std::uint64_t value = 0;
    if (has(kNumber)) std::memcpy(&value, body_.data() + at_, kNumber);
    at_ += kNumber;
    return value;
  }
  std::string text() {
    const std::uint64_t size = number();
    if (!has(size)) return "";
    at_ += size;
    return body_.substr(at_ - size, size);
  }
  [[nodiscard]] bool is_whole() const { return good_ && at_ == body_.size(); }
  [[nodiscard]] bool is_good() const { return good_; }

 private:
  bool has(std::uint64_t size) {
    good_ = good_ && at_ <= body_.size() && size <= body_.size() - at_;
    return good_;
  }

  const std::string& body_;
  std::size_t at_ = 0;
  bool good_ = true;
};

}  // namespace

std::string encode(const Hello& hello) {
  return Packer()
      .number(kHelloMagic)
      .number(static_cast<std::uint64_t>(hello.kind))
      .text(hello.client)
      .text(hello.server)
      .text(hello.nic_ip)
      .body();
}

std::optional<Hello> decode_hello(const std::string& body) {
  Unpacker unpacker(body);
  if (unpacker.number() != kHelloMagic) return std::nullopt;
  Hello hello;
  hello.kind = static_cast<Kind>(unpacker.number());
  hello.client = unpacker.text();
  hello.server = unpacker.text();
  hello.nic_ip = unpacker.text();
  return unpacker.is_whole() ? std::optional(hello) : std::nullopt;
}

std::string encode(const Welcome& welcome) {
  Packer packer;
  packer.number(kWelcomeMagic).number(welcome.status).text(welcome.why);
  packer.number(static_cast<std::uint64_t>(welcome.pid)).number(static_cast<std::uint64_t>(welcome.keys_fd)).text(welcome.nic_ip);
  packer.text(welcome.endpoints.net_instance).number(welcome.endpoints.protocols.size());
  for (const std::string& protocol : welcome.endpoints.protocols) packer.text(protocol);
  packer.number(welcome.heaps.size());
  for (const auto& [device, fd] : welcome.heaps) packer.number(static_cast<std::uint64_t>(device)).number(static_cast<std::uint64_t>(fd));
  packer.number(welcome.regions.size());
  for (const Region& region : welcome.regions) {
    packer.number(region.address).number(region.length).number(static_cast<std::uint64_t>(region.kind));
    packer.number(static_cast<std::uint64_t>(region.device)).number(region.offset).number(region.key.slot).number(region.key.value);
  }
  return packer.body();
}

std::optional<Welcome> decode_welcome(const std::string& body) {
  Unpacker unpacker(body);
  if (unpacker.number() != kWelcomeMagic) return std::nullopt;
  Welcome welcome;
  welcome.status = static_cast<Status>(unpacker.number());
  welcome.why = unpacker.text();
  welcome.pid = static_cast<int>(unpacker.number());
  welcome.keys_fd = static_cast<int>(unpacker.number());
  welcome.nic_ip = unpacker.text();
  welcome.endpoints.net_instance = unpacker.text();
  for (std::uint64_t left = unpacker.number(); left > 0 && unpacker.is_good(); --left) {
    welcome.endpoints.protocols.push_back(unpacker.text());
  }
  for (std::uint64_t left = unpacker.number(); left > 0 && unpacker.is_good(); --left) {
    const auto device = static_cast<int>(unpacker.number());
    welcome.heaps[device] = static_cast<int>(unpacker.number());
  }
  for (std::uint64_t left = unpacker.number(); left > 0 && unpacker.is_good(); --left) {
    Region& region = welcome.regions.emplace_back();
    region.address = unpacker.number();
    region.length = unpacker.number();
    region.kind = static_cast<hixl::MemType>(unpacker.number());
    region.device = static_cast<int>(unpacker.number());
    region.offset = unpacker.number();
    region.key.slot = static_cast<std::uint32_t>(unpacker.number() % kMostKeys);
    region.key.value = unpacker.number();
  }
  return unpacker.is_whole() ? std::optional(welcome) : std::nullopt;
}

}  // namespace fake_hixl
