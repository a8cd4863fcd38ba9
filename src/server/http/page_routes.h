#pragma once

#include "server/http/router.h"

namespace sluice::server {

// A page for people: a playground and the server's state, at / with its parts at /page/NAME. It
// holds nothing of the server, so it asks for no key; what it shows comes through the routes that
// do.
//
// Its Content-Security-Policy lets it load and call nothing but this server, run no script but its
// files, and stand in no other page's frame.
void add_page_routes(Router& router);

}  // namespace sluice::server
