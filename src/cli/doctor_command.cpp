#include <spdlog/fmt/fmt.h>

#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/format.h"
#include "cli/machine.h"
#include "cli/model_path.h"
#include "cli/runtime_flags.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string or_none(const std::string& text, const char* none) {
  return text.empty() ? none : text;
}

std::string machine_text(const MachineReport& machine) {
  std::string text = table(
      {{"sluice", machine.version},
       {"processor", fmt::format("{}, {} cores", machine.cpu_model, machine.num_cores)},
       {"runs", or_none(fmt::format("{}", fmt::join(machine.instruction_sets, " ")), "none known")},
       {"kernels",
        machine.profile_error.empty() ? machine.profile : "none: " + machine.profile_error}});
  std::vector<std::vector<std::string>> rows{
      {"device", "memory", "free", "1000x1000 product", "rate", "what"}};
  for (const DeviceReport& device : machine.devices) {
    const bool works = device.error.empty();
    std::string what = device.description;
    if (!device.driver.empty()) what += ", driver " + device.driver;
    if (!works) what += ": " + device.error;
    rows.push_back({device.name, format_bytes(device.memory_bytes),
                    format_bytes(device.free_memory_bytes),
                    works ? format_milliseconds(device.matmul_ms) : "-",
                    works ? fmt::format("{:.0f} GFLOP/s", device.matmul_gflops) : "-", what});
  }
  text += "\n" + table(rows);
  if (!machine.gpu_note.empty()) text += "no GPU: " + machine.gpu_note + "\n";
  return text;
}

std::string plan_text(const std::string& model, const MemoryPlan& plan) {
  std::string text = table(
      {{"model", model},
       {"family", fmt::format("{}, {} parameters, {}", plan.family,
                              format_count(plan.num_parameters), plan.dtype)},
       {"weights", format_bytes(plan.weight_bytes)},
       {"KV per token", format_bytes(plan.kv_bytes_per_token)},
       {"KV per context",
        fmt::format("{} ({} tokens)", format_bytes(plan.kv_bytes_per_token * plan.context_length),
                    format_count(plan.context_length))},
       {"memory free", format_bytes(plan.available_bytes)}});
  if (plan.kv_capacity_tokens > 0 && plan.context_length > 0) {
    text += fmt::format("{} tokens fit, {} whole contexts\n", format_count(plan.kv_capacity_tokens),
                        format_count(plan.kv_capacity_tokens / plan.context_length));
  } else {
    text += fmt::format("does not fit: {} are missing\n",
                        format_bytes(plan.weight_bytes - plan.available_bytes));
  }
  return text;
}

OrderedJson plan_json(const MemoryPlan& plan) {
  return {{"family", plan.family},
          {"dtype", plan.dtype},
          {"num_parameters", plan.num_parameters},
          {"weight_bytes", plan.weight_bytes},
          {"kv_bytes_per_token", plan.kv_bytes_per_token},
          {"available_bytes", plan.available_bytes},
          {"kv_capacity_tokens", plan.kv_capacity_tokens},
          {"context_length", plan.context_length}};
}

}  // namespace

int run_doctor(Arguments arguments) {
  std::string model;
  std::string kv_cache_dtype = "auto";
  bool json = false;
  Flags flags("doctor", "[--model PATH] [flags]",
              "Shows what this machine offers: instruction sets, memory, GPUs, and the time of a "
              "1000x1000 float32 product on each device; and how a model would lie in memory.");
  flags.group("Flags");
  flags.add_text({"--model", "PATH", "Plan the memory of this package or Hugging Face folder", ""},
                 model);
  add_kv_dtype_flag(flags, kv_cache_dtype);
  flags.add_switch({"--json", "", "One JSON object", ""}, json);
  flags.example("sluice doctor --model models/llama-tiny", "will it fit, and how many tokens");
  if (const auto code = flags.parse(arguments)) return *code;

  Result<MemoryPlan> plan;
  if (!model.empty()) {
    const auto source = find_model(model);
    if (!source) return flags.wrong_use("--model: " + source.error().message);
    plan = plan_memory(source->path, kv_cache_dtype);
    if (!plan) {
      print_error("doctor", plan.error().message);
      return load_exit_code(plan.error());
    }
  }
  const MachineReport machine = inspect_machine();
  std::string text;
  if (json) {
    OrderedJson report = machine_json(machine);
    if (!model.empty()) report["model"] = plan_json(*plan);
    text = report.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  } else {
    text = machine_text(machine);
    if (!model.empty()) text += "\n" + plan_text(model, *plan);
    const bool has_float8_weights = !model.empty() && plan->dtype == "fp8";
    if (!model.empty() && (kv_cache_dtype == "fp8" || has_float8_weights)) {
      text += std::string(has_float8_weights ? "fp8 weights need" : "an fp8 KV cache needs") +
              " a GPU, and what is free above is the machine's own memory\n";
    }
  }
  return write_stdout(text) ? kExitDone : kExitFailed;
}

}  // namespace sluice::cli
