#include "hixl/json.h"

#include <cctype>
#include <cstdlib>

namespace fake_hixl {
namespace {

constexpr int kDeepest = 16;

class Parser {
 public:
  explicit Parser(const std::string& text) : at_(text.c_str()), end_(at_ + text.size()) {}

  std::optional<Json> whole() {
    Json value;
    if (!parse(value, 0)) return std::nullopt;
    skip_blanks();
    return at_ == end_ ? std::optional(value) : std::nullopt;
  }

 private:
  void skip_blanks() {
    while (at_ != end_ && std::isspace(static_cast<unsigned char>(*at_)) != 0) ++at_;
  }
  bool take(char wanted) {
    skip_blanks();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }

  bool parse(Json& value, int depth) {
    skip_blanks();
    if (at_ == end_ || depth > kDeepest) return false;
    switch (*at_) {
      case '{': return parse_object(value, depth);
      case '[': return parse_list(value, depth);
      case '"': value.type = Json::Type::kText; return parse_text(value.text);
      default: return parse_word(value);
    }
  }

  bool parse_object(Json& value, int depth) {
    value.type = Json::Type::kObject;
    ++at_;
    if (take('}')) return true;
    do {
      std::string name;
      skip_blanks();
      if (!parse_text(name) || !take(':') || !parse(value.members[name], depth + 1)) return false;
    } while (take(','));
    return take('}');
  }

  bool parse_list(Json& value, int depth) {
    value.type = Json::Type::kList;
    ++at_;
    if (take(']')) return true;
    do {
      if (!parse(value.items.emplace_back(), depth + 1)) return false;
    } while (take(','));
    return take(']');
  }

  // Escapes other than \" \\ \/ are not needed and not read.
  bool parse_text(std::string& text) {
    if (at_ == end_ || *at_ != '"') return false;
    for (++at_; at_ != end_ && *at_ != '"'; ++at_) {
      if (*at_ == '\\' && (++at_ == end_ || (*at_ != '"' && *at_ != '\\' && *at_ != '/'))) return false;
      text += *at_;
    }
    if (at_ == end_) return false;
    ++at_;
    return true;
  }

  bool parse_word(Json& value) {
    while (at_ != end_ && (std::isalnum(static_cast<unsigned char>(*at_)) != 0 || *at_ == '-' || *at_ == '+' || *at_ == '.')) {
      value.text += *at_++;
    }
    if (value.text == "null") return true;
    value.type = value.text == "true" || value.text == "false" ? Json::Type::kBool : Json::Type::kNumber;
    char* after = nullptr;
    (void)std::strtod(value.text.c_str(), &after);
    return value.type == Json::Type::kBool || (!value.text.empty() && *after == '\0');
  }

  const char* at_;
  const char* end_;
};

}  // namespace

std::optional<long> parse_number(const std::string& text) {
  char* after = nullptr;
  const long number = std::strtol(text.c_str(), &after, 10);
  if (text.empty() || std::isspace(static_cast<unsigned char>(text.front())) != 0 || *after != '\0') return std::nullopt;
  return number;
}

std::optional<long> Json::number() const { return type == Type::kNumber || type == Type::kText ? parse_number(text) : std::nullopt; }

std::string Json::member_text(const std::string& name) const {
  const auto found = members.find(name);
  return found == members.end() ? "" : found->second.text;
}

std::optional<Json> parse_json(const std::string& text) { return Parser(text).whole(); }

}  // namespace fake_hixl
