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

# One test program a layer: sluice_test(NAME <name> SOURCES ... LINK ...), found by ctest.
function(sluice_test)
  cmake_parse_arguments(ARG "" "NAME;TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_include_directories(${ARG_NAME} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_LINK} GTest::gmock_main)
  target_compile_definitions(${ARG_NAME} PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME})
  set_tests_properties(${ARG_NAME} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
endfunction()
