// The public C++ face of ray-hixl, in reading order.
#pragma once

#include "ray_hixl/engine.h"    // register, connect, read  (start here)
#include "ray_hixl/fence.h"     // what a device still has to do
#include "ray_hixl/memory.h"    // ranges, handles, remote regions
#include "ray_hixl/objects.h"   // publish, fetch, release
#include "ray_hixl/options.h"   // every knob
#include "ray_hixl/stats.h"     // counters
#include "ray_hixl/status.h"    // how calls report
#include "ray_hixl/transfer.h"  // a batch or fetch under way
