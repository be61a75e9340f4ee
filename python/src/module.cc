// ray_hixl._core: the C++ face for Python. Converts, releases the GIL, calls, translates; decides nothing.
#include "common.h"

NB_MODULE(_core, module) {
  using namespace ray_hixl::python;  // NOLINT(google-build-using-namespace)
  module.attr("version") = RAY_HIXL_VERSION;
  bind_errors(module);
  bind_options(module);
  bind_buffer(module);
  bind_torch(module);
  bind_engine(module);
  bind_objects(module);
}
