#include "transport/hixl/cann/api.h"

#include <cstring>
#include <fstream>
#include <new>

namespace ray_hixl::transport::hixl {
namespace {

// Of ge::AscendString; the same for all that use the library.
struct TextFunctions {
  void (*construct)(void* self, const char* text) = nullptr;
  const char* (*get)(const void* self) = nullptr;
};
TextFunctions text_functions;

// What CANN's installation says beside the library.
std::string read_version(const Library& library) {
  if (const auto fake = reinterpret_cast<const char* (*)()>(library.symbol("fake_hixl_version")); fake != nullptr) return fake();
  const std::string folder = library.path().substr(0, library.path().rfind('/') + 1);
  for (const char* place : {"../share/info/hixl/version.info", "../../share/info/hixl/version.info"}) {
    std::ifstream file(folder + place);
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("Version=")) return line.substr(std::strlen("Version="));
    }
  }
  return std::string(kUnknownVersion);
}

Status bind_text(const Library& library) {
  Library from = library;
  constexpr const char* kConstructor = "_ZN2ge12AscendStringC1EPKc";
  if (from.symbol(kConstructor) == nullptr) {
    const Result<Library> metadef = Library::open({"libmetadef.so"}, {"", library.path().substr(0, library.path().rfind('/'))});
    if (!metadef.is_ok()) return metadef.status();
    from = *metadef;
  }
  std::vector<std::string> missing;
  bind_required(from, kConstructor, text_functions.construct, missing);
  bind_required(from, "_ZNK2ge12AscendString9GetStringEv", text_functions.get, missing);
  return check_complete(from, missing);
}

}  // namespace

Text::Text(const std::string& text) {
  held_.~shared_ptr();
  text_functions.construct(&held_, text.c_str());
}

const char* Text::c_str() const { return text_functions.get(&held_); }

bool operator<(const Text& a, const Text& b) { return std::strcmp(a.c_str(), b.c_str()) < 0; }

Result<Api> Api::load(const Places& places) {
  const Result<Library> library = Library::open({"libcann_hixl.so"}, places);
  if (!library.is_ok()) return library.status();
  Api api;
  api.path = library->path();
  std::vector<std::string> missing;
  bind_required(*library, "_ZN4hixl4HixlC1Ev", api.construct, missing);
  if (api.construct == nullptr) {
    return Status(Code::kNotAvailable, api.path + " has no class hixl::Hixl: it is not the HIXL of CANN 8.5 or later");
  }
  bind_required(*library, "_ZN4hixl4HixlD1Ev", api.destroy, missing);
  bind_required(*library, "_ZN4hixl4Hixl10InitializeERKN2ge12AscendStringERKSt3mapIS2_S2_St4lessIS2_ESaISt4pairIS3_S2_EEE", api.initialize,
                missing);
  bind_required(*library, "_ZN4hixl4Hixl8FinalizeEv", api.finalize, missing);
  bind_required(*library, "_ZN4hixl4Hixl11RegisterMemERKNS_7MemDescENS_7MemTypeERPv", api.register_memory, missing);
  bind_required(*library, "_ZN4hixl4Hixl13DeregisterMemEPv", api.deregister_memory, missing);
  bind_required(*library, "_ZN4hixl4Hixl7ConnectERKN2ge12AscendStringEi", api.connect, missing);
  bind_required(*library, "_ZN4hixl4Hixl10DisconnectERKN2ge12AscendStringEi", api.disconnect, missing);
  bind_required(
      *library,
      "_ZN4hixl4Hixl13TransferAsyncERKN2ge12AscendStringENS_10TransferOpERKSt6vectorINS_14TransferOpDescESaIS7_EERKNS_12TransferArgsERPv",
      api.transfer_async, missing);
  bind_required(*library, "_ZN4hixl4Hixl17GetTransferStatusERKPvRNS_14TransferStatusE", api.poll, missing);
  bind_optional(*library, "_ZN4hixl4Hixl17GetTransferStatusERKNS_21GetTransferStatusArgsERSt6vectorINS_14TransferResultESaIS5_EE",
                api.poll_all);
  bind_optional(*library, "_ZN4hixl4Hixl13GetCapabilityENS_11FeatureTypeERi", api.get_capability);
  RAY_HIXL_RETURN_IF_ERROR(check_complete(*library, missing));
  RAY_HIXL_RETURN_IF_ERROR(bind_text(*library));
  api.version = read_version(*library);
  return api;
}

bool Api::has_client_server() const {
  std::int32_t value = 0;
  return get_capability != nullptr && poll_all != nullptr && get_capability(kFeatureClientServer, value) == kHixlOk && value == 1;
}

}  // namespace ray_hixl::transport::hixl
