// LocalRegion: registered memory of this process, as Python holds it.
#pragma once

#include "ray_hixl/engine.h"

namespace ray_hixl::python {

struct LocalRegion {
  Region region;
  bool read_only = false;  // peers may read it, but nothing can be read into it
};

}  // namespace ray_hixl::python
