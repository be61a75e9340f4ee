#include "hixl/flavour.h"

#include <string>

#include "hixl/fake_hixl.h"
#include "hixl/switches.h"

namespace fake_hixl {

Flavour flavour() {
  if (is_built_as_85()) return Flavour::k85;
  const std::string name = text_switch("FAKE_HIXL_FLAVOUR", "9.2");
  if (name == "9.1") return Flavour::k91;
  return name == "9.2-beta.1" ? Flavour::k92Beta1 : Flavour::k92;
}

}  // namespace fake_hixl

extern "C" const char* fake_hixl_version(void) {
  switch (fake_hixl::flavour()) {
    case fake_hixl::Flavour::k85: return "FAKE 8.5.0";
    case fake_hixl::Flavour::k91: return "FAKE 9.1.0";
    case fake_hixl::Flavour::k92Beta1: return "FAKE 9.2.0-beta.1";
    case fake_hixl::Flavour::k92: break;
  }
  return "FAKE 9.2.0";
}
