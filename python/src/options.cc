#include <nanobind/stl/string_view.h>

#include "common.h"

namespace ray_hixl::python {

void bind_options(nb::module_& module) {
  nb::class_<Options>(module, "Options", "The C++ options; ray_hixl.Options is the Python face.")
      .def(nb::init<>(), "Defaults.")
      .def_static(
          "from_environment", [] { return value_or_raise(options_from_environment()); }, "Defaults, overridden by RAY_HIXL_<NAME>.")
      .def(
          "set",
          [](Options& options, const std::string& name, const std::string& text) { raise_if_failed(set_option(options, name, text)); },
          nb::arg("name"), nb::arg("text"))
      .def_ro("transports", &Options::transports)
      .def_ro("host", &Options::host)
      .def_ro("publish", &Options::publish)
      .def_ro("fetch", &Options::fetch)
      .def_ro("copy_threads", &Options::copy_threads)
      .def_ro("source_arena_bytes", &Options::source_arena_bytes)
      .def_ro("landing_arena_bytes", &Options::landing_arena_bytes)
      .def_ro("slab_bytes", &Options::slab_bytes)
      .def_ro("slab_cap_bytes", &Options::slab_cap_bytes)
      .def_prop_ro("hixl_ports", [](const Options& options) { return std::pair(options.hixl_ports.first, options.hixl_ports.last); })
      .def_ro("connect_timeout_s", &Options::connect_timeout_s)
      .def_ro("transfer_timeout_s", &Options::transfer_timeout_s)
      .def_ro("stall_timeout_s", &Options::stall_timeout_s);

  module.def(
      "option_infos",
      [] {
        std::vector<std::tuple<std::string, std::string, std::string>> rows;
        for (const OptionInfo& info : option_infos()) rows.emplace_back(info.name, info.unit, info.effect);
        return rows;
      },
      "Name, unit and effect of every option.");
}

}  // namespace ray_hixl::python
