// Snapshots: the host tensors of an object as they were at publish, in blocks of the source arena that nobody else knows. Whatever becomes
// of the tensors afterwards, readers see these bytes, and peers on the host map them.
#pragma once

#include <span>

#include "engine/engine_impl.h"
#include "memory/arena.h"
#include "ray_hixl/objects.h"
#include "ray_hixl/status.h"

namespace ray_hixl {

// Copies all host tensors that have bytes, in their order, the same bytes once where tensors begin with them, and gives them their new
// addresses. What has more than a few bytes is copied on the copy pool; returns when all of it is, so never on a thread of the engine. The
// blocks keep the copies.
//
// kOutOfMemory if there is no room for all of them, kClosed: then no tensor was changed.
[[nodiscard]] Result<memory::Blocks> take_snapshot(EngineImpl& engine, std::span<SourceTensor> tensors);

}  // namespace ray_hixl
