#include "ray_hixl/options.h"

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "base/fork.h"
#include "base/option_rules.h"

namespace ray_hixl {
namespace {

using namespace options;  // the rules, as options.def names them

struct Row {
  OptionInfo info;
  std::function<Status(Options&, std::string_view)> read;
  std::function<Status(const Options&)> check;
};

template <class T, class Rule>
Row row(std::string_view name, T Options::*field, const Rule& rule, std::string_view text) {
  const auto read = [=](Options& options, std::string_view given) {
    return rule.read(given, options.*field) ? Status::ok() : refuse(name, given, rule.takes());
  };
  return {{name, rule.takes(), rule.write(Options().*field), text}, read, [=](const Options& options) {
            return rule.check(name, options.*field);
          }};
}

// This table and the next one are never destroyed: a process may ask for options while it exits.
const std::vector<Row>& rows() {
  static const std::vector<Row>& table = *new std::vector<Row>{
#define RAY_HIXL_OPTION(type, name, value, rule, text) row(#name, &Options::name, rule, text),
#include "ray_hixl/options.def"
  };
  return table;
}

}  // namespace

std::vector<std::string> all_transports() {
  return {
#define RAY_HIXL_TRANSPORT(name, kind, number, memory) #name,
#include "base/transports.def"
  };
}

const std::vector<OptionInfo>& option_infos() {
  static const std::vector<OptionInfo>& table = *[] {
    auto* const infos = new std::vector<OptionInfo>;
    for (const Row& row : rows()) infos->push_back(row.info);
    return infos;
  }();
  return table;
}

namespace {

// Both tables are there before a fork: a child that was forked while another thread made one would wait for that thread for ever.
const bool kMadeBeforeFork = on_fork([] { (void)option_infos(); }, nullptr, nullptr);

}  // namespace

Status set_option(Options& options, std::string_view name, std::string_view text) {
  for (const Row& row : rows()) {
    if (row.info.name != name) continue;
    Options changed = options;
    RAY_HIXL_RETURN_IF_ERROR(row.read(changed, text));
    RAY_HIXL_RETURN_IF_ERROR(row.check(changed));
    options = std::move(changed);
    return Status::ok();
  }
  std::string known;
  for (const OptionInfo& info : option_infos()) known += (known.empty() ? "" : ", ") + std::string(info.name);
  return Status(Code::kInvalidArgument, "there is no option '" + std::string(name) + "'; there are " + known);
}

Status validate(const Options& options) {
  for (const Row& row : rows()) RAY_HIXL_RETURN_IF_ERROR(row.check(options));
  return Status::ok();
}

Result<Options> options_from_environment() {
  Options options;
  for (const OptionInfo& info : option_infos()) {
    std::string variable = "RAY_HIXL_" + std::string(info.name);
    std::ranges::transform(variable, variable.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    const char* text = std::getenv(variable.c_str());
    if (text == nullptr) continue;
    if (const Status status = set_option(options, info.name, text); !status.is_ok()) return status.with_context(variable);
  }
  return options;
}

}  // namespace ray_hixl
