# LibTorch from the wheel as imported targets. find_package(Torch) is not used: it wants the CUDA
# toolkit and links libtorch_cuda. The wheel's headers shadow Debian's protobuf and fmt, so they
# come last in the search order (-idirafter).
set(SLUICE_TORCH_VERSION 2.11.0)
find_path(SLUICE_TORCH_DIR lib/libtorch_cpu.so
  HINTS "${SLUICE_DEPS_DIR}/torch-${SLUICE_TORCH_VERSION}/torch" NO_DEFAULT_PATH
  DOC "The torch folder of the unpacked wheel")
if(NOT SLUICE_TORCH_DIR)
  message(FATAL_ERROR "LibTorch ${SLUICE_TORCH_VERSION} is not in ${SLUICE_DEPS_DIR}: run scripts/setup, "
                      "or point -DSLUICE_TORCH_DIR at the torch folder of a Python installation")
endif()

function(sluice_import_torch name)
  add_library(${name} SHARED IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION "${SLUICE_TORCH_DIR}/lib/lib${name}.so"
                                           IMPORTED_NO_SONAME TRUE)
endfunction()
sluice_import_torch(c10)
sluice_import_torch(torch_cpu)

add_library(sluice_torch INTERFACE)
target_link_libraries(sluice_torch INTERFACE torch_cpu c10)
target_compile_options(sluice_torch INTERFACE
  "SHELL:-idirafter ${SLUICE_TORCH_DIR}/include"
  "SHELL:-idirafter ${SLUICE_TORCH_DIR}/include/torch/csrc/api/include")
# libtorch_cpu needs libraries that its own RPATH finds; the linker need not check them.
target_link_options(sluice_torch INTERFACE -Wl,--allow-shlib-undefined)
