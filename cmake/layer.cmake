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
    set_tests_properties(${ARG_NAME} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  endif()
endfunction()

# A Python program that tests the built binary: sluice_python_test(NAME <name> SCRIPT <file>
# [TIMEOUT seconds]). It is called with the binary and the source folder; exit code 77 skips, visibly.
# The sanitizer builds, which have no binary, leave it out.
function(sluice_python_test)
  cmake_parse_arguments(ARG "" "NAME;SCRIPT;TIMEOUT" "" ${ARGN})
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
  set_tests_properties(${ARG_NAME} PROPERTIES TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77)
endfunction()
