// Every row of tests/bad_inputs/access.json: what each listener says to the right key, and to none
// and wrong ones.
#include <fstream>
#include <map>

#include "base/json.h"
#include "base/sha256.h"
#include "server/admin/admin_server.h"
#include "tests/server/access/temporary_folder.h"
#include "tests/server/bad_input.h"
#include "tests/server/raw_call.h"
#include "tests/server/raw_http.h"

namespace sluice::server {
namespace {

// A port and how it is asked: the answer as the name of a gRPC code.
using Ask = std::function<std::string(const std::string& call, const std::string& key)>;

Ask ask_grpc(Loopback& loopback) {
  return [&loopback](const std::string& call, const std::string& key) {
    // The message: list_services of reflection; the other methods have no such field.
    const grpc::Status status =
        call_raw_path(loopback, call, string_field(7, ""), call.ends_with("ReflectionInfo"), key);
    return status.ok() ? "OK" : to_string(from_status(status).code);
  };
}

Ask ask_http(int port) {
  return [port](const std::string& call, const std::string& key) {
    RawHttp http(port);
    http.send(call + " HTTP/1.1\r\nHost: x\r\n" +
              (key.empty() ? "" : "Authorization: Bearer " + key + "\r\n") +
              "Content-Length: 0\r\n\r\n");
    return code_of(http.read(!call.starts_with("HEAD")).status);
  };
}

TEST_F(BadInput, EveryRowOfAccessThroughItsListener) {
  TemporaryFolder folder;
  folder.write("keys", sha256_hex("right-key") + " alice\n");
  auto loaded = ApiKeys::load(folder / "keys", [](const std::string&) {});
  ASSERT_TRUE(loaded.has_value());
  const std::shared_ptr<const ApiKeys> keys = *std::move(loaded);

  Loopback grpc(*service_, {.api_keys = keys});
  Loopback without_reflection(*service_, {.reflection = false, .api_keys = keys});
  HttpFrontEndOptions options;
  options.server.address = "127.0.0.1:0";
  options.api_keys = keys;
  const auto http = HttpFrontEnd::start(options, *service_);
  ASSERT_TRUE(http) << http.error().message;
  const auto admin = AdminServer::start("127.0.0.1:0", service_->metrics());
  ASSERT_TRUE(admin) << admin.error().message;
  const auto count = [&](const char* name, const char* label, const char* value) {
    return service_->metrics().counter({name, "", {{label, value}}}).value();
  };
  const auto num_refused = [&] {
    return count("sluice_grpc_failed_calls_total", "code", "UNAUTHENTICATED") +
           count("sluice_http_answers_total", "status", "401");
  };
  const std::map<std::string, Ask> listeners = {
      {"gRPC", ask_grpc(grpc)},
      {"gRPC without reflection", ask_grpc(without_reflection)},
      {"HTTP", ask_http((*http)->port())},
      {"admin", ask_http((*admin)->port())}};

  std::ifstream file(std::string(SLUICE_SOURCE_DIR) + "/tests/bad_inputs/access.json");
  const Json rows = Json::parse(file);
  ASSERT_GE(rows.size(), 20u);
  for (const Json& row : rows) {
    const std::string listener = row["listener"];
    const std::string call = row["call"];
    const std::string code = row["code"];
    for (const char* key : {"right-key", "right-kez", "right-key2", "x", ""}) {
      beside_a_neighbour(listener + ": " + call + " with key \"" + key + '"', [&] {
        const bool is_let_in = key == std::string("right-key") || listener == "admin";
        const int64_t before = num_refused();
        EXPECT_EQ(listeners.at(listener)(call, key), is_let_in ? code : "UNAUTHENTICATED");
        const bool counts = !is_let_in || (code == "UNAUTHENTICATED" && listener != "admin");
        EXPECT_EQ(num_refused() - before, counts ? 1 : 0);
      });
    }
  }
}

}  // namespace
}  // namespace sluice::server
