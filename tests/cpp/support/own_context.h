// OwnContext: what links, strangers and channels of a test need of an engine that is not there.
#pragma once

#include <functional>
#include <memory>

#include "support/on_loop.h"
#include "transport/transport.h"

namespace ray_hixl::test {

struct OwnContext {
  using MakeDevices = std::function<std::shared_ptr<device::Devices>(const std::shared_ptr<memory::Arena>& source)>;

  explicit OwnContext(const Incarnation& self = {}, const MakeDevices& make_devices = no_devices)
      : context{self, *net::this_process(), options, *loop, processes, *slots, *arena, pool, reaper, counters, make_devices(arena)} {}

  static std::shared_ptr<device::Devices> no_devices(const std::shared_ptr<memory::Arena>&) {
    return device::no_devices(Status(Code::kNotAvailable, "no NPU here"));
  }

  Options options;
  const std::unique_ptr<net::Loop> loop = new_loop();
  net::Processes processes{*loop};
  memory::Reaper reaper;
  const std::unique_ptr<memory::SlotTable> slots = memory::SlotTable::create(reaper).value();
  const std::shared_ptr<memory::Arena> arena = memory::Arena::create(memory::ArenaKind::kSource, 0);
  memory::CopyPool pool{1};
  transport::Counters counters;
  const transport::Context context;
};

}  // namespace ray_hixl::test
