#include "model/family.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/jit/frontend/parser.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/frontend/script_type_parser.h>
#include <torch/csrc/jit/frontend/sugared_value.h>

#include <algorithm>
#include <exception>
#include <numbers>

#include "base/sha256.h"
#include "kernels/operators.h"
#include "model/failure.h"
#include "model/family_api.h"
#include "model/family_source.h"

namespace sluice::model {
namespace {

namespace jit = torch::jit;

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

// `math.NAME`: what the import-time functions compute with in float64.
struct MathModule final : jit::BuiltinModule {
  MathModule() : BuiltinModule("aten") {}
  std::shared_ptr<jit::SugaredValue> attr(const jit::SourceRange& range, jit::GraphFunction& method,
                                          const std::string& field) override {
    if (field != "pi") return BuiltinModule::attr(range, method, field);
    return std::make_shared<jit::SimpleValue>(
        method.graph()->insertConstant(std::numbers::pi, range));
  }
};

// What a family file may name besides Python's builtins: torch, math, sluice, its own class, and
// the types of an import.
struct FamilyResolver final : jit::Resolver {
  explicit FamilyResolver(c10::ClassTypePtr program) : program_type(std::move(program)) {}

  std::shared_ptr<jit::SugaredValue> resolveValue(const std::string& name, jit::GraphFunction&,
                                                  const jit::SourceRange&) override {
    if (name == "torch") return std::make_shared<TorchModule>();
    if (name == "math") return std::make_shared<MathModule>();
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
    case c10::TypeKind::DictType:
      return c10::impl::GenericDict(type->containedType(0), type->containedType(1));
    default:
      break;
  }
  throw std::runtime_error("attribute type " + type->annotation_str() + " is not supported");
}

// Makes the program from the file's class: annotated names become attributes, functions methods.
jit::Module compile_class(const SourceBlock& block, const std::string& file_name) {
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

// The functions of a family file and of the helpers that it imports.
std::shared_ptr<jit::CompilationUnit> compile_functions(const std::vector<FamilySource>& files,
                                                        const c10::ClassTypePtr& program_type) {
  std::vector<jit::Def> functions;
  for (const FamilySource& file : files) {
    for (const SourceBlock& block : split_blocks(file.text)) {
      if (block.is_class()) continue;
      const auto source =
          std::make_shared<jit::Source>(block.text, file.name + ".py", block.first_line);
      functions.emplace_back(jit::Parser(source).parseFunction(/*is_method=*/false));
    }
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

}  // namespace

Result<Family> Family::compile(const std::vector<FamilySource>& files) {
  kernels::register_operators();
  register_family_api();
  const std::string& name = files.front().name;
  const std::string file_name = name + ".py";
  const std::vector<SourceBlock> blocks = split_blocks(files.front().text);
  if (std::ranges::count_if(blocks, &SourceBlock::is_class) != 1) {
    return invalid_argument(file_name + ": needs exactly one class, the program");
  }
  Family family;
  family.name_ = name;
  std::string all;
  for (const FamilySource& file : files) all += file.text;
  family.source_digest_ = sha256_hex(all);
  try {
    family.program_ =
        compile_class(*std::ranges::find_if(blocks, &SourceBlock::is_class), file_name);
    family.functions_ = compile_functions(files, family.program_.type());
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

Result<Family> Family::find(const std::string& model_type, const std::filesystem::path& folder) {
  const auto files = read_family_files(folder);
  if (!files) return std::unexpected(files.error());
  std::string known;
  for (const FamilySource& file : *files) {
    if (!is_family(file)) continue;
    const auto sources = with_imports(file, *files);
    if (!sources) return std::unexpected(sources.error());
    auto family = compile(*sources);
    if (!family) return family;
    try {
      for (const std::string& type : family->model_types()) {
        if (type == model_type) return family;
        known += (known.empty() ? "" : ", ") + type;
      }
    } catch (const std::exception& exception) {
      return invalid_argument(file.name + ".py: model_types() failed: " + one_line(exception));
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
