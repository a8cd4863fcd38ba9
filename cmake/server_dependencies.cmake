# What the tokenizers, the server and the command line need beyond the core.
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

# Debian's libsentencepiece cannot share a process with its libprotobuf; scripts/setup builds the
# source package as a static library. Its lite protobuf symbols come from Debian's libprotobuf-lite.
set(SLUICE_SENTENCEPIECE_DIR "${SLUICE_DEPS_DIR}/sentencepiece-0.2.0" CACHE PATH "")
add_library(sentencepiece STATIC IMPORTED GLOBAL)
set_target_properties(sentencepiece PROPERTIES
  IMPORTED_LOCATION "${SLUICE_SENTENCEPIECE_DIR}/lib/libsentencepiece.a"
  INTERFACE_INCLUDE_DIRECTORIES "${SLUICE_SENTENCEPIECE_DIR}/include")
target_link_libraries(sentencepiece INTERFACE protobuf::libprotobuf)
