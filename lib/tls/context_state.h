// SPDX-License-Identifier: BSD-3-Clause
/// The state of a context. Internal to lib/tls.
#pragma once
#include <memory>
#include <openssl/ssl.h>
#include <vector>

#include "tls/context.h"

namespace chainring::tls {

struct free_ssl {
  void operator()(SSL_CTX* c) const noexcept { SSL_CTX_free(c); }
  void operator()(SSL* s) const noexcept { SSL_free(s); }
};

/// What a connection says of itself to the callbacks of its handshake, as the application data of
/// its SSL.
struct handshake_of {
  bool websocket = false; ///< HTTP is spoken in TLS, and not MQTT
};

struct context::state {
  std::vector<std::unique_ptr<SSL_CTX, free_ssl>> certificates; ///< one for each, in order
};

} // namespace chainring::tls
