// Library: a shared library of CANN, found at run time. Nothing of CANN is needed to build, and nothing is touched where nobody asks.
//
// Never unloaded: CANN's libraries start threads. Any thread.
#pragma once

#include <string>
#include <vector>

#include "ray_hixl/status.h"

namespace ray_hixl::transport::hixl {

// Folders that may hold CANN's libraries, in the order in which they are tried; "" leaves the search to the dynamic loader.
using Places = std::vector<std::string>;

// The folders of $RAY_HIXL_CANN_PATH (with colons between them) alone if it is set; else the dynamic loader (LD_LIBRARY_PATH),
// $ASCEND_HOME_PATH/lib64, $ASCEND_TOOLKIT_HOME/lib64 and the usual folders of an installation.
[[nodiscard]] Places places_from_environment();

class Library {
 public:
  // The first of `names` that can be loaded, or is loaded already. kNotAvailable names every path tried, and why it was not taken.
  [[nodiscard]] static Result<Library> open(const std::vector<std::string>& names, const Places& places);

  // Null if neither it nor a library that it needs has the symbol.
  [[nodiscard]] void* symbol(const char* name) const;
  // Where it came from, for people.
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Library(void* handle, std::string path) : handle_(handle), path_(std::move(path)) {}
  void* handle_;
  std::string path_;
};

// Sets `function` to the symbol, and notes the name in `missing` if there is none. (Not called bind: arguments of std would find
// std::bind.)
template <class Function>
void bind_required(const Library& library, const char* name, Function*& function, std::vector<std::string>& missing) {
  function = reinterpret_cast<Function*>(library.symbol(name));
  if (function == nullptr) missing.emplace_back(name);
}

// For what older versions lack: null then.
template <class Function>
void bind_optional(const Library& library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(library.symbol(name));
}

// ok, or kNotAvailable naming what the library lacks.
[[nodiscard]] Status check_complete(const Library& library, const std::vector<std::string>& missing);

}  // namespace ray_hixl::transport::hixl
