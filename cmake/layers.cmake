# What nearly every source includes.
set(RAY_HIXL_COMMON_HEADERS <algorithm> <atomic> <chrono> <functional> <map> <memory> <mutex> <optional> <span> <string> <thread> <vector>)

# ray_hixl_layer(<name> <folder> <lower layers...>): the folder's sources as one library that sees only the layers below it. Those of a
# folder within another layer's may have folders of their own.
function(ray_hixl_layer name folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cc)
  if(folder MATCHES "/")
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cc)
  endif()
  add_library(ray_hixl_${name} STATIC ${sources})
  target_include_directories(ray_hixl_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(ray_hixl_${name} PRIVATE ray_hixl_warnings)
  # Only to build the tests sooner: what is installed, and what clang-tidy sees, has to include what it uses.
  if(name STREQUAL base AND (RAY_HIXL_TESTS OR RAY_HIXL_FUZZ))
    target_precompile_headers(ray_hixl_base PRIVATE ${RAY_HIXL_COMMON_HEADERS})
  elseif(RAY_HIXL_TESTS OR RAY_HIXL_FUZZ)
    target_precompile_headers(ray_hixl_${name} REUSE_FROM ray_hixl_base)
  endif()
  foreach(lower IN LISTS ARGN)
    target_link_libraries(ray_hixl_${name} PUBLIC ray_hixl_${lower})
  endforeach()
endfunction()
