#include "cli/runtime_flags.h"

#include <utility>

#include "cli/parse.h"

namespace sluice::cli {

void add_runtime_flags(Flags& flags, RuntimeOptions& options) {
  flags.group("Engine");
  flags.add_text(
      {"--device", "DEVICE", "auto, cpu or cuda[:N]; auto takes a GPU if there is one", ""},
      options.device);
  flags.add_choice(
      {"--dtype", "DTYPE",
       "Of the weights: f32, f16, bf16, int8, int4 or, on a GPU, fp8 (these three compute "
       "in bf16)",
       "as the model has it"},
      options.dtype, {"f32", "f16", "bf16", "int8", "int4", "fp8"});
  flags.add_choice(
      {"--activation-dtype", "DTYPE",
       "What activations become beside quantized weights: int8, fp8 beside fp8, or (beside int8 "
       "and fp8, on a GPU) auto, the model's dtype; part of the profile in answers",
       "int8; beside fp8 that, or auto where it would be no faster"},
      options.activation_dtype, {"int8", "fp8", "auto"});
  flags.add_int({"--num-threads", "N", "Compute threads", "one per core"}, options.num_threads, 1,
                1024);
  flags.add_int({"--max-num-seqs", "N", "Most sequences in one step", ""}, options.max_num_seqs, 1,
                1 << 16);
  flags.add_int({"--max-num-batched-tokens", "N", "Most tokens in one step", ""},
                options.max_num_batched_tokens, 1, 1 << 20);
  flags.add_int({"--max-model-len", "N", "Most tokens of prompt and completion together",
                 "the model's context"},
                options.max_model_len, 1);
  // Fewer than 16 tokens, or a number in between, would take the kernels another way through the
  // sums, and so change bits that the profile's name promises.
  flags.add({"--block-size", "N", "Tokens in one block of the KV cache: 16, 32, 64 or 128",
             std::to_string(options.block_size)},
            [&options](const std::string& text) -> Result<void> {
              for (const int32_t size : {16, 32, 64, 128}) {
                if (text != std::to_string(size)) continue;
                options.block_size = size;
                return {};
              }
              return invalid_argument(quote(text) + " is not one of 16, 32, 64, 128");
            });
  add_kv_dtype_flag(flags, options.kv_cache_dtype);
  flags.add_bytes({"--kv-cache-memory-bytes", "SIZE",
                   "Memory of the KV cache, of each model (2GiB)", "a share of what is free"},
                  options.kv_cache_bytes, 1);
  flags.add_number({"--gpu-memory-utilization", "X",
                    "Part of a GPU's memory for weights, steps and KV cache together", ""},
                   options.gpu_memory_utilization, 0.01, 1);
  flags.add_switch({"--enable-prefix-caching", "",
                    "Keep the KV blocks of prompts for others that begin alike; on by default, no "
                    "result depends on it",
                    ""},
                   options.enable_prefix_caching);
  flags.add_duration({"--null-step-time", "TIME",
                      "The model \"null\" waits so long in each step, in place of computing", ""},
                     options.null_step_time, std::chrono::nanoseconds(0));
  flags.add({"--no-enable-prefix-caching", "", "Keep none", ""},
            [&options](const std::string& text) -> Result<void> {
              const Result<bool> value = text.empty() ? true : parse_bool(text);
              if (!value) return std::unexpected(value.error());
              if (*value) options.enable_prefix_caching = false;
              return {};
            });
}

void add_kv_dtype_flag(Flags& flags, std::string& target) {
  flags.add_choice({"--kv-cache-dtype", "DTYPE",
                    "Numbers of the KV cache: auto (the model's dtype), or int8 or (on a GPU) fp8, "
                    "which hold nearly twice as many tokens; part of the profile in answers",
                    target},
                   target, {"auto", "int8", "fp8", "bf16", "f16", "f32"});
}

void add_limit_flags(Flags& flags, ServiceLimits& limits) {
  flags.group("Limits (what is beyond is refused)");
  flags.add_bytes({"--max-prompt-bytes", "SIZE", "Of a prompt as text, or of a chat", ""},
                  limits.max_prompt_bytes, 1);
  flags.add_int({"--max-chat-messages", "N", "Messages of a chat", ""}, limits.max_chat_messages,
                1);
  flags.add_int({"--max-queued-requests", "N", "Requests that wait", ""},
                limits.max_queued_requests, 1);
  flags.add_int64({"--max-queued-tokens", "N", "Prompt tokens that wait, of each model", ""},
                  limits.max_queued_tokens, 1);
  flags.add_int({"--max-undelivered-tokens", "N",
                 "Tokens of a completion that its reader has not taken; then it pauses", ""},
                limits.max_undelivered_tokens, 1);
  flags.add_duration({"--stall-time", "TIME", "A paused request ends after this", ""},
                     limits.stall_time);
  flags.add_duration({"--max-request-age", "TIME", "A request ends after this", ""},
                     limits.max_request_age);
  flags.add_int({"--max-n", "N", "Completions of one request", ""}, limits.max_n, 1);
  flags.add_int({"--max-logprobs", "N", "Top-N logprobs of a token", ""}, limits.max_logprobs, 1);
  flags.add_int({"--max-stop-strings", "N", "Stop strings of a request", ""},
                limits.max_stop_strings, 1);
  flags.add_int({"--max-stop-bytes", "N", "Bytes of one stop string", ""}, limits.max_stop_bytes,
                1);
  flags.add_int({"--max-stop-token-ids", "N", "Stop token ids of a request", ""},
                limits.max_stop_token_ids, 1);
  flags.add_int({"--max-logit-bias", "N", "Logit biases of a request", ""}, limits.max_logit_bias,
                1);
}

Result<std::unique_ptr<Service>> load_service(RuntimeOptions options, bool quiet) {
  ProgressBar bar("loading", quiet);
  options.progress = [&bar](const std::string& model, int64_t done, int64_t total) {
    bar.set_label("loading " + model);
    bar.update(done, total);
  };
  options.notice = [&bar, quiet, notice = std::move(options.notice)](const std::string& line) {
    bar.clear();
    if (notice) return notice(line);
    print_notice(line, quiet);
  };
  return create_service(std::move(options));
}

int load_exit_code(const Error& error) {
  return error.code == ErrorCode::kInternal || error.code == ErrorCode::kResourceExhausted
             ? kExitFailed
             : kExitWrongUse;
}

}  // namespace sluice::cli
