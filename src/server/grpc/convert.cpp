#include "server/grpc/convert.h"

#include <google/protobuf/duration.pb.h>

#include <chrono>
#include <utility>

#include "base/clock.h"
#include "server/grpc/convert_chat.h"

namespace sluice::server {
namespace {

using google::protobuf::Duration;

void set_duration(std::chrono::nanoseconds time, Duration& message) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
  message.set_seconds(seconds.count());
  message.set_nanos(static_cast<int32_t>((time - seconds).count()));
}

int64_t to_milliseconds(std::chrono::nanoseconds time) {
  return std::chrono::floor<std::chrono::milliseconds>(time).count();
}

std::chrono::nanoseconds to_nanoseconds(const Duration& message) {
  return std::chrono::seconds(message.seconds()) + std::chrono::nanoseconds(message.nanos());
}

v1::FinishReason to_proto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kDeadline:
      return v1::FINISH_REASON_DEADLINE;
    case FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

FinishReason from_proto(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return FinishReason::kStop;
    case v1::FINISH_REASON_LENGTH:
      return FinishReason::kLength;
    case v1::FINISH_REASON_CANCELLED:
      return FinishReason::kCancelled;
    case v1::FINISH_REASON_DEADLINE:
      return FinishReason::kDeadline;
    default:
      return FinishReason::kError;
  }
}

void fill(TokenLogprob&& from, v1::TokenLogprob& to) {
  to.set_token_id(from.token_id);
  to.set_logprob(from.logprob);
  to.set_text(std::move(from.text));
}

TokenLogprob from_proto(v1::TokenLogprob&& from) {
  return {from.token_id(), from.logprob(), std::move(*from.mutable_text())};
}

}  // namespace

Result<GenerateRequest> from_proto(v1::GenerateRequest&& message) {
  GenerateRequest request;
  request.request_id = std::move(*message.mutable_request_id());
  request.model = std::move(*message.mutable_model());
  if (message.has_prompt()) request.prompt = std::move(*message.mutable_prompt());
  if (message.token_ids_size() > 0) {
    request.token_ids.emplace(message.token_ids().begin(), message.token_ids().end());
  }
  if (message.has_chat()) {
    auto chat = chat_from_proto(std::move(*message.mutable_chat()));
    if (!chat) return std::unexpected(chat.error());
    request.chat = std::move(*chat);
  }
  if (message.has_max_tokens()) request.max_tokens = message.max_tokens();
  if (message.has_min_tokens()) request.min_tokens = message.min_tokens();
  if (message.has_n()) request.n = message.n();
  if (message.has_temperature()) request.temperature = message.temperature();
  if (message.has_top_p()) request.top_p = message.top_p();
  if (message.has_top_k()) request.top_k = message.top_k();
  if (message.has_min_p()) request.min_p = message.min_p();
  if (message.has_repetition_penalty()) request.repetition_penalty = message.repetition_penalty();
  if (message.has_presence_penalty()) request.presence_penalty = message.presence_penalty();
  if (message.has_frequency_penalty()) request.frequency_penalty = message.frequency_penalty();
  request.logit_bias.reserve(static_cast<size_t>(message.logit_bias_size()));
  for (const v1::LogitBias& entry : message.logit_bias()) {
    request.logit_bias.push_back({entry.token_id(), entry.bias()});
  }
  if (message.has_seed()) request.seed = message.seed();
  request.stop.assign(message.stop().begin(), message.stop().end());
  request.stop_token_ids.assign(message.stop_token_ids().begin(), message.stop_token_ids().end());
  if (message.has_ignore_eos()) request.ignore_eos = message.ignore_eos();
  if (message.has_echo()) request.echo = message.echo();
  if (message.has_skip_special_tokens()) {
    request.skip_special_tokens = message.skip_special_tokens();
  }
  if (message.has_logprobs()) request.logprobs = message.logprobs();
  if (message.has_prompt_logprobs()) request.prompt_logprobs = message.prompt_logprobs();
  if (message.has_ttft_ms()) request.ttft_limit = base::from_milliseconds(message.ttft_ms());
  if (message.has_total_ms()) request.total_limit = base::from_milliseconds(message.total_ms());
  return request;
}

v1::GenerateRequest to_proto(const GenerateRequest& request) {
  v1::GenerateRequest message;
  message.set_request_id(request.request_id);
  message.set_model(request.model);
  if (request.prompt) message.set_prompt(*request.prompt);
  if (request.token_ids) {
    message.mutable_token_ids()->Add(request.token_ids->begin(), request.token_ids->end());
  }
  if (request.chat) *message.mutable_chat() = to_proto(*request.chat);
  if (request.max_tokens) message.set_max_tokens(*request.max_tokens);
  if (request.min_tokens) message.set_min_tokens(*request.min_tokens);
  if (request.n) message.set_n(*request.n);
  if (request.temperature) message.set_temperature(*request.temperature);
  if (request.top_p) message.set_top_p(*request.top_p);
  if (request.top_k) message.set_top_k(*request.top_k);
  if (request.min_p) message.set_min_p(*request.min_p);
  if (request.repetition_penalty) message.set_repetition_penalty(*request.repetition_penalty);
  if (request.presence_penalty) message.set_presence_penalty(*request.presence_penalty);
  if (request.frequency_penalty) message.set_frequency_penalty(*request.frequency_penalty);
  for (const LogitBias& entry : request.logit_bias) {
    v1::LogitBias& added = *message.add_logit_bias();
    added.set_token_id(entry.token_id);
    added.set_bias(entry.bias);
  }
  if (request.seed) message.set_seed(*request.seed);
  message.mutable_stop()->Add(request.stop.begin(), request.stop.end());
  message.mutable_stop_token_ids()->Add(request.stop_token_ids.begin(),
                                        request.stop_token_ids.end());
  message.set_ignore_eos(request.ignore_eos);
  message.set_echo(request.echo);
  message.set_skip_special_tokens(request.skip_special_tokens);
  if (request.logprobs) message.set_logprobs(*request.logprobs);
  if (request.prompt_logprobs) message.set_prompt_logprobs(*request.prompt_logprobs);
  if (request.ttft_limit) message.set_ttft_ms(to_milliseconds(*request.ttft_limit));
  if (request.total_limit) message.set_total_ms(to_milliseconds(*request.total_limit));
  return message;
}

v1::GenerateResponse to_proto(GenerateChunk&& chunk) {
  v1::GenerateResponse message;
  message.set_index(chunk.index);
  message.set_is_prompt(chunk.is_prompt);
  message.set_text(std::move(chunk.text));
  message.mutable_token_ids()->Add(chunk.token_ids.begin(), chunk.token_ids.end());
  for (PositionLogprobs& at : chunk.logprobs) {
    v1::PositionLogprobs& added = *message.add_logprobs();
    fill(std::move(at.token), *added.mutable_token());
    for (TokenLogprob& candidate : at.top) fill(std::move(candidate), *added.add_top());
  }
  if (chunk.finish_reason) message.set_finish_reason(to_proto(*chunk.finish_reason));
  if (chunk.stop_reason) message.set_stop_reason(std::move(*chunk.stop_reason));
  return message;
}

GenerateChunk chunk_from_proto(v1::GenerateResponse&& message) {
  GenerateChunk chunk;
  chunk.index = message.index();
  chunk.is_prompt = message.is_prompt();
  chunk.text = std::move(*message.mutable_text());
  chunk.token_ids.assign(message.token_ids().begin(), message.token_ids().end());
  for (v1::PositionLogprobs& at : *message.mutable_logprobs()) {
    PositionLogprobs& added = chunk.logprobs.emplace_back();
    added.token = from_proto(std::move(*at.mutable_token()));
    for (v1::TokenLogprob& candidate : *at.mutable_top()) {
      added.top.push_back(from_proto(std::move(candidate)));
    }
  }
  if (message.has_finish_reason()) chunk.finish_reason = from_proto(message.finish_reason());
  if (message.has_stop_reason()) chunk.stop_reason = std::move(*message.mutable_stop_reason());
  return chunk;
}

void add_summary(const GenerateSummary& summary, v1::GenerateResponse& message) {
  v1::Usage& usage = *message.mutable_usage();
  usage.set_prompt_tokens(summary.usage.prompt_tokens);
  usage.set_cached_tokens(summary.usage.cached_tokens);
  usage.set_completion_tokens(summary.usage.completion_tokens);
  set_duration(summary.usage.queue_time, *usage.mutable_queue_time());
  set_duration(summary.usage.prefill_time, *usage.mutable_prefill_time());
  set_duration(summary.usage.decode_time, *usage.mutable_decode_time());
  message.set_request_id(summary.request_id);
  message.set_seed(summary.seed);
  message.set_profile(summary.profile);
  message.set_digest(summary.digest);
}

GenerateSummary summary_from_proto(const v1::GenerateResponse& message) {
  GenerateSummary summary;
  summary.request_id = message.request_id();
  summary.seed = message.seed();
  summary.profile = message.profile();
  summary.digest = message.digest();
  summary.usage.prompt_tokens = message.usage().prompt_tokens();
  summary.usage.cached_tokens = message.usage().cached_tokens();
  summary.usage.completion_tokens = message.usage().completion_tokens();
  summary.usage.queue_time = to_nanoseconds(message.usage().queue_time());
  summary.usage.prefill_time = to_nanoseconds(message.usage().prefill_time());
  summary.usage.decode_time = to_nanoseconds(message.usage().decode_time());
  return summary;
}

v1::ModelInfo to_proto(const ModelInfo& model) {
  v1::ModelInfo message;
  message.set_name(model.name);
  message.set_family(model.family);
  message.set_digest(model.digest);
  message.set_dtype(model.dtype);
  message.set_profile(model.profile);
  message.set_num_parameters(model.num_parameters);
  message.set_vocabulary_size(model.vocabulary_size);
  message.set_context_length(model.context_length);
  message.set_has_tokenizer(model.has_tokenizer);
  message.mutable_end_token_ids()->Add(model.end_token_ids.begin(), model.end_token_ids.end());
  message.set_kv_capacity_tokens(model.kv_capacity_tokens);
  message.set_kv_bytes_per_token(model.kv_bytes_per_token);
  message.set_has_chat_template(model.has_chat_template);
  return message;
}

ModelInfo from_proto(const v1::ModelInfo& message) {
  ModelInfo model;
  model.name = message.name();
  model.family = message.family();
  model.digest = message.digest();
  model.dtype = message.dtype();
  model.profile = message.profile();
  model.num_parameters = message.num_parameters();
  model.vocabulary_size = message.vocabulary_size();
  model.context_length = message.context_length();
  model.has_tokenizer = message.has_tokenizer();
  model.end_token_ids.assign(message.end_token_ids().begin(), message.end_token_ids().end());
  model.kv_capacity_tokens = message.kv_capacity_tokens();
  model.kv_bytes_per_token = message.kv_bytes_per_token();
  model.has_chat_template = message.has_chat_template();
  return model;
}

v1::ServerInfo to_proto(const ServerInfo& info) {
  v1::ServerInfo message;
  message.set_version(info.version);
  message.set_device(info.device);
  message.set_num_threads(info.num_threads);
  set_duration(info.uptime, *message.mutable_uptime());
  message.set_requests_running(info.requests_running);
  message.set_requests_waiting(info.requests_waiting);
  message.set_kv_blocks_used(info.kv_blocks_used);
  message.set_kv_blocks_total(info.kv_blocks_total);
  message.set_prefix_cache_queries(info.prefix_cache_queries);
  message.set_prefix_cache_hits(info.prefix_cache_hits);
  message.set_preemptions(info.preemptions);
  return message;
}

ServerInfo from_proto(const v1::ServerInfo& message) {
  ServerInfo info;
  info.version = message.version();
  info.device = message.device();
  info.num_threads = message.num_threads();
  info.uptime = to_nanoseconds(message.uptime());
  info.requests_running = message.requests_running();
  info.requests_waiting = message.requests_waiting();
  info.kv_blocks_used = message.kv_blocks_used();
  info.kv_blocks_total = message.kv_blocks_total();
  info.prefix_cache_queries = message.prefix_cache_queries();
  info.prefix_cache_hits = message.prefix_cache_hits();
  info.preemptions = message.preemptions();
  return info;
}

}  // namespace sluice::server
