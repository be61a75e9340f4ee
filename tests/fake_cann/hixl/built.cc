// The only file that is compiled for each library anew.
#include "hixl/flavour.h"

namespace fake_hixl {

bool is_built_as_85() { return FAKE_HIXL_BUILT_AS == 85; }

}  // namespace fake_hixl
