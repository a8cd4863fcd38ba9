#include <atomic>
#include <string>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_path.h"
#include "cli/parse.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "sluice/import.h"

namespace sluice::cli {

int run_import(Arguments arguments) {
  ImportOptions options;
  std::string source;
  std::string package;
  bool quiet = false;
  Flags flags("import", "HF_DIR PACKAGE [flags]",
              "Makes a package from a Hugging Face folder (config.json, safetensors, tokenizer): "
              "compiles the family's TorchScript program, writes weights and hashes. Without "
              "Python. An interrupt leaves no half package.");
  flags.add_positional("HF_DIR", "The folder to read, or the ORG/NAME of a downloaded model",
                       source);
  flags.add_positional("PACKAGE", "The folder to make", package);
  flags.add_choice(
      {"--dtype", "DTYPE",
       "Of the weights: f32, f16, bf16, int8, int4 or, for GPUs, fp8 (these three compute "
       "in bf16)",
       "as the checkpoint"},
      options.dtype, {"f32", "f16", "bf16", "int8", "int4", "fp8"});
  flags.add({"--group-size", "N", "Weights that share a scale in int4: 32 or 128", "32"},
            [&options](const std::string& text) -> Result<void> {
              if (text != "32" && text != "128") {
                return invalid_argument(quote(text) + " is not one of 32, 128");
              }
              options.group_size = std::stoll(text);
              return {};
            });
  flags.add_switch(
      {"--packed", "",
       "Hold the weights as the kernels use them too: starts at once, twice the disk", ""},
      options.packed);
  bool no_golden = false;
  flags.add_switch({"--no-golden", "",
                    "Keep no logits to compare with when the package is loaded: needs no memory "
                    "for the model",
                    ""},
                   no_golden);
  flags.add_switch({"--overwrite", "", "Replace PACKAGE if it exists", ""}, options.overwrite);
  std::string families;
  flags.add_text({"--families", "FOLDER", "Family files (NAME.py) to use", "the built-in ones"},
                 families);
  flags.add_switch({"--quiet", "", "No progress and no notices on stderr", ""}, quiet);
  flags.example("sluice import ~/Llama-3.2-1B llama-1b --dtype bf16", "a package in bfloat16");
  if (const auto code = flags.parse(arguments)) return *code;
  if (options.group_size > 0 && options.dtype != "int4") {
    return flags.wrong_use("--group-size goes with --dtype int4");
  }

  const auto found = find_model(source);
  if (!found) return flags.wrong_use(found.error().message);
  options.source = found->path;
  options.package = package;
  options.families = families;
  options.golden = !no_golden;
  std::atomic<bool> interrupted = false;
  const SignalWatcher watcher([&interrupted](int count) {
    interrupted = true;
    if (count > 1) std::_Exit(kExitFailed);
  });
  ProgressBar bar("importing", quiet);
  options.progress = [&](int64_t done, int64_t total) {
    bar.update(done, total);
    return !interrupted;
  };
  options.notice = [&](const std::string& line) {
    bar.clear();
    print_notice(line, quiet);
  };
  const Result<void> imported = import_model(options);
  bar.clear();
  if (!imported) {
    print_error("import", imported.error().message);
    return exit_code(imported.error());
  }
  print_notice("made " + package, quiet);
  return kExitDone;
}

}  // namespace sluice::cli
