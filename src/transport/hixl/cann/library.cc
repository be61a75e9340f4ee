#include "transport/hixl/cann/library.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdlib>
#include <sstream>
#include <utility>

namespace ray_hixl::transport::hixl {
namespace {

// What was tried in vain. Most paths are simply not there, which needs no more words.
class Attempts {
 public:
  void failed(const std::string& path) {
    const char* const text = ::dlerror();
    const std::string error = text == nullptr ? "" : text;
    if (error == path + ": cannot open shared object file: No such file or directory") {
      absent_ += (absent_.empty() ? "" : ", ") + path;
    } else {
      broken_ += "; " + error;
    }
  }
  [[nodiscard]] std::string describe() const { return "not there: " + (absent_.empty() ? "nothing" : absent_) + broken_; }

 private:
  std::string absent_;
  std::string broken_;
};

Places split(const std::string& folders) {
  Places places;
  std::istringstream in(folders);
  for (std::string folder; std::getline(in, folder, ':');) places.push_back(folder);
  return places;
}

std::string path_of(void* handle, const std::string& otherwise) {
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr || map->l_name == nullptr || *map->l_name == '\0') return otherwise;
  return map->l_name;
}

}  // namespace

Places places_from_environment() {
  if (const char* ours = std::getenv("RAY_HIXL_CANN_PATH"); ours != nullptr && *ours != '\0') return split(ours);
  Places places = {""};
  for (const char* variable : {"ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"}) {
    const char* const folder = std::getenv(variable);
    if (folder != nullptr && *folder != '\0') places.push_back(std::string(folder) + "/lib64");
  }
  places.emplace_back("/usr/local/Ascend/cann/lib64");
  places.emplace_back("/usr/local/Ascend/ascend-toolkit/latest/lib64");
  return places;
}

Result<Library> Library::open(const std::vector<std::string>& names, const Places& places) {
  for (const std::string& name : names) {
    void* const loaded = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);  // torch_npu may have come first
    if (loaded != nullptr) return Library(loaded, path_of(loaded, name));
  }
  Attempts attempts;
  for (const std::string& place : places) {
    for (const std::string& name : names) {
      const std::string path = place.empty() ? name : place + "/" + name;
      void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle != nullptr) return Library(handle, path_of(handle, path));
      attempts.failed(path);
    }
  }
  return Status(Code::kNotAvailable, "cannot load " + names.front() + " (" + attempts.describe() +
                                         "). Where there is an NPU, source CANN's set_env.sh, or set RAY_HIXL_CANN_PATH to the folder that "
                                         "holds it (several: with colons between them)");
}

void* Library::symbol(const char* name) const { return ::dlsym(handle_, name); }

Status check_complete(const Library& library, const std::vector<std::string>& missing) {
  if (missing.empty()) return Status::ok();
  std::string names;
  for (const std::string& name : missing) names += (names.empty() ? "" : ", ") + name;
  return Status(Code::kNotAvailable, library.path() + " lacks " + names + ": this version of CANN is too old, or not what it seems to be");
}

}  // namespace ray_hixl::transport::hixl
