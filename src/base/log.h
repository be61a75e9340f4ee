// Log: one hook for the whole process. By default lines go to stderr at kWarning and above.
//
// An event is logged once, where it is handled, never where it is passed on. Secrets never appear.
#pragma once

#include <functional>
#include <string_view>

namespace ray_hixl {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
using LogSink = std::function<void(LogLevel, std::string_view message)>;

// Any thread. The sink may be called from any engine thread, never with a lock of ray-hixl held. A null sink restores the default.
// Not under a NoFork.
void set_log_sink(LogSink sink);
void set_log_level(LogLevel lowest);
void log(LogLevel level, std::string_view message);

}  // namespace ray_hixl
