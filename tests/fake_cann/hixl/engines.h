// The engines of this process: for the counters, and to see memory being freed. Any thread.
#pragma once

#include <memory>

namespace fake_hixl {

class Engine;

// Nobody can reach it any more: it stays as it is.
void abandon_engine(std::shared_ptr<Engine> engine);

void add_engine(Engine* engine);
void remove_engine(Engine* engine);

}  // namespace fake_hixl
