// SPDX-License-Identifier: BSD-3-Clause
/// The state of a context. Internal to lib/tls.
#pragma once
#include <memory>
#include <openssl/ssl.h>
#include <string_view>
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
  const shared_keys* keys = nullptr;
};

struct context::state {
  std::vector<std::unique_ptr<SSL_CTX, free_ssl>> certificates; ///< one for each, in order
  std::shared_ptr<const shared_keys> keys;                      ///< null where there are none
  bool of_clients = false; ///< made by for_clients(); there is one entry above
};

/// The identity whose key has made the session of `ssl`, or nothing where a certificate or no
/// client was proved. It lives as long as the session.
[[nodiscard]] std::string_view identity_of_key(SSL* ssl) noexcept;

} // namespace chainring::tls
