# nlohmann-json, the core's one third-party header: the system's, or that of any other folder with
# -DSLUICE_JSON_DIR.
find_path(SLUICE_JSON_DIR nlohmann/json.hpp DOC "The folder of nlohmann/json.hpp")
if(NOT SLUICE_JSON_DIR)
  message(FATAL_ERROR "There is no nlohmann/json.hpp: run scripts/setup, or point -DSLUICE_JSON_DIR "
                      "at a folder that has it")
endif()
add_library(sluice_json INTERFACE)
target_include_directories(sluice_json SYSTEM INTERFACE "${SLUICE_JSON_DIR}")
