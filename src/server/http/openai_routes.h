#pragma once

#include <memory>

#include "server/http/openai_request.h"
#include "server/http/router.h"
#include "sluice/service.h"

namespace sluice::server {

// OpenAI's API over a service:
//
// | route                                        | answer |
// |----------------------------------------------|-------------------------------------------------|
// | GET /v1/models, /v1/models/NAME              | the models, or one of them | | POST
// /v1/completions, /v1/chat/completions   | one JSON object, or events with "stream": true  | |
// POST /tokenize, /detokenize                  | vLLM's: ids of a text or a chat, text of ids    |
// | GET /health, /version                        | 200 while work is accepted, else 503; version |
//
// Large bodies are read and tokenized on threads of its own, so that other streams go on.
class OpenAiRoutes final {
 public:
  // `service` must outlive this, and this the server of `router`.
  OpenAiRoutes(Service& service, Router& router);
  ~OpenAiRoutes();

 private:
  struct Workers;

  using Exchange = std::shared_ptr<HttpExchange>;
  // Runs `handle` on the body of a POST: here, or on a worker if it is large.
  void with_json(Exchange exchange, std::function<void(Exchange)> handle);

  void list_models(const Exchange& exchange);
  void show_model(const Exchange& exchange);
  void complete(OpenAiRoute route, const Exchange& exchange);
  void tokenize(const Exchange& exchange);
  void detokenize(const Exchange& exchange);

  Service& service_;
  const std::unique_ptr<Workers> workers_;
};

}  // namespace sluice::server
