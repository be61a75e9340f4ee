// The rules that options.def names: what an option takes, how its text is read and written, what is wrong with a value.
//
// A rule has takes(): completes "option x takes ...". read(): sets the value from text, false if that is no value at all. check(): ok, or
// what is wrong with a value that was read. write(): the text again, as the environment spells it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ray_hixl/options.h"
#include "ray_hixl/status.h"

namespace ray_hixl::options {

using Names = std::vector<std::string>;

// "option x takes ..., not '...'": kInvalidArgument.
[[nodiscard]] Status refuse(std::string_view name, std::string_view text, std::string_view takes);

// Names of this build's transports, each once, at least one.
class TransportNames {
 public:
  [[nodiscard]] std::string takes() const;
  [[nodiscard]] bool read(std::string_view text, Names& value) const;
  [[nodiscard]] Status check(std::string_view name, const Names& value) const;
  [[nodiscard]] std::string write(const Names& value) const;
};

// What all options that are one text have in common.
class Text {
 public:
  [[nodiscard]] bool read(std::string_view text, std::string& value) const;
  [[nodiscard]] std::string write(const std::string& value) const { return value; }
};

// An IPv4 or IPv6 address of one interface.
class Address : public Text {
 public:
  [[nodiscard]] std::string takes() const { return "the IPv4 or IPv6 address of one interface (no name, no wildcard)"; }
  [[nodiscard]] Status check(std::string_view name, const std::string& value) const;
};

// One of two words.
class OneOf : public Text {
 public:
  OneOf(std::string_view one, std::string_view other) : one_(one), other_(other) {}
  [[nodiscard]] std::string takes() const { return std::string("'").append(one_).append("' or '").append(other_).append("'"); }
  [[nodiscard]] Status check(std::string_view name, const std::string& value) const;

 private:
  std::string_view one_;
  std::string_view other_;
};

// One word today, and another that a later version will take: kNotAvailable says what it would be.
class Only : public Text {
 public:
  Only(std::string_view word, std::string_view later, std::string_view meaning) : word_(word), later_(later), meaning_(meaning) {}
  [[nodiscard]] std::string takes() const { return std::string("'").append(word_).append("'"); }
  [[nodiscard]] Status check(std::string_view name, const std::string& value) const;

 private:
  std::string_view word_;
  std::string_view later_;
  std::string_view meaning_;
};

class Flag {
 public:
  [[nodiscard]] std::string takes() const { return "true or false"; }
  [[nodiscard]] bool read(std::string_view text, bool& value) const;
  [[nodiscard]] Status check(std::string_view, bool) const { return Status::ok(); }
  [[nodiscard]] std::string write(bool value) const { return value ? "true" : "false"; }
};

// A flag that nothing but false is built for.
class NotYet : public Flag {
 public:
  explicit NotYet(std::string_view why) : why_(why) {}
  [[nodiscard]] std::string takes() const { return "true or false (only false in this version)"; }
  [[nodiscard]] Status check(std::string_view name, bool value) const;

 private:
  std::string_view why_;
};

// A whole number of something, `least` to `most`.
class Count {
 public:
  Count(std::string_view what, std::uint32_t most, std::uint32_t least = 0) : what_(what), most_(most), least_(least) {}
  [[nodiscard]] std::string takes() const;
  [[nodiscard]] bool read(std::string_view text, std::uint32_t& value) const;
  [[nodiscard]] Status check(std::string_view name, std::uint32_t value) const;
  [[nodiscard]] std::string write(std::uint32_t value) const { return std::to_string(value); }

 private:
  std::string_view what_;
  std::uint32_t most_;
  std::uint32_t least_;
};

// "auto", which is nullopt, or a multiple of `step` up to `most`.
class AutoOr {
 public:
  AutoOr(std::uint32_t most, std::uint32_t step) : most_(most), step_(step) {}
  [[nodiscard]] std::string takes() const;
  [[nodiscard]] bool read(std::string_view text, std::optional<std::uint32_t>& value) const;
  [[nodiscard]] Status check(std::string_view name, const std::optional<std::uint32_t>& value) const;
  [[nodiscard]] std::string write(const std::optional<std::uint32_t>& value) const { return value ? std::to_string(*value) : "auto"; }

 private:
  std::uint32_t most_;
  std::uint32_t step_;
};

class ByteCount {
 public:
  explicit ByteCount(std::uint64_t least = 0) : least_(least) {}
  [[nodiscard]] std::string takes() const;
  [[nodiscard]] bool read(std::string_view text, std::uint64_t& value) const;
  [[nodiscard]] Status check(std::string_view name, std::uint64_t value) const;
  [[nodiscard]] std::string write(std::uint64_t value) const { return std::to_string(value); }

 private:
  std::uint64_t least_;
};

// From a millisecond, so that what is done again and again after such a time leaves time for the rest, to a day.
class Seconds {
 public:
  [[nodiscard]] std::string takes() const { return "a number of seconds from 0.001 to 86400"; }
  [[nodiscard]] bool read(std::string_view text, double& value) const;
  [[nodiscard]] Status check(std::string_view name, double value) const;
  [[nodiscard]] std::string write(double value) const;
};

// An NPU by its index, the CPU, or nothing.
class DeviceName {
 public:
  [[nodiscard]] std::string takes() const { return "'npu:<index>', 'npu', 'cpu', or nothing"; }
  [[nodiscard]] bool read(std::string_view text, std::string& value) const;
  [[nodiscard]] Status check(std::string_view name, const std::string& value) const;
  [[nodiscard]] std::string write(const std::string& value) const { return value; }
};
// The index in "npu:<index>"; none in other text.
[[nodiscard]] std::optional<std::int32_t> npu_index(std::string_view text);

// At least two, since HIXL needs two; HCCL's own lie from 60000 to 60031.
class Ports {
 public:
  [[nodiscard]] std::string takes() const { return "a range of at least two ports, first-last, from 1024 to 65535"; }
  [[nodiscard]] bool read(std::string_view text, PortRange& value) const;
  [[nodiscard]] Status check(std::string_view name, const PortRange& value) const;
  [[nodiscard]] std::string write(const PortRange& value) const;
};

// "auto" alone, or names of HIXL's endpoints, each once, of which no two exclude each other.
class Protocols {
 public:
  [[nodiscard]] std::string takes() const;
  [[nodiscard]] bool read(std::string_view text, Names& value) const;
  [[nodiscard]] Status check(std::string_view name, const Names& value) const;
  [[nodiscard]] std::string write(const Names& value) const;
};

// "auto", HIXL's LocalCommRes itself, or the absolute path of a file with it, which is read when HIXL is started.
class CommRes {
 public:
  [[nodiscard]] std::string takes() const;
  [[nodiscard]] bool read(std::string_view text, std::string& value) const;
  [[nodiscard]] Status check(std::string_view name, const std::string& value) const;
  [[nodiscard]] std::string write(const std::string& value) const { return value; }
};
// Is that a LocalCommRes, as far as can be told without reading JSON? Of any other version HIXL makes another kind of engine.
[[nodiscard]] bool is_comm_res(std::string_view text);

}  // namespace ray_hixl::options
