# GoogleTest: installed, or built from a folder of its source with -DSLUICE_GTEST_SOURCE.
set(SLUICE_GTEST_SOURCE "" CACHE PATH "GoogleTest's source, where it is not installed")
if(SLUICE_GTEST_SOURCE)
  set(INSTALL_GTEST OFF)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)  # its option() keeps that
  add_subdirectory("${SLUICE_GTEST_SOURCE}" "${PROJECT_BINARY_DIR}/googletest" EXCLUDE_FROM_ALL)
else()
  find_package(GTest REQUIRED)
endif()
