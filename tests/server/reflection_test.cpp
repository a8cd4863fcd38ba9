// Server reflection over loopback, under both of its names.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "tests/server/loopback.h"

namespace sluice::server {
namespace {

using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

template <typename Protocol>
class Reflection : public ::testing::Test {
 protected:
  // The answers to several requests of one stream, which ends well.
  std::vector<ServerReflectionResponse> ask(const std::vector<ServerReflectionRequest>& requests) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kTestPatience);
    const auto stub = Protocol::NewStub(loopback_.channel());
    const auto stream = stub->ServerReflectionInfo(&context);
    std::vector<ServerReflectionResponse> answers;
    for (const ServerReflectionRequest& request : requests) {
      EXPECT_TRUE(stream->Write(request));
      EXPECT_TRUE(stream->Read(&answers.emplace_back()));
      EXPECT_EQ(answers.back().valid_host(), request.host());
      EXPECT_EQ(answers.back().original_request().SerializeAsString(), request.SerializeAsString());
    }
    stream->WritesDone();
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answers;
  }
  ServerReflectionResponse ask(const ServerReflectionRequest& request) {
    return ask(std::vector{request}).front();
  }
  static std::vector<std::string> files_of(const ServerReflectionResponse& response) {
    std::vector<std::string> names;
    for (const std::string& bytes : response.file_descriptor_response().file_descriptor_proto()) {
      google::protobuf::FileDescriptorProto file;
      EXPECT_TRUE(file.ParseFromString(bytes));
      names.push_back(file.name());
    }
    return names;
  }

  FakeService service_;
  Loopback loopback_{service_};
};

using Protocols = ::testing::Types<grpc::reflection::v1::ServerReflection,
                                   grpc::reflection::v1alpha::ServerReflection>;
TYPED_TEST_SUITE(Reflection, Protocols);

TYPED_TEST(Reflection, ListsTheServices) {
  ServerReflectionRequest request;
  request.set_host("a host");
  request.set_list_services("*");
  std::vector<std::string> names;
  const ServerReflectionResponse answer = this->ask(request);
  for (const auto& service : answer.list_services_response().service()) {
    names.push_back(service.name());
  }
  EXPECT_THAT(names,
              UnorderedElementsAre("sluice.v1.Generation", "inference.GRPCInferenceService",
                                   "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"));
}

TYPED_TEST(Reflection, ShowsFilesWithWhatTheyImport) {
  std::vector<ServerReflectionRequest> requests(4);
  requests[0].set_file_containing_symbol("sluice.v1.Generation");
  requests[1].set_file_containing_symbol("sluice.v1.GenerateRequest.prompt");
  requests[2].set_file_by_filename("inference/grpc_predict_v2.proto");
  requests[3].set_file_containing_symbol("grpc.reflection.v1.ServerReflection");
  const auto answers = this->ask(requests);
  const auto generation =
      ElementsAre("sluice/v1/generation.proto", "google/protobuf/duration.proto");
  EXPECT_THAT(this->files_of(answers[0]), generation);
  EXPECT_THAT(this->files_of(answers[1]), generation);
  EXPECT_THAT(this->files_of(answers[2]), ElementsAre("inference/grpc_predict_v2.proto"));
  EXPECT_THAT(this->files_of(answers[3]), ElementsAre("grpc/reflection/v1/reflection.proto"));
}

TYPED_TEST(Reflection, KnowsWhatExtendsAType) {
  ServerReflectionRequest request;
  request.set_all_extension_numbers_of_type("sluice.v1.GenerateRequest");
  const auto none = this->ask(request).all_extension_numbers_response();
  EXPECT_EQ(none.base_type_name(), "sluice.v1.GenerateRequest");
  EXPECT_EQ(none.extension_number_size(), 0);
}

TYPED_TEST(Reflection, AnswersWhatIsNotThereAndGoesOn) {
  std::vector<ServerReflectionRequest> requests(6);
  requests[1].set_file_by_filename("../secret");
  requests[2].set_file_containing_symbol("sluice.v1.Nothing");
  requests[3].mutable_file_containing_extension()->set_containing_type("sluice.v1.GenerateRequest");
  requests[4].set_all_extension_numbers_of_type("nothing");
  requests[5].set_file_containing_symbol(std::string(1 << 20, 'x'));
  for (const ServerReflectionResponse& answer : this->ask(requests)) {
    EXPECT_EQ(answer.error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  }
}

TYPED_TEST(Reflection, ACallIsEndedByItsClientOrWithTheServer) {
  const auto stub = TypeParam::NewStub(this->loopback_.channel());
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    const auto stream = stub->ServerReflectionInfo(&context);
    ServerReflectionRequest request;
    request.set_list_services("");
    ServerReflectionResponse answer;
    ASSERT_TRUE(stream->Write(request) && stream->Read(&answer));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  grpc::ClientContext context;
  const auto idle = stub->ServerReflectionInfo(&context);
  this->loopback_.server().shutdown(std::chrono::milliseconds(10));
  EXPECT_FALSE(idle->Finish().ok());
}

}  // namespace
}  // namespace sluice::server
