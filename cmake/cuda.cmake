# The CUDA kernels are a library of their own, libsluice_cuda.so, which nothing links: the server
# loads it where it finds a driver. It needs CUDA 13's compiler, which scripts/setup --cuda unpacks;
# a toolkit of the machine's own is taken too. Without one the server has no CUDA kernels.
find_program(SLUICE_NVCC nvcc
  HINTS "${SLUICE_DEPS_DIR}/cuda-13.0/bin" PATHS /usr/local/cuda/bin
  DOC "CUDA's compiler")
set(cuda_found OFF)
if(SLUICE_NVCC AND NOT SLUICE_SANITIZER)
  execute_process(COMMAND "${SLUICE_NVCC}" --version OUTPUT_VARIABLE nvcc_version ERROR_QUIET)
  string(REGEX MATCH "release ([0-9]+)" nvcc_version "${nvcc_version}")
  if(CMAKE_MATCH_1 GREATER_EQUAL 13)
    set(cuda_found ON)
  else()
    message(STATUS "${SLUICE_NVCC} is older than CUDA 13: no CUDA kernels (scripts/setup --cuda has one)")
  endif()
endif()
option(SLUICE_CUDA "Build libsluice_cuda.so" ${cuda_found})
if(NOT SLUICE_CUDA)
  return()
endif()
if(NOT SLUICE_NVCC)
  message(FATAL_ERROR "SLUICE_CUDA is ON, but there is no nvcc: run scripts/setup --cuda")
endif()

# Ampere (data centre, others), Ada, Hopper, Blackwell (data centre, others): N-real, or N, which adds
# intermediate code that other devices compile when they load it.
set(SLUICE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120 CACHE STRING
    "What the CUDA kernels are compiled for")

# Making intermediate code is half of the compiler's work, so architectures share it where it is the
# same: intrinsics.cuh asks for 89 and 90, and for 100 the compiler has another optimizer.
function(sluice_cuda_code_flags result)
  set(intermediate 80 89 90 100)
  set(flags)
  foreach(compute IN LISTS intermediate)
    set(codes_${compute})
  endforeach()
  foreach(architecture IN LISTS SLUICE_CUDA_ARCHITECTURES)
    if(NOT architecture MATCHES "^([0-9]+)(-real)?$" OR CMAKE_MATCH_1 LESS 80)
      message(FATAL_ERROR "SLUICE_CUDA_ARCHITECTURES: ${architecture} is not N or N-real with N of 80 or more")
    endif()
    set(number ${CMAKE_MATCH_1})
    foreach(candidate IN LISTS intermediate)
      if(candidate LESS_EQUAL number)
        set(compute ${candidate})
      endif()
    endforeach()
    list(APPEND codes_${compute} sm_${number})
    if(NOT architecture MATCHES "-real$")
      list(APPEND codes_${compute} compute_${compute})
    endif()
  endforeach()
  foreach(compute IN LISTS intermediate)
    if(codes_${compute})
      list(JOIN codes_${compute} "," codes)
      list(APPEND flags "--generate-code=arch=compute_${compute},code=[${codes}]")
    endif()
  endforeach()
  set(${result} "${flags}" PARENT_SCOPE)
endfunction()
sluice_cuda_code_flags(SLUICE_CUDA_CODE_FLAGS)

set(CMAKE_CUDA_COMPILER "${SLUICE_NVCC}")
set(CMAKE_CUDA_ARCHITECTURES OFF)  # the flags above
set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
enable_language(CUDA)
