#pragma once

#include <functional>
#include <memory>

#include "server/access/api_keys.h"
#include "server/http/openai_request.h"
#include "server/http/router.h"
#include "server/worker_pool.h"
#include "sluice/service.h"

namespace sluice::server {

// OpenAI's API over a service:
//
// | route                                      | answer                                       |
// |--------------------------------------------|----------------------------------------------|
// | GET /v1/models, /v1/models/NAME            | the models, or one of them                   |
// | POST /v1/completions, /v1/chat/completions | one JSON object; events with "stream": true  |
// | POST /tokenize, /detokenize                | vLLM's: ids of text or a chat, text of ids   |
// | GET /health, /version                      | 200 while work is accepted, or 503; version  |
//
// Large bodies are read and tokenized on threads of its own, so that other streams go on.
class OpenAiRoutes final {
 public:
  // `service` must outlive this, and this the server of `router`. Every route but the last two asks
  // for a key, unless `keys` is null.
  OpenAiRoutes(Service& service, std::shared_ptr<const ApiKeys> keys, Router& router);

 private:
  using Exchange = std::shared_ptr<HttpExchange>;
  using Handler = std::function<void(const Exchange&, const Client&)>;

  // Routes of clients that have a key.
  void add_keyed(Router& router, const char* method, const char* path, Handler handler);
  // A POST's body is handled here, or on a worker if it is large.
  void handle(Exchange exchange, Client client, const Handler& handler);

  void list_models(const Exchange& exchange);
  void show_model(const Exchange& exchange);
  void complete(OpenAiRoute route, const Exchange& exchange, const Client& client);
  void tokenize(const Exchange& exchange);
  void detokenize(const Exchange& exchange);

  Service& service_;
  const std::shared_ptr<const ApiKeys> keys_;
  WorkerPool workers_;
};

}  // namespace sluice::server
