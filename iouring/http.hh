#pragma once
// HTTP/1.1: a client, a small server, and the decoder that both use. Neither TLS nor HTTP/2, and no
// name is looked up: numeric addresses and localhost.

#include "iouring/http_client.hh"
#include "iouring/http_decoder.hh"
#include "iouring/http_message.hh"
#include "iouring/http_server.hh"
