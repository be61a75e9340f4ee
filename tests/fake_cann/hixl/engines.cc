#include "hixl/engines.h"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "hixl/engine.h"
#include "hixl/fake_hixl.h"
#include "runtime/fake_cann.h"

namespace fake_hixl {
namespace {

struct Engines {
  std::mutex mutex;
  std::vector<Engine*> list;  // guarded by mutex, as below
  std::vector<std::shared_ptr<Engine>> abandoned;
};

Engines& engines() {
  static Engines& instance = *new Engines;
  return instance;
}

// What is freed is no longer registered. Nobody may do that while a link could use it.
void memory_goes(int device, std::size_t offset, std::size_t size) {
  const std::lock_guard lock(engines().mutex);
  for (Engine* engine : engines().list) {
    if (engine->regions().memory_goes(device, offset, size) && engine->links() + engine->inbound_links() > 0) {
      fake_cann_forbid("memory was freed or unmapped that is registered with FAKE HIXL, while the engine has links");
    }
  }
}

std::uint64_t sum(std::size_t (*count)(Engine&)) {
  const std::lock_guard lock(engines().mutex);
  std::uint64_t all = 0;
  for (Engine* engine : engines().list) all += count(*engine);
  return all;
}

}  // namespace

void abandon_engine(std::shared_ptr<Engine> engine) {
  const std::lock_guard lock(engines().mutex);
  engines().abandoned.push_back(std::move(engine));
}

void add_engine(Engine* engine) {
  const std::lock_guard lock(engines().mutex);
  engines().list.push_back(engine);
  fake_cann_on_memory_gone(memory_goes);
}

void remove_engine(Engine* engine) {
  const std::lock_guard lock(engines().mutex);
  std::erase(engines().list, engine);
}

}  // namespace fake_hixl

using namespace fake_hixl;

extern "C" {

std::uint64_t fake_hixl_live_engines(void) {
  return sum([](Engine&) { return std::size_t{1}; });
}
std::uint64_t fake_hixl_links(void) {
  return sum([](Engine& engine) { return engine.links(); });
}
std::uint64_t fake_hixl_inbound_links(void) {
  return sum([](Engine& engine) { return engine.inbound_links(); });
}
std::uint64_t fake_hixl_regions(void) {
  return sum([](Engine& engine) { return engine.regions().size(); });
}

}  // extern "C"
