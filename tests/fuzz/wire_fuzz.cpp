// Bytes that should be a message on the wire, the first thing of a client's that code of ours
// reads.
//
// An input is taken as it is, and, where it is a message in protobuf's text format, as that
// message's bytes with one byte changed after the other.
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "inference/grpc_predict_v2.pb.h"
#include "server/grpc/wire.h"
#include "sluice/v1/generation.pb.h"
#include "tests/fuzz/driver.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  using namespace std::string_view_literals;
  static constexpr std::array<std::string_view, 14> kWords = {
      "\x0a",
      "\x12",
      "\x1a\x00"sv,
      "\x0a\xff\xff\xff\xff\x0f",
      "\x0b\x0c",
      "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
      "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
      "\xc0\x80",
      "\xed\xa0\x80",
      "\xf4\x90\x80\x80",
      "\xe2\x82",
      "\x0a\x03\xe2\x82\xac",
      "prompt: \"a\"",
      "model_name: \"m\""};
  return kWords;
}

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

grpc::ByteBuffer as_buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// Every text in the message, and in the messages in it.
bool is_all_utf8(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const bool is_text = field->type() == FieldDescriptor::TYPE_STRING;
    if (!is_text && field->type() != FieldDescriptor::TYPE_MESSAGE) continue;
    const int size = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < size; ++i) {
      if (!is_text) {
        const Message& inner = field->is_repeated()
                                   ? reflection.GetRepeatedMessage(message, field, i)
                                   : reflection.GetMessage(message, field);
        if (!is_all_utf8(inner)) return false;
        continue;
      }
      const std::string text = field->is_repeated()
                                   ? reflection.GetRepeatedString(message, field, i)
                                   : reflection.GetString(message, field);
      if (find_ill_formed_utf8(text) != std::string::npos) return false;
    }
  }
  return true;
}

template <typename Type>
void read(const std::string& bytes) {
  Type message;
  const auto parsed = server::parse_message(as_buffer(bytes), message);
  if (!parsed) {
    const std::string& reason = parsed.error().message;
    require(!reason.empty() && find_ill_formed_utf8(reason) == std::string::npos,
            "a refusal says why");
    return;
  }
  require(is_all_utf8(message), "every text that passes is UTF-8");
  Type again;
  require(again.ParseFromString(message.SerializeAsString()), "what is read can be written");
}

template <typename Type>
void read_changed(std::string_view text) {
  google::protobuf::TextFormat::Parser parser;
  parser.SetRecursionLimit(32);
  Type message;
  if (!parser.ParseFromString(std::string(text), &message)) return;
  std::string bytes = message.SerializeAsString();
  read<Type>(bytes);
  constexpr size_t kMostChanges = 64;
  const size_t step = std::max<size_t>(1, bytes.size() / kMostChanges);
  for (size_t at = 0; at < bytes.size(); at += step) {
    const char before = bytes[at];
    for (const char change : {'\x01', '\x80', '\x7f'}) {
      bytes[at] = static_cast<char>(before ^ change);
      read<Type>(bytes);
    }
    bytes[at] = before;
  }
}

}  // namespace
}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::fuzz;
  [[maybe_unused]] static const auto kLog = google::protobuf::SetLogHandler(nullptr);
  const std::string bytes(as_text(data, size));
  read<sluice::v1::GenerateRequest>(bytes);
  read<inference::ModelInferRequest>(bytes);
  read_changed<sluice::v1::GenerateRequest>(bytes);
  read_changed<inference::ModelInferRequest>(bytes);
  return 0;
}
