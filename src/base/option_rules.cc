#include "base/option_rules.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>

namespace ray_hixl::options {
namespace {

Status later(std::string_view name, std::string_view why) {
  return Status(Code::kNotAvailable, "option " + std::string(name) + " is not available in this version: " + std::string(why));
}

constexpr const char* kAuto = "auto";
constexpr const char* kProtocols[] = {"hccs:device", "roce:device",   "roce:host",  "ub_ctp:device",
                                      "ub_ctp:host", "ub_rtp:device", "uboe:device"};

// Parts between commas; none of an empty text.
void split(std::string_view text, Names& parts) {
  parts.clear();
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
}

// All of the text, which is one number: no spaces, no unit.
template <class T>
bool read_number(std::string_view text, T& value) {
  T read{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  value = read;
  return true;
}

std::string join(const Names& names, std::string_view separator) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : std::string(separator)) + name;
  return text;
}

}  // namespace

Status refuse(std::string_view name, std::string_view text, std::string_view takes) {
  return Status(Code::kInvalidArgument,
                "option " + std::string(name) + " takes " + std::string(takes) + ", not '" + std::string(text) + "'");
}

std::string TransportNames::takes() const { return "some of " + join(all_transports(), ", "); }

bool TransportNames::read(std::string_view text, Names& value) const {
  split(text, value);
  return true;
}

Status TransportNames::check(std::string_view name, const Names& value) const {
  const Names known = all_transports();
  if (value.empty()) return refuse(name, "", "at least one of " + join(known, ", "));
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (std::ranges::find(known, *it) == known.end()) return refuse(name, *it, takes());
    if (std::find(value.begin(), it, *it) != it) return refuse(name, join(value, ","), "each transport once");
  }
  return Status::ok();
}

std::string TransportNames::write(const Names& value) const { return join(value, ","); }

bool Text::read(std::string_view text, std::string& value) const {
  value = std::string(text);
  return true;
}

Status Address::check(std::string_view name, const std::string& value) const {
  in_addr v4{};
  in6_addr v6{};
  const bool is_v4 = ::inet_pton(AF_INET, value.c_str(), &v4) == 1;
  const bool is_v6 = !is_v4 && ::inet_pton(AF_INET6, value.c_str(), &v6) == 1;
  const bool wildcard = (is_v4 && v4.s_addr == INADDR_ANY) || (is_v6 && IN6_IS_ADDR_UNSPECIFIED(&v6));
  return (is_v4 || is_v6) && !wildcard ? Status::ok() : refuse(name, value, takes());
}

Status OneOf::check(std::string_view name, const std::string& value) const {
  return value == one_ || value == other_ ? Status::ok() : refuse(name, value, takes());
}

Status Only::check(std::string_view name, const std::string& value) const {
  if (value == word_) return Status::ok();
  if (value != later_) return refuse(name, value, takes());
  return later(name, "'" + value + "' (" + std::string(meaning_) + ") is not built yet; use '" + std::string(word_) + "'");
}

bool Flag::read(std::string_view text, bool& value) const {
  value = text == "true";
  return value || text == "false";
}

Status NotYet::check(std::string_view name, bool value) const { return value ? later(name, why_) : Status::ok(); }

std::string Count::takes() const {
  return "a whole number of " + std::string(what_) + " from " + std::to_string(least_) + " to " + std::to_string(most_);
}

bool Count::read(std::string_view text, std::uint32_t& value) const { return read_number(text, value); }

Status Count::check(std::string_view name, std::uint32_t value) const {
  return value >= least_ && value <= most_ ? Status::ok() : refuse(name, std::to_string(value), takes());
}

std::string AutoOr::takes() const {
  return "auto, or " + (step_ == 1 ? "a whole number" : "a multiple of " + std::to_string(step_)) + " from 0 to " + std::to_string(most_);
}

bool AutoOr::read(std::string_view text, std::optional<std::uint32_t>& value) const {
  value.reset();
  return text == kAuto || read_number(text, value.emplace());
}

Status AutoOr::check(std::string_view name, const std::optional<std::uint32_t>& value) const {
  return !value || (*value <= most_ && *value % step_ == 0) ? Status::ok() : refuse(name, write(value), takes());
}

std::string ByteCount::takes() const {
  return least_ == 0 ? "a whole number of bytes" : "a whole number of bytes above " + std::to_string(least_ - 1);
}

bool ByteCount::read(std::string_view text, std::uint64_t& value) const { return read_number(text, value); }

Status ByteCount::check(std::string_view name, std::uint64_t value) const {
  return value >= least_ ? Status::ok() : refuse(name, std::to_string(value), takes());
}

bool Seconds::read(std::string_view text, double& value) const { return read_number(text, value); }

Status Seconds::check(std::string_view name, double value) const {
  return value >= 0.001 && value <= 86400 ? Status::ok() : refuse(name, write(value), takes());
}

std::string Seconds::write(double value) const {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

bool DeviceName::read(std::string_view text, std::string& value) const {
  value = std::string(text);
  return true;
}

Status DeviceName::check(std::string_view name, const std::string& value) const {
  return value.empty() || value == "cpu" || value == "npu" || npu_index(value) ? Status::ok() : refuse(name, value, takes());
}

std::optional<std::int32_t> npu_index(std::string_view text) {
  constexpr std::string_view kKind = "npu:";
  std::uint16_t index = 0;
  if (!text.starts_with(kKind) || !read_number(text.substr(kKind.size()), index)) return std::nullopt;
  return index;
}

bool Ports::read(std::string_view text, PortRange& value) const {
  const std::size_t dash = text.find('-');
  return dash != std::string_view::npos && read_number(text.substr(0, dash), value.first) && read_number(text.substr(dash + 1), value.last);
}

Status Ports::check(std::string_view name, const PortRange& value) const {
  return value.first >= 1024 && value.last > value.first ? Status::ok() : refuse(name, write(value), takes());
}

std::string Ports::write(const PortRange& value) const { return std::to_string(value.first) + "-" + std::to_string(value.last); }

std::string Protocols::takes() const { return "auto, or some of " + join({std::begin(kProtocols), std::end(kProtocols)}, ", "); }

bool Protocols::read(std::string_view text, Names& value) const {
  split(text, value);
  return true;
}

Status Protocols::check(std::string_view name, const Names& value) const {
  if (value == Names{kAuto}) return Status::ok();
  if (value.empty()) return refuse(name, "", takes());
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (std::ranges::find(kProtocols, *it) == std::end(kProtocols)) return refuse(name, *it, takes());
    if (std::find(value.begin(), it, *it) != it) return refuse(name, join(value, ","), "each endpoint once");
  }
  const auto has = [&](const char* wanted) { return std::ranges::find(value, wanted) != value.end(); };
  return has("uboe:device") && has("ub_rtp:device") ? refuse(name, join(value, ","), "one of uboe:device and ub_rtp:device") : Status::ok();
}

std::string Protocols::write(const Names& value) const { return join(value, ","); }

bool is_comm_res(std::string_view text) {
  std::string dense;
  std::ranges::copy_if(text, std::back_inserter(dense), [](unsigned char c) { return c > ' ' && c < 0x7f; });
  return dense.starts_with('{') && dense.ends_with('}') && dense.find(R"("version":"1.3")") != std::string::npos;
}

std::string CommRes::takes() const { return "auto, a LocalCommRes of HIXL (JSON of version 1.3), or the absolute path of a file with one"; }

bool CommRes::read(std::string_view text, std::string& value) const {
  value = std::string(text);
  return true;
}

Status CommRes::check(std::string_view name, const std::string& value) const {
  return value == kAuto || value.starts_with('/') || is_comm_res(value) ? Status::ok() : refuse(name, value, takes());
}

}  // namespace ray_hixl::options
