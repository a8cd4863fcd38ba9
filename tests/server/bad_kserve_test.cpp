// Bad input through KServe that no table row can say: bytes, tensors, streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/server/bad_input.h"
#include "tests/server/kserve_support.h"
#include "tests/server/raw_call.h"

namespace sluice::server {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class BadKserve : public BadInput {
 protected:
  static ModelInferRequest request_of(const std::string& text) {
    ModelInferRequest request;
    add_input(request, "text_input", text);
    (*request.mutable_parameters())["max_tokens"].set_int64_param(2);
    return request;
  }
  static grpc::Status infer(const ModelInferRequest& request) {
    grpc::ClientContext context;
    ModelInferResponse response;
    return kserve_->ModelInfer(&context, request, &response);
  }
  // The bytes as the message of a call, and as one of a stream that must go on behind it.
  static void refuse_bytes(const std::string& name, const std::string& bytes, ErrorCode code,
                           const std::string& words) {
    beside_a_neighbour("KServe: " + name, [&] {
      expect_error(call_raw_path(*loopback_, kPath + "ModelInfer", bytes), code, words);
    });
    beside_a_neighbour("KServe stream: " + name, [&] {
      const std::vector<std::string> errors = stream_errors(bytes);
      ASSERT_EQ(errors.size(), 2u);
      EXPECT_THAT(errors[0], StartsWith(to_string(code)));
      EXPECT_THAT(errors[0], HasSubstr(words));
      EXPECT_EQ(errors[1], "") << "the next request of the stream is served";
    });
  }
  // The error messages of the last answer to `bytes` and to a good request behind it.
  static std::vector<std::string> stream_errors(const std::string& bytes) {
    const std::string path = kPath + "ModelStreamInfer";
    const grpc::internal::RpcMethod method(path.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING);
    grpc::ClientContext context;
    const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
        grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
            loopback_->channel().get(), method, &context));
    std::vector<std::string> errors;
    for (const std::string& message : {bytes, request_of("good").SerializeAsString()}) {
      grpc::Slice slice(message);
      EXPECT_TRUE(stream->Write(grpc::ByteBuffer(&slice, 1)));
      grpc::ByteBuffer answer;
      EXPECT_TRUE(stream->Read(&answer));
      grpc::Slice whole;
      ModelStreamInferResponse response;
      EXPECT_TRUE(answer.DumpToSingleSlice(&whole).ok() &&
                  response.ParseFromArray(whole.begin(), static_cast<int>(whole.size())));
      errors.push_back(response.error_message());
    }
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
    return errors;
  }

  static inline const std::string kPath = "/inference.GRPCInferenceService/";
};

TEST_F(BadKserve, BytesThatAreNoRequest) {
  for (const std::string& bytes :
       {std::string("\x2A\x7F") + "short", std::string("\x2A\xFF\xFF\xFF\xFF\x0F"),
        std::string(1, '\0'), std::string(1, '\x2A'), std::string(200, '\x0B'),
        std::string("\x0F\x01\x02")}) {
    refuse_bytes(::testing::PrintToString(bytes), bytes, ErrorCode::kInternal,
                 "is not a inference.ModelInferRequest");
  }
  const std::string good = request_of("a").SerializeAsString();
  for (size_t cut = 3; cut + 1 < good.size(); cut += 9) {
    beside_a_neighbour("KServe: cut after " + std::to_string(cut), [&] {
      EXPECT_FALSE(call_raw_path(*loopback_, kPath + "ModelInfer", good.substr(0, cut)).ok());
    });
  }
  std::mt19937 draw(21);
  for (int i = 0; i < 30; ++i) {
    std::string bytes = good;
    for (int flips = 0; flips < 3; ++flips) bytes[draw() % bytes.size()] ^= 1 << draw() % 8;
    beside_a_neighbour("KServe: flipped " + std::to_string(i), [&] {
      call_raw_path(*loopback_, kPath + "ModelInfer", bytes);
      EXPECT_EQ(stream_errors(bytes).back(), "");
    });
  }
}

TEST_F(BadKserve, TextThatIsNotUtf8) {
  for (const char* text : {"a\x80", "\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xFF",
                           "\xF4\x90\x80\x80", "\xE4\xBA"}) {
    const std::string shown = ::testing::PrintToString(text);
    refuse_bytes("text_input " + shown, request_of(text).SerializeAsString(),
                 ErrorCode::kInvalidArgument, "text_input is not");
    refuse_bytes("model_name " + shown, string_field(1, text), ErrorCode::kInvalidArgument,
                 "model_name is not UTF-8");
    refuse_bytes("a parameter's name " + shown, string_field(4, string_field(1, text)),
                 ErrorCode::kInvalidArgument, "parameters.key is not UTF-8");
    ModelInferRequest stop = request_of("a");
    *stop.add_inputs() = stop.inputs(0);
    stop.mutable_inputs(1)->set_name("stop");
    stop.mutable_inputs(1)->mutable_contents()->set_bytes_contents(0, text);
    refuse_bytes("stop " + shown, stop.SerializeAsString(), ErrorCode::kInvalidArgument,
                 "stop[0] is not");
    stop.mutable_inputs(1)->set_name("sampling_parameters");
    refuse_bytes("sampling_parameters " + shown, stop.SerializeAsString(),
                 ErrorCode::kInvalidArgument, "sampling_parameters: ");
  }
}

TEST_F(BadKserve, TensorsAndParametersThatAreNone) {
  using Change = std::function<void(ModelInferRequest&)>;
  const auto refuse = [](const std::string& name, ErrorCode code, const std::string& words,
                         const Change& change) {
    ModelInferRequest request = request_of("a");
    change(request);
    refuse_bytes(name, request.SerializeAsString(), code, words);
  };
  constexpr auto kInvalid = ErrorCode::kInvalidArgument;
  using M = ModelInferRequest;
  refuse("a shape of 2^62 times four", kInvalid, "shape of text_input", [](M& m) {
    for (int i = 0; i < 4; ++i) m.mutable_inputs(0)->add_shape(int64_t{1} << 62);
  });
  refuse("a negative shape", kInvalid, "shape of text_input",
         [](M& m) { m.mutable_inputs(0)->set_shape(0, -1); });
  refuse("ten thousand dimensions", kInvalid, "shape of text_input", [](M& m) {
    for (int i = 0; i < 10'000; ++i) m.mutable_inputs(0)->add_shape(2);
  });
  refuse("an unknown datatype", kInvalid, "datatype",
         [](M& m) { m.mutable_inputs(0)->set_datatype("BF16"); });
  refuse("a length of 4 GiB in raw bytes", kInvalid, "are no BYTES elements", [](M& m) {
    m.mutable_inputs(0)->clear_contents();
    m.add_raw_input_contents("\xFF\xFF\xFF\xFF");
  });
  refuse("shared memory", ErrorCode::kUnimplemented, "shared memory", [](M& m) {
    (*m.mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("x");
  });
  refuse("an unknown input", kInvalid, "unknown parameter",
         [](M& m) { m.mutable_inputs(0)->set_name(std::string(1 << 20, 'n')); });
  refuse("control characters in a name", kInvalid, "unknown parameter \"?[31m??\"",
         [](M& m) { m.mutable_inputs(0)->set_name("\x1B[31m\r\n"); });
  refuse("an input twice", kInvalid, "given twice", [](M& m) {
    *m.add_inputs() = m.inputs(0);
    m.mutable_inputs(1)->mutable_contents()->set_bytes_contents(0, "b");
  });
  refuse("another version", ErrorCode::kNotFound, "model_version",
         [](M& m) { m.set_model_version("../1"); });
  for (const std::string json : {"{", "[]", "1", R"({"top_p": 1, "top_p": 1})",
                                 R"({"top_p": 1e999})", R"({"sampling_parameters": "{}"})"}) {
    refuse("sampling_parameters " + json, kInvalid, "",
           [&](M& m) { (*m.mutable_parameters())["sampling_parameters"].set_string_param(json); });
  }
  for (const size_t depth : {100, 10'000, 1'000'000}) {
    refuse("sampling_parameters " + std::to_string(depth) + " deep", kInvalid, "nested", [&](M& m) {
      (*m.mutable_parameters())["sampling_parameters"].set_string_param(
          "{\"stop\": " + std::string(depth, '[') + std::string(depth, ']') + "}");
    });
  }
  for (const char* name : {"lora_weights", "guided_decoding_guide", "image", "sequence_id",
                           "prompt_embedding_table", "embedding_bias_words"}) {
    refuse(name, ErrorCode::kUnimplemented, name,
           [&](M& m) { (*m.mutable_parameters())[name].set_int64_param(1); });
  }
}

TEST_F(BadKserve, OtherMethodsAndLimits) {
  for (const char* method : {"ModelConfig", "RepositoryIndex", "RepositoryModelLoad", "LogSettings",
                             "SystemSharedMemoryRegister", "CudaSharedMemoryRegister"}) {
    beside_a_neighbour(std::string("KServe: ") + method, [&] {
      expect_error(call_raw_path(*loopback_, kPath + method, ""), ErrorCode::kUnimplemented, "");
    });
  }
  for (const char* method : {"ServerLive", "ServerReady", "ModelReady", "ModelMetadata"}) {
    beside_a_neighbour(std::string("KServe: random bytes for ") + method, [&] {
      expect_error(call_raw_path(*loopback_, kPath + method, "\x0F\x01"), ErrorCode::kInternal,
                   "is not a inference.");
    });
  }
  beside_a_neighbour("KServe: one byte over the message limit", [&] {
    expect_error(infer(request_of(std::string(kMaxMessageBytes, 'x'))),
                 ErrorCode::kResourceExhausted, "");
  });
  for (const auto time : {std::chrono::milliseconds(-1000), std::chrono::milliseconds(0),
                          std::chrono::milliseconds(1), std::chrono::milliseconds(5)}) {
    beside_a_neighbour("KServe: deadline in " + std::to_string(time.count()) + " ms", [&] {
      ModelInferRequest request = request_of("A long");
      (*request.mutable_parameters())["max_tokens"].set_int64_param(200);
      (*request.mutable_parameters())["ignore_eos"].set_bool_param(true);
      (*request.mutable_parameters())["n"].set_int64_param(8);
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + time);
      ModelInferResponse response;
      expect_error(kserve_->ModelInfer(&context, request, &response), ErrorCode::kDeadlineExceeded,
                   "");
    });
  }
}

TEST_F(BadKserve, ClientsThatGoAwayAndIdsThatAreAlive) {
  ModelInferRequest request = request_of("A long");
  request.set_id("twice");
  (*request.mutable_parameters())["max_tokens"].set_int64_param(400);
  (*request.mutable_parameters())["ignore_eos"].set_bool_param(true);
  (*request.mutable_parameters())["stream"].set_bool_param(true);
  for (int num_answers = 0; num_answers < 8; ++num_answers) {
    beside_a_neighbour("KServe stream: cancel after " + std::to_string(num_answers), [&] {
      grpc::ClientContext context;
      const auto stream = kserve_->ModelStreamInfer(&context);
      ModelInferRequest other = request;
      other.set_id("cancel " + std::to_string(num_answers));
      stream->Write(other);
      ModelStreamInferResponse response;
      for (int i = 0; i < num_answers; ++i) stream->Read(&response);
      context.TryCancel();
      expect_error(stream->Finish(), ErrorCode::kCancelled, "");
    });
  }
  beside_a_neighbour("KServe: a live id again", [&] {
    grpc::ClientContext context;
    const auto stream = kserve_->ModelStreamInfer(&context);
    stream->Write(request);
    ModelStreamInferResponse response;
    ASSERT_TRUE(stream->Read(&response));
    ModelInferRequest again = request_of("a");
    again.set_id("twice");
    expect_error(infer(again), ErrorCode::kAlreadyExists, "");
    context.TryCancel();
    stream->Finish();
  });
}

}  // namespace
}  // namespace sluice::server
