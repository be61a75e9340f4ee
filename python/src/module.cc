// ray_hixl._core: the C++ face for Python. Converts, releases the GIL, calls, translates; decides nothing.
#include "common.h"
#include "gil.h"

NB_MODULE(_core, module) {
  using namespace ray_hixl::python;  // NOLINT(google-build-using-namespace)
  nb::set_leak_warnings(false);      // keep_alive() leaks on purpose what is still shown to peers while Python ends
  module.attr("version") = RAY_HIXL_VERSION;
  watch_for_exit();
  module.def("end_of_process", &end_of_process,
             "The exit function: engines are closed, and none is made any more; NPU memory is not given back from here "
             "on, since CANN's runtime may be gone before tensors are.");
  bind_errors(module);
  bind_options(module);
  bind_buffer(module);
  bind_torch(module);
  bind_begun(module);
  bind_engine(module);
  bind_objects(module);
  bind_cann(module);
}
