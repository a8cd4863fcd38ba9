# One static library a folder of src/: sluice_layer(NAME <folder> SOURCES ... LINK ...).
function(sluice_layer)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;LINK" ${ARGN})
  if(ARG_SOURCES)
    add_library(sluice_${ARG_NAME} STATIC ${ARG_SOURCES})
    target_include_directories(sluice_${ARG_NAME} PUBLIC "${PROJECT_SOURCE_DIR}/src"
                                                         "${PROJECT_SOURCE_DIR}/include")
    target_link_libraries(sluice_${ARG_NAME} PUBLIC ${ARG_LINK} Threads::Threads)
  else()
    add_library(sluice_${ARG_NAME} INTERFACE)
    target_include_directories(sluice_${ARG_NAME} INTERFACE "${PROJECT_SOURCE_DIR}/src"
                                                            "${PROJECT_SOURCE_DIR}/include")
    target_link_libraries(sluice_${ARG_NAME} INTERFACE ${ARG_LINK} Threads::Threads)
  endif()
endfunction()

# One test program: sluice_test(NAME <name> SOURCES ... LINK ... [TIMEOUT seconds] [SANITIZED]).
# SANITIZED ones are what the asan and tsan presets build (target sanitized_tests) and run.
# COST: of tests that run side by side, those with the longest TIMEOUT start first.
add_custom_target(sanitized_tests)
function(sluice_test)
  cmake_parse_arguments(ARG "SANITIZED" "NAME;TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_include_directories(${ARG_NAME} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_LINK} GTest::gmock_main)
  target_compile_definitions(${ARG_NAME} PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(ARG_SANITIZED)
    add_dependencies(sanitized_tests ${ARG_NAME})
  endif()
  if(ARG_SANITIZED OR NOT SLUICE_SANITIZER)
    add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME})
    set_tests_properties(${ARG_NAME} PROPERTIES TIMEOUT ${ARG_TIMEOUT} COST ${ARG_TIMEOUT})
  endif()
endfunction()

# The same program on other devices (tests/device/test_device.h): sluice_device_tests(<name>
# [TIMEOUT seconds] [HOST_TESTS filter]). NAME.cuda-host runs the CUDA kernels on the host, NAME.cuda on a GPU; it skips,
# visibly, where there is none. HOST_TESTS are those that do not take minutes on the host. scripts/gpu_check builds and runs all of the latter.
add_custom_target(gpu_tests)
function(sluice_device_tests name)
  cmake_parse_arguments(ARG "" "TIMEOUT;HOST_TESTS" "" ${ARGN})
  if(SLUICE_SANITIZER)  # they leave out what links LibTorch
    return()
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(ARG_HOST_TESTS)
    set(cuda-host_arguments "--gtest_filter=${ARG_HOST_TESTS}")
  endif()
  add_dependencies(gpu_tests ${name})
  foreach(device IN ITEMS cuda-host cuda)
    add_test(NAME ${name}.${device} COMMAND ${name} ${${device}_arguments})
    set_tests_properties(${name}.${device} PROPERTIES
      ENVIRONMENT "SLUICE_TEST_DEVICE=${device}" TIMEOUT ${ARG_TIMEOUT} COST ${ARG_TIMEOUT}
      SKIP_REGULAR_EXPRESSION "this build has no CUDA;no NVIDIA driver;no GPU")
  endforeach()
  set_tests_properties(${name}.cuda-host PROPERTIES LABELS one_thread)
endfunction()

# A Python program that tests the built binary: sluice_python_test(NAME <name> SCRIPT <file>
# [TIMEOUT seconds] [ONE_THREAD]). It is called with the binary and the source folder; exit code 77
# skips, visibly. ONE_THREAD: it leaves a core to another test, most of the time, and measures nothing.
# The sanitizer builds, which have no binary, leave it out.
function(sluice_python_test)
  cmake_parse_arguments(ARG "ONE_THREAD" "NAME;SCRIPT;TIMEOUT" "" ${ARGN})
  if(SLUICE_SANITIZER)
    return()
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME ${ARG_NAME}
    COMMAND Python3::Interpreter "${CMAKE_CURRENT_SOURCE_DIR}/${ARG_SCRIPT}"
            "$<TARGET_FILE:sluice>" "${PROJECT_SOURCE_DIR}")
  set_tests_properties(${ARG_NAME} PROPERTIES TIMEOUT ${ARG_TIMEOUT} COST ${ARG_TIMEOUT}
                       SKIP_RETURN_CODE 77)
  if(ARG_ONE_THREAD)
    set_tests_properties(${ARG_NAME} PROPERTIES LABELS one_thread)
  endif()
endfunction()
