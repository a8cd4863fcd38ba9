#pragma once

#include <string_view>
#include <vector>

namespace sluice::server {

struct PageFile {
  std::string_view name;  // "index.html"
  std::string_view content;
};

// The files of src/server/http/page, as they were when the server was built.
const std::vector<PageFile>& page_files();

}  // namespace sluice::server
