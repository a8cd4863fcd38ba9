#include "server/grpc/wire.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace sluice::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;

struct InvalidField {
  std::string name;
  size_t byte_position = 0;
};

// Looks at the string fields of the message and of the messages in it; the types of requests do not
// nest in themselves, so that the depth is theirs. What is not well-formed is left for the parser
// to refuse.
std::optional<InvalidField> find_invalid_string(const Descriptor& type, std::string_view bytes) {
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const uint8_t*>(bytes.data()),
                                               static_cast<int>(bytes.size()));
  while (const uint32_t tag = input.ReadTag()) {
    const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    const bool is_read =
        field != nullptr &&
        (field->type() == FieldDescriptor::TYPE_STRING ||
         field->type() == FieldDescriptor::TYPE_MESSAGE) &&
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (!is_read) {
      if (!WireFormatLite::SkipField(&input, tag)) return std::nullopt;
      continue;
    }
    uint32_t size = 0;
    if (!input.ReadVarint32(&size)) return std::nullopt;
    const auto begin = static_cast<size_t>(input.CurrentPosition());
    if (size > bytes.size() - begin) return std::nullopt;
    const std::string_view content = bytes.substr(begin, size);
    if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      if (auto inner = find_invalid_string(*field->message_type(), content)) {
        inner->name = field->name() + "." + inner->name;
        return inner;
      }
    } else if (const size_t position = find_ill_formed_utf8(content);
               position != std::string_view::npos) {
      return InvalidField{field->name(), position};
    }
    input.Skip(static_cast<int>(size));
  }
  return std::nullopt;
}

}  // namespace

std::expected<void, Error> parse_message(const grpc::ByteBuffer& buffer,
                                         google::protobuf::Message& message) {
  const Descriptor& type = *message.GetDescriptor();
  const auto malformed = [&] {
    return fail(ErrorCode::kInternal, "request is not a " + type.full_name() + " message");
  };
  grpc::Slice slice;
  if (!buffer.DumpToSingleSlice(&slice).ok()) return malformed();
  const std::string_view bytes(reinterpret_cast<const char*>(slice.begin()), slice.size());
  if (const auto invalid = find_invalid_string(type, bytes)) {
    return invalid_argument(invalid->name + " is not UTF-8: byte " +
                            std::to_string(invalid->byte_position) + " starts no character");
  }
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return malformed();
  return {};
}

grpc::ByteBuffer serialize_message(const google::protobuf::Message& message) {
  grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace sluice::server
