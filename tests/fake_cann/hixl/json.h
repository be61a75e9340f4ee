// As much of JSON as options need.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace fake_hixl {

struct Json {
  enum class Type { kNull, kBool, kNumber, kText, kList, kObject };

  Type type = Type::kNull;
  std::string text;  // of a text; of a number or bool as it was written
  std::vector<Json> items;
  std::map<std::string, Json> members;

  // A whole number, or a text that is one.
  [[nodiscard]] std::optional<long> number() const;
  // The text of a member; empty if there is none.
  [[nodiscard]] std::string member_text(const std::string& name) const;
};

// nullopt if it is not JSON, whole and with nothing after it.
[[nodiscard]] std::optional<Json> parse_json(const std::string& text);
[[nodiscard]] std::optional<long> parse_number(const std::string& text);

}  // namespace fake_hixl
