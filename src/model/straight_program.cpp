#include "model/straight_program.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "kernels/operators.h"

namespace sluice::model {
namespace {

namespace jit = torch::jit;

// Nodes that are followed before the interpreter is left to run a program: far more than any model.
constexpr int64_t kMaxNodes = 1 << 20;

// What call() hands to kernels::attention.
constexpr size_t kAttentionArguments = 10;

// Thrown inside a recording, and caught at its end.
struct CannotRecord {};

bool holds_tensors(const c10::Type& type) {
  if (type.kind() == c10::TypeKind::TensorType) return true;
  return std::ranges::any_of(type.containedTypes(),
                             [](const c10::TypePtr& inner) { return holds_tensors(*inner); });
}

}  // namespace

// Follows the graph once, with the values that are known before any step.
class StraightProgram::Recorder final {
 public:
  Recorder(StraightProgram& program, const ProgramInputs& inputs)
      : program_(program), inputs_(inputs) {}

  void record(const jit::Module& module) {
    const auto graph = module.get_method("forward").graph()->copy();
    jit::Inline(*graph);
    const auto parameters = graph->inputs();
    values_[parameters.at(0)] = {module._ivalue(), false, -1};
    values_[parameters.at(1)] = {inputs_.tokens, true, -1};
    values_[parameters.at(2)] = {inputs_.positions, true, -1};
    values_[parameters.at(3)] = {inputs_.cache, true, -1};
    values_[parameters.at(4)] = {inputs_.plan, true, -1};
    follow(graph->block());
    program_.returned_ = argument(graph->outputs().at(0));
  }

 private:
  struct Value {
    c10::IValue known;     // unless it is a call's result
    bool of_step = false;  // a tensor, or a list of tensors, whose sizes or contents are a step's
    int32_t result_idx = -1;

    bool is_fixed() const { return !of_step && result_idx < 0; }
  };

  const Value& value_of(const jit::Value* value) const { return values_.at(value); }

  Argument argument(const jit::Value* value) const {
    const Value& found = value_of(value);
    return {found.result_idx, false, found.known};
  }

  // Requires: known before any step.
  const c10::IValue& fixed(const jit::Value* value) const {
    const Value& found = value_of(value);
    if (!found.is_fixed()) throw CannotRecord();
    return found.known;
  }

  void follow(const jit::Block* block) {
    for (const jit::Node* node : block->nodes()) {
      if (++num_nodes_ > kMaxNodes) throw CannotRecord();
      follow(node);
    }
  }

  void follow(const jit::Node* node) {
    switch (node->kind()) {
      case c10::prim::Constant:
        values_[node->output()] = {jit::toIValue(node->output()).value(), false, -1};
        return;
      case c10::prim::GetAttr:
        values_[node->output()] = {
            fixed(node->input()).toObjectRef().getAttr(node->s(c10::attr::name)), false, -1};
        return;
      case c10::prim::unchecked_cast:
      case c10::prim::unchecked_unwrap_optional:
        values_[node->output()] = Value(value_of(node->input()));
        return;
      case c10::prim::If:
        follow_choice(node);
        return;
      case c10::prim::Loop:
        follow_loop(node);
        return;
      case c10::prim::ListConstruct:
        follow_list(node);
        return;
      case c10::aten::__getitem__:
        follow_element(node);
        return;
      case c10::aten::__is__:
      case c10::aten::__isnot__:
        if (follow_identity(node)) return;
        break;
      default:
        break;
    }
    follow_operator(node);
  }

  void copy(at::ArrayRef<const jit::Value*> from, at::ArrayRef<const jit::Value*> to) {
    std::vector<Value> copies;
    for (const jit::Value* value : from) copies.push_back(value_of(value));
    for (size_t i = 0; i < to.size(); ++i) values_[to[i]] = std::move(copies[i]);
  }

  void follow_choice(const jit::Node* node) {
    const jit::Block* branch = node->blocks()[fixed(node->input()).toBool() ? 0 : 1];
    follow(branch);
    copy(branch->outputs(), node->outputs());
  }

  // Inputs: the most rounds, whether to begin, what is carried; a round gets its number and what is
  // carried, and gives whether to go on and what is carried.
  void follow_loop(const jit::Node* node) {
    const jit::Block* body = node->blocks()[0];
    const int64_t most = fixed(node->input(0)).toInt();
    bool goes_on = fixed(node->input(1)).toBool();
    copy(node->inputs().slice(2), body->inputs().slice(1));
    for (int64_t round = 0; round < most && goes_on; ++round) {
      values_[body->inputs()[0]] = {round, false, -1};
      follow(body);
      goes_on = fixed(body->outputs()[0]).toBool();
      copy(body->outputs().slice(1), body->inputs().slice(1));
    }
    copy(body->inputs().slice(1), node->outputs());
  }

  void follow_list(const jit::Node* node) {
    c10::impl::GenericList list(
        node->output()->type()->expectRef<c10::ListType>().getElementType());
    for (const jit::Value* input : node->inputs()) list.push_back(fixed(input));
    values_[node->output()] = {c10::IValue(list), false, -1};
  }

  void follow_element(const jit::Node* node) {
    const Value& list = value_of(node->input(0));
    if (list.result_idx >= 0 || !list.known.isList()) throw CannotRecord();
    const bool of_step = list.of_step;
    jit::Stack stack = {list.known, fixed(node->input(1))};
    node->getOperation()(stack);
    values_[node->output()] = {stack.at(0), of_step, -1};
  }

  // `x is None` has an answer although x is a step's: a tensor is not None.
  bool follow_identity(const jit::Node* node) {
    const Value& left = value_of(node->input(0));
    const Value& right = value_of(node->input(1));
    if (left.is_fixed() == right.is_fixed()) return false;
    const Value& fixed_one = left.is_fixed() ? left : right;
    if (!fixed_one.known.isNone()) return false;
    values_[node->output()] = {node->kind() == c10::aten::__isnot__, false, -1};
    return true;
  }

  void follow_operator(const jit::Node* node) {
    const bool makes_tensors = std::ranges::any_of(
        node->outputs(), [](const jit::Value* output) { return holds_tensors(*output->type()); });
    if (!makes_tensors) {
      compute(node);
      return;
    }
    if (node->outputs().size() != 1 ||
        node->output()->type()->kind() != c10::TypeKind::TensorType) {
      throw CannotRecord();
    }
    Call call{kind_of(node), node->getOperation(), {}, false};
    for (const jit::Value* input : node->inputs()) call.arguments.push_back(argument(input));
    values_[node->output()] = {{}, true, static_cast<int32_t>(program_.calls_.size())};
    program_.calls_.push_back(std::move(call));
  }

  // Numbers and text: the same in every step.
  void compute(const jit::Node* node) {
    jit::Stack stack;
    for (const jit::Value* input : node->inputs()) stack.push_back(fixed(input));
    node->getOperation()(stack);
    for (size_t i = 0; i < node->outputs().size(); ++i) {
      values_[node->outputs()[i]] = {stack.at(i), false, -1};
    }
  }

  // A boxed call would copy the plan into a new vector. Only the step's own plan is known here.
  Kind kind_of(const jit::Node* node) const {
    const std::string_view name = node->kind().toQualString();
    const size_t count = node->inputs().size();
    if (name == "sluice::attention" && count == kAttentionArguments && is_plan(node->input(3))) {
      return Kind::kAttention;
    }
    if (name == "sluice::select_rows" && is_plan(node->input(1))) return Kind::kSelectRows;
    return Kind::kBoxed;
  }
  bool is_plan(const jit::Value* value) const {
    const Value& found = value_of(value);
    return found.result_idx < 0 && found.known.is(c10::IValue(inputs_.plan));
  }

  StraightProgram& program_;
  const ProgramInputs& inputs_;
  std::unordered_map<const jit::Value*, Value> values_;
  int64_t num_nodes_ = 0;
};

StraightProgram::~StraightProgram() = default;

std::unique_ptr<StraightProgram> StraightProgram::record(const jit::Module& program,
                                                         const ProgramInputs& inputs) {
  std::unique_ptr<StraightProgram> straight(new StraightProgram);
  try {
    Recorder(*straight, inputs).record(program);
  } catch (const CannotRecord&) {
    return nullptr;
  } catch (const std::exception&) {  // the interpreter shall meet it, and say where
    return nullptr;
  }
  straight->plan_ = inputs.plan.vec();
  straight->find_last_uses();
  return straight;
}

void StraightProgram::find_last_uses() {
  std::vector<bool> is_used_later(calls_.size(), false);
  const auto visit = [&](Argument& argument) {
    if (argument.result_idx < 0) return;
    const auto result = static_cast<size_t>(argument.result_idx);
    argument.is_last_use = !is_used_later[result];
    is_used_later[result] = true;
    calls_[result].is_used = true;
  };
  visit(returned_);
  size_t most_arguments = 0;
  for (auto call = calls_.rbegin(); call != calls_.rend(); ++call) {
    std::for_each(call->arguments.rbegin(), call->arguments.rend(), visit);
    most_arguments = std::max(most_arguments, call->arguments.size());
  }
  results_.resize(calls_.size());
  stack_.reserve(most_arguments + 1);
}

c10::IValue StraightProgram::take(Argument& argument) {
  if (argument.result_idx < 0) return argument.constant;
  c10::IValue& result = results_[static_cast<size_t>(argument.result_idx)];
  return argument.is_last_use ? std::move(result) : result;
}

at::Tensor StraightProgram::call(Call& call) {
  if (call.kind == Kind::kBoxed) {
    stack_.clear();
    for (Argument& argument : call.arguments) stack_.push_back(take(argument));
    call.operation(stack_);
    at::Tensor result = std::move(stack_.at(0)).toTensor();
    stack_.clear();
    return result;
  }
  auto next = call.arguments.begin();
  const at::Tensor x = take(*next++).toTensor();
  if (call.kind == Kind::kSelectRows) return kernels::select_rows(x, plan_);
  const at::Tensor positions = take(*next++).toTensor();
  const at::Tensor cache = take(*next++).toTensor();
  ++next;  // the plan
  const int64_t num_heads = take(*next++).toInt();
  const int64_t num_kv_heads = take(*next++).toInt();
  const double scale = take(*next++).toDouble();
  const auto rope = take(*next++).toOptional<at::Tensor>();
  const auto slopes = take(*next++).toOptional<at::Tensor>();
  const int64_t window = take(*next++).toInt();
  return kernels::attention(x, positions, cache, plan_, num_heads, num_kv_heads, scale, rope,
                            slopes, window);
}

at::Tensor StraightProgram::run() {
  // A call that threw has left results behind, which would keep their memory.
  std::ranges::fill(results_, c10::IValue());
  for (size_t i = 0; i < calls_.size(); ++i) {
    at::Tensor result = call(calls_[i]);
    if (calls_[i].is_used) results_[i] = std::move(result);
  }
  return take(returned_).toTensor();
}

}  // namespace sluice::model
