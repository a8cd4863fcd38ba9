# Language level, warnings, sanitizers, ccache and mold: the same for every target.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

find_program(SLUICE_CCACHE ccache)
if(SLUICE_CCACHE)
  # Paths relative to the clone, so that clones in different places share the cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}"
                                  CCACHE_NOHASHDIR=true "${SLUICE_CCACHE}")
endif()
find_program(SLUICE_MOLD mold)
if(SLUICE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# -ffp-contract=off: whether a product and a sum fuse is decided in the source, never by the
# compiler, because the bits of a row must not depend on which loop the compiler put it in.
add_compile_options(
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wnon-virtual-dtor;-ffp-contract=off>")

if(SLUICE_SANITIZER)
  # The compiler's time is most of what they cost: at -O1 it is two thirds of that at -O2, and checking
  # every pointer for null and alignment doubles it. The address sanitizer finds null as well; where
  # bytes are read as numbers, sluice_check_alignment() has both.
  add_compile_options(-O1 -fsanitize=${SLUICE_SANITIZER} -fno-omit-frame-pointer)
  if(SLUICE_SANITIZER MATCHES "undefined")
    add_compile_options(-fno-sanitize=null,alignment)
  endif()
  add_link_options(-fsanitize=${SLUICE_SANITIZER})
endif()

function(sluice_check_alignment target)
  if(SLUICE_SANITIZER MATCHES "undefined")
    target_compile_options(${target} PRIVATE -fsanitize=null,alignment)
  endif()
endfunction()

find_package(Threads REQUIRED)
