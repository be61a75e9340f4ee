#include <nanobind/stl/string_view.h>
#include <nanobind/stl/variant.h>

#include <variant>

#include "common.h"

namespace ray_hixl::python {
namespace {

// A value as Python has it.
template <class T>
const T& to_python(const T& value) {
  return value;
}
std::pair<std::uint16_t, std::uint16_t> to_python(const PortRange& range) { return {range.first, range.last}; }
std::variant<std::uint32_t, std::string> to_python(const std::optional<std::uint32_t>& value) {
  if (value) return *value;
  return "auto";
}

// How Python's type checkers spell an option's argument and its property.
struct Spelling {
  const char* argument;
  const char* property;
};
Spelling spelling_of(const std::vector<std::string>&) { return {"Sequence[str]", "tuple[str, ...]"}; }
Spelling spelling_of(const std::string&) { return {"str", "str"}; }
Spelling spelling_of(std::uint32_t) { return {"int", "int"}; }
Spelling spelling_of(const std::optional<std::uint32_t>&) { return {"int | str", "int | str"}; }
Spelling spelling_of(std::uint64_t) { return {"int", "int"}; }
Spelling spelling_of(double) { return {"float", "float"}; }
Spelling spelling_of(bool) { return {"bool", "bool"}; }
Spelling spelling_of(const PortRange&) { return {"str | tuple[int, int]", "tuple[int, int]"}; }

std::vector<Spelling> spellings() {
  const Options options;
  return {
#define RAY_HIXL_OPTION(type, name, value, rule, text) spelling_of(options.name),
#include "ray_hixl/options.def"
  };
}

nb::list option_infos_of_python() {
  nb::list made;
  const std::vector<Spelling> spelled = spellings();
  for (std::size_t i = 0; i < spelled.size(); ++i) {
    const OptionInfo& info = option_infos()[i];
    made.append(nb::make_tuple(info.name, spelled[i].argument, spelled[i].property, info.by_default, info.takes, info.text));
  }
  return made;
}

}  // namespace

void bind_options(nb::module_& module) {
  nb::class_<Options>(module, "Options", "The C++ options; ray_hixl.Options is the Python face.")
      .def(nb::init<>(), "Defaults.")
      .def_static(
          "from_environment", [] { return value_or_raise(options_from_environment()); }, "Defaults, overridden by RAY_HIXL_<NAME>.")
      .def(
          "set",
          [](Options& options, const std::string& name, const std::string& text) { raise_if_failed(set_option(options, name, text)); },
          nb::arg("name"), nb::arg("text"))
#define RAY_HIXL_OPTION(type, name, value, rule, text) .def_prop_ro(#name, [](const Options& options) { return to_python(options.name); })
#include "ray_hixl/options.def"
      ;
  module.def("option_infos", &option_infos_of_python, nb::sig("def option_infos() -> list[tuple[str, str, str, str, str, str]]"),
             "Of every option: name, types of its argument and its property, default, what it takes, text.");
}

}  // namespace ray_hixl::python
