#include "model/family_api.h"

#include <stdexcept>

namespace sluice::model {
namespace {

using ConfigPtr = c10::intrusive_ptr<ConfigObject>;
using CheckpointPtr = c10::intrusive_ptr<CheckpointObject>;
using WeightsPtr = c10::intrusive_ptr<WeightsObject>;

constexpr const char* kNamespace = "sluice";

void append(const WeightsPtr& self, const std::string& name, std::vector<at::Tensor> parts) {
  const std::string path = name + "." + std::to_string(self->list_sizes[name]++);
  if (parts.empty()) {
    self->unwrap(self->sink.absent(path));
  } else {
    self->unwrap(self->sink.add(path, parts, false));
  }
}

void register_config() {
  const auto name = torch::arg("name");
  const auto fallback = torch::arg("fallback") = torch::arg::none();
  torch::class_<ConfigObject>(kNamespace, "Config")
      .def("has", [](const ConfigPtr& self, std::string name) { return self->config.has(name); })
      .def("is_null",
           [](const ConfigPtr& self, std::string name) { return self->config.is_null(name); })
      .def("texts", [](const ConfigPtr& self,
                       std::string name) { return self->unwrap(self->config.texts(name)); })
      .def("refuse",
           [](const ConfigPtr& self, std::string name, std::string why) {
             self->unwrap(Result<void>(std::unexpected(self->config.unsupported(name, why))));
           })
      .def("integer",
           [](const ConfigPtr& self, std::string name, std::optional<int64_t> fallback) {
             return self->unwrap(self->config.integer(name, fallback));
           },
           "", {name, fallback})
      .def("count",
           [](const ConfigPtr& self, std::string name, std::optional<int64_t> fallback) {
             return self->unwrap(self->config.count(name, fallback));
           },
           "", {name, fallback})
      .def("number",
           [](const ConfigPtr& self, std::string name, std::optional<double> fallback) {
             return self->unwrap(self->config.number(name, fallback));
           },
           "", {name, fallback})
      .def("flag",
           [](const ConfigPtr& self, std::string name, std::optional<bool> fallback) {
             return self->unwrap(self->config.flag(name, fallback));
           },
           "", {name, fallback})
      .def("text",
           [](const ConfigPtr& self, std::string name, std::optional<std::string> fallback) {
             return self->unwrap(self->config.text(name, fallback));
           },
           "", {name, fallback})
      .def("expect",
           [](const ConfigPtr& self, std::string name, std::vector<std::string> supported) {
             self->unwrap(self->config.expect(name, supported));
           });
}

void register_checkpoint() {
  torch::class_<CheckpointObject>(kNamespace, "Checkpoint")
      .def("has",
           [](const CheckpointPtr& self, std::string name) { return self->checkpoint.has(name); })
      .def("ignore",
           [](const CheckpointPtr& self, std::string name) { self->checkpoint.ignore(name); })
      .def("take", [](const CheckpointPtr& self, std::string name, std::vector<int64_t> shape) {
        return self->unwrap(self->checkpoint.take(name, shape));
      });
}

void register_weights() {
  torch::class_<WeightsObject>(kNamespace, "Weights")
      .def("put",
           [](const WeightsPtr& self, std::string name, at::Tensor tensor) {
             self->unwrap(self->sink.add(name, {std::move(tensor)}, false));
           })
      .def("table",
           [](const WeightsPtr& self, std::string name, at::Tensor tensor) {
             self->unwrap(self->sink.add(name, {std::move(tensor)}, true));
           })
      .def("append", append)
      .def("alias", [](const WeightsPtr& self, std::string name, std::string target) {
        self->unwrap(self->sink.alias(name, target));
      });
}

}  // namespace

void FamilyApiObject::raise(const Error& what) {
  error = what;
  throw std::runtime_error(what.message);
}

void register_family_api() {
  [[maybe_unused]] static const bool once = [] {
    register_config();
    register_checkpoint();
    register_weights();
    return true;
  }();
}

c10::TypePtr resolve_family_type(const std::string& name) {
  if (name != "Config" && name != "Checkpoint" && name != "Weights") return nullptr;
  return torch::getCustomClass(std::string("__torch__.torch.classes.") + kNamespace + "." + name);
}

}  // namespace sluice::model
