add_library(ray_hixl_warnings INTERFACE)
target_compile_options(ray_hixl_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual)
if(RAY_HIXL_WERROR)
  target_compile_options(ray_hixl_warnings INTERFACE -Werror)
endif()
# From precompiled headers (layers.cmake) GCC 12 warns of std::string itself. The aarch64 preset compiles without them, and with every warning.
if(RAY_HIXL_TESTS)
  target_compile_options(ray_hixl_warnings INTERFACE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow)
endif()
