#include "server/grpc/reflection_service.h"

#include <google/protobuf/descriptor.h>

#include <array>
#include <set>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "inference/grpc_predict_v2.grpc.pb.h"
#include "server/grpc/caller.h"
#include "server/grpc/wire.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;

constexpr std::array kServices = {v1::Generation::service_full_name(),
                                  inference::GRPCInferenceService::service_full_name(),
                                  grpc::health::v1::Health::service_full_name(),
                                  grpc::reflection::v1::ServerReflection::service_full_name()};

const FileDescriptor* find_file(const ServerReflectionRequest& request) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  switch (request.message_request_case()) {
    case ServerReflectionRequest::kFileByFilename:
      return pool.FindFileByName(request.file_by_filename());
    case ServerReflectionRequest::kFileContainingSymbol:
      return pool.FindFileContainingSymbol(request.file_containing_symbol());
    case ServerReflectionRequest::kFileContainingExtension: {
      const auto& wanted = request.file_containing_extension();
      const Descriptor* type = pool.FindMessageTypeByName(wanted.containing_type());
      if (type == nullptr) return nullptr;
      const FieldDescriptor* field = pool.FindExtensionByNumber(type, wanted.extension_number());
      return field == nullptr ? nullptr : field->file();
    }
    default:
      return nullptr;
  }
}

// The file, which clients take to be the first, and those that it imports.
void add_file(const FileDescriptor& file, std::set<const FileDescriptor*>& added,
              grpc::reflection::v1::FileDescriptorResponse& response) {
  if (!added.insert(&file).second) return;
  google::protobuf::FileDescriptorProto described;
  file.CopyTo(&described);
  response.add_file_descriptor_proto(described.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) add_file(*file.dependency(i), added, response);
}

bool add_extension_numbers(const std::string& type_name,
                           grpc::reflection::v1::ExtensionNumberResponse& response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  const Descriptor* type = pool.FindMessageTypeByName(type_name);
  if (type == nullptr) return false;
  response.set_base_type_name(type_name);
  std::vector<const FieldDescriptor*> extensions;
  pool.FindAllExtensions(type, &extensions);
  for (const FieldDescriptor* extension : extensions) {
    response.add_extension_number(extension->number());
  }
  return true;
}

ServerReflectionResponse answer_of(const ServerReflectionRequest& request) {
  ServerReflectionResponse response;
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  if (request.has_list_services()) {
    auto& list = *response.mutable_list_services_response();
    for (const char* name : kServices) list.add_service()->set_name(name);
    return response;
  }
  if (request.has_all_extension_numbers_of_type() &&
      add_extension_numbers(request.all_extension_numbers_of_type(),
                            *response.mutable_all_extension_numbers_response())) {
    return response;
  }
  if (const FileDescriptor* file = find_file(request)) {
    std::set<const FileDescriptor*> added;
    add_file(*file, added, *response.mutable_file_descriptor_response());
    return response;
  }
  response.mutable_error_response()->set_error_code(grpc::StatusCode::NOT_FOUND);
  response.mutable_error_response()->set_error_message("this server has nothing of that name");
  return response;
}

// Answers one request after the other.
class Reflection final : public RawBidiReactor {
 public:
  Reflection(const Result<void>& allowed, FailedCalls& failed) : failed_(failed) {
    if (allowed) {
      StartRead(&request_);
    } else {
      Finish(failed_.end(allowed.error()));
    }
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    ServerReflectionRequest request;
    if (const auto parsed = parse_message(request_, request); !parsed) {
      return Finish(failed_.end(parsed.error()));
    }
    response_ = serialize_message(answer_of(request));
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  ~Reflection() override = default;

  FailedCalls& failed_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
};

Result<void> check(const grpc::CallbackServerContext& context, bool is_on, const ApiKeys* keys) {
  if (const Result<Client> client = client_of(context, keys); !client) {
    return std::unexpected(client.error());
  }
  if (is_on) return {};
  return fail(ErrorCode::kPermissionDenied, "reflection is off on this server");
}

}  // namespace

RawBidiReactor* answer_reflection(const grpc::CallbackServerContext& context, bool is_on,
                                  const ApiKeys* keys, FailedCalls& failed) {
  return new Reflection(check(context, is_on, keys), failed);
}

}  // namespace sluice::server
