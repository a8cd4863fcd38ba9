#include "model/family.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/jit/frontend/parser.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/frontend/script_type_parser.h>
#include <torch/csrc/jit/frontend/sugared_value.h>

#include <algorithm>
#include <exception>

#include "base/mapped_file.h"
#include "base/sha256.h"
#include "kernels/operators.h"
#include "model/builtin_families.h"
#include "model/failure.h"
#include "model/family_api.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;
namespace jit = torch::jit;

constexpr size_t kMaxSourceBytes = 1 << 20;

// A top-level class or function of a Python file.
struct Block {
  std::string_view text;
  size_t first_line = 0;
};

// Cuts a file into its top-level blocks. Imports, comments and the module's docstring are for
// Python readers and tools; TorchScript's parser knows none of them.
std::vector<Block> split_blocks(std::string_view source) {
  std::vector<Block> blocks;
  bool in_block = false;
  bool in_docstring = false;
  size_t line_idx = 0;
  for (size_t begin = 0; begin < source.size(); ++line_idx) {
    const size_t end = std::min(source.find('\n', begin), source.size() - 1) + 1;
    const std::string_view line = source.substr(begin, end - begin);
    const bool is_top_level = line.find_first_of(" \t\r\n#") != 0 && !in_docstring;
    if (is_top_level) {
      in_block = line.starts_with("class ") || line.starts_with("def ");
      if (in_block) blocks.push_back({source.substr(begin, 0), line_idx});
    }
    if (in_block) {
      Block& block = blocks.back();
      block.text = std::string_view(block.text.data(), block.text.size() + line.size());
    } else {
      size_t quotes = 0;
      for (size_t at = 0; (at = line.find("\"\"\"", at)) != std::string_view::npos; at += 3)
        ++quotes;
      if (quotes % 2 == 1) in_docstring = !in_docstring;
    }
    begin = end;
  }
  return blocks;
}

// `torch.NAME`: an operator, or one of the dtypes.
struct TorchModule final : jit::BuiltinModule {
  TorchModule() : BuiltinModule("aten") {}
  std::shared_ptr<jit::SugaredValue> attr(const jit::SourceRange& range, jit::GraphFunction& method,
                                          const std::string& field) override {
    static const std::map<std::string, at::ScalarType> kScalarTypes = {{"float32", at::kFloat},
                                                                       {"float16", at::kHalf},
                                                                       {"bfloat16", at::kBFloat16},
                                                                       {"int32", at::kInt},
                                                                       {"int64", at::kLong}};
    const auto found = kScalarTypes.find(field);
    if (found == kScalarTypes.end()) return BuiltinModule::attr(range, method, field);
    return std::make_shared<jit::SimpleValue>(
        method.graph()->insertConstant(static_cast<int64_t>(found->second), range));
  }
};

// What a family file may name besides Python's builtins: torch, sluice, its own class, and the
// types of an import.
struct FamilyResolver final : jit::Resolver {
  explicit FamilyResolver(c10::ClassTypePtr program) : program_type(std::move(program)) {}

  std::shared_ptr<jit::SugaredValue> resolveValue(const std::string& name, jit::GraphFunction&,
                                                  const jit::SourceRange&) override {
    if (name == "torch") return std::make_shared<TorchModule>();
    if (name == "sluice") return std::make_shared<jit::BuiltinModule>("sluice");
    return nullptr;
  }
  c10::TypePtr resolveType(const std::string& name, const jit::SourceRange&) override {
    if (name == program_type->name()->name()) return program_type;
    return resolve_family_type(name);
  }

  c10::ClassTypePtr program_type;
};

// The value that an attribute has until an import sets it.
c10::IValue initial_value(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::IntType:
      return int64_t{0};
    case c10::TypeKind::FloatType:
      return 0.0;
    case c10::TypeKind::BoolType:
      return false;
    case c10::TypeKind::StringType:
      return "";
    case c10::TypeKind::TensorType:
      return at::empty({0}, at::kFloat);
    case c10::TypeKind::OptionalType:
      return {};
    case c10::TypeKind::ListType:
      return c10::impl::GenericList(type->containedType(0));
    default:
      break;
  }
  throw std::runtime_error("attribute type " + type->annotation_str() + " is not supported");
}

// Makes the program from the file's class: annotated names become attributes, functions methods.
jit::Module compile_class(const Block& block, const std::string& file_name) {
  const auto source = std::make_shared<jit::Source>(block.text, file_name, block.first_line);
  jit::Parser parser(source);
  const jit::ClassDef definition(parser.parseClass());

  jit::Module program(c10::QualifiedName("__torch__.sluice." + definition.name().name()));
  const auto resolver = std::make_shared<FamilyResolver>(program.type());
  const jit::ScriptTypeParser types(resolver);
  std::vector<jit::Def> methods;
  for (const jit::Stmt& statement : definition.body()) {
    if (statement.kind() == jit::TK_DEF) {
      methods.emplace_back(statement);
    } else if (statement.kind() == jit::TK_ASSIGN && jit::Assign(statement).type().present()) {
      const jit::Assign assign(statement);
      const c10::TypePtr type = types.parseTypeFromExpr(assign.type().get());
      program.register_attribute(jit::Var(assign.lhs()).name().name(), type, initial_value(type));
    } else {
      throw jit::ErrorReport(statement.range()) << "expected an annotated attribute or a method";
    }
  }
  const jit::SimpleSelf self(program.type());
  program._ivalue()->compilation_unit()->define(
      program.type()->name(), {}, {}, methods,
      std::vector<jit::ResolverPtr>(methods.size(), resolver), &self);
  return program;
}

std::shared_ptr<jit::CompilationUnit> compile_functions(const std::vector<Block>& blocks,
                                                        const std::string& file_name,
                                                        const c10::ClassTypePtr& program_type) {
  std::vector<jit::Def> functions;
  for (const Block& block : blocks) {
    if (!block.text.starts_with("def ")) continue;
    const auto source = std::make_shared<jit::Source>(block.text, file_name, block.first_line);
    functions.emplace_back(jit::Parser(source).parseFunction(/*is_method=*/false));
  }
  const std::vector<jit::ResolverPtr> resolvers(functions.size(),
                                                std::make_shared<FamilyResolver>(program_type));
  auto unit = std::make_shared<jit::CompilationUnit>();
  unit->define(std::nullopt, {}, {}, functions, resolvers, nullptr);
  return unit;
}

// Runs one of the file's functions. The error is what one of `objects` raised, else the function's.
Result<void> call(const jit::CompilationUnit& functions, const std::string& name,
                  std::vector<c10::IValue> arguments,
                  const std::vector<const FamilyApiObject*>& objects) {
  const at::NoGradGuard no_grad;
  try {
    functions.get_function(name)(std::move(arguments));
    return {};
  } catch (const std::exception& exception) {
    for (const FamilyApiObject* object : objects) {
      if (object->error) return std::unexpected(*object->error);
    }
    return invalid_argument(name + "() failed: " + one_line(exception));
  }
}

struct NamedSource {
  std::string name;
  std::string source;
};

Result<std::vector<NamedSource>> read_families(const fs::path& folder) {
  std::vector<NamedSource> sources;
  if (folder.empty()) {
    for (const BuiltinFamily& family : builtin_families()) {
      sources.push_back({std::string(family.name), std::string(family.source)});
    }
    return sources;
  }
  std::error_code error;
  for (const auto& item : fs::directory_iterator(folder, error)) {
    if (item.path().extension() != ".py") continue;
    auto source = read_file(item.path(), kMaxSourceBytes);
    if (!source) return std::unexpected(source.error());
    sources.push_back({item.path().stem().string(), *std::move(source)});
  }
  if (error || sources.empty()) {
    return fail(ErrorCode::kNotFound, "the folder of families holds no .py file");
  }
  std::ranges::sort(sources, {}, &NamedSource::name);
  return sources;
}

}  // namespace

Result<Family> Family::compile(const std::string& name, std::string_view source) {
  kernels::register_operators();
  register_family_api();
  const std::string file_name = name + ".py";
  const std::vector<Block> blocks = split_blocks(source);
  const auto is_class = [](const Block& block) { return block.text.starts_with("class "); };
  if (std::ranges::count_if(blocks, is_class) != 1) {
    return invalid_argument(file_name + ": needs exactly one class, the program");
  }
  Family family;
  family.name_ = name;
  family.source_digest_ = sha256_hex(source);
  try {
    family.program_ = compile_class(*std::ranges::find_if(blocks, is_class), file_name);
    family.functions_ = compile_functions(blocks, file_name, family.program_.type());
  } catch (const std::exception& exception) {
    return invalid_argument(file_name + ": " + one_line(exception));
  }
  for (const char* function : {"model_types", "configure", "weights"}) {
    if (family.functions_->find_function(c10::QualifiedName(function)) == nullptr) {
      return invalid_argument(file_name + ": has no function " + function);
    }
  }
  return family;
}

std::vector<std::string> Family::model_types() const {
  const c10::IValue types = functions_->get_function(c10::QualifiedName("model_types"))({});
  return types.to<std::vector<std::string>>();
}

Result<Family> Family::find(const std::string& model_type, const fs::path& folder) {
  const auto sources = read_families(folder);
  if (!sources) return std::unexpected(sources.error());
  std::string known;
  for (const NamedSource& item : *sources) {
    auto family = compile(item.name, item.source);
    if (!family) return family;
    try {
      for (const std::string& type : family->model_types()) {
        if (type == model_type) return family;
        known += (known.empty() ? "" : ", ") + type;
      }
    } catch (const std::exception& exception) {
      return invalid_argument(item.name + ".py: model_types() failed: " + one_line(exception));
    }
  }
  return fail(ErrorCode::kUnimplemented,
              "config.json: model_type is '" + model_type.substr(0, 64) + "', supported: " + known);
}

Result<void> Family::configure(const ConfigFile& config) {
  const auto object = c10::make_intrusive<ConfigObject>(config);
  return call(*functions_, "configure", {program_._ivalue(), object}, {object.get()});
}

Result<void> Family::send_weights(Checkpoint& checkpoint, WeightSink& sink) {
  const auto source = c10::make_intrusive<CheckpointObject>(checkpoint);
  const auto target = c10::make_intrusive<WeightsObject>(sink);
  return call(*functions_, "weights", {program_._ivalue(), source, target},
              {source.get(), target.get()});
}

}  // namespace sluice::model
