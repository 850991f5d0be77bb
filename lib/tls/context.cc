// SPDX-License-Identifier: BSD-3-Clause
#include "tls/context.h"

#include <array>
#include <cstring>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls/context_state.h"

namespace chainring::tls {

namespace {

/// What OpenSSL says about its last failure.
std::string why() {
  const unsigned long code = ERR_peek_last_error();
  const char* const text = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  return text == nullptr ? "OpenSSL gives no reason" : text;
}

error refuse(const std::string& file, const std::string& what) {
  return {errc::invalid_argument, file + ": " + what + " (" + why() + ")"};
}

// Nobody could answer the question of an encrypted key while the broker runs.
int no_passphrase(char*, int, int, void*) noexcept {
  return -1;
}

/// Chooses the certificate for the name that the client asks for.
int choose_certificate(SSL* ssl, int*, void* of) noexcept {
  const auto& all = static_cast<const context::state*>(of)->certificates;
  const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr) return SSL_TLSEXT_ERR_OK;
  for (const auto& c : all)
    if (X509_check_host(SSL_CTX_get0_certificate(c.get()), name, 0, 0, nullptr) == 1) {
      SSL_set_SSL_CTX(ssl, c.get());
      return SSL_TLSEXT_ERR_OK;
    }
  return SSL_TLSEXT_ERR_OK;
}

/// Agrees on what is spoken in TLS. A client that offers other protocols only is refused, so that
/// it cannot be made to take the answers of one protocol for those of another (RFC 7301, 3.2).
int choose_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                    const unsigned char* in, unsigned in_size, void*) noexcept {
  const auto* const mine = static_cast<const handshake_of*>(SSL_get_app_data(ssl));
  const std::string_view wanted = mine != nullptr && mine->websocket ? "http/1.1" : "mqtt";
  for (unsigned at = 0; at < in_size; at += in[at] + 1u)
    if (in[at] == wanted.size() && at + 1u + in[at] <= in_size &&
        std::memcmp(in + at + 1, wanted.data(), wanted.size()) == 0) {
      *out = in + at + 1;
      *out_size = in[at];
      return SSL_TLSEXT_ERR_OK;
    }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

result<std::unique_ptr<SSL_CTX, free_ssl>> make(const context_options& o,
                                                const certificate_files& files) {
  std::unique_ptr<SSL_CTX, free_ssl> made(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* const c = made.get();
  if (c == nullptr) return error{errc::unsupported, "OpenSSL makes no context: " + why()};
  const int version = o.version_min == protocol_version::tls_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
  constexpr const char* ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
  static constexpr std::string_view session_context = "chainring";
  if (SSL_CTX_set_min_proto_version(c, version) != 1 || SSL_CTX_set_cipher_list(c, ciphers) != 1 ||
      SSL_CTX_set_session_id_context(c,
                                     reinterpret_cast<const unsigned char*>(session_context.data()),
                                     session_context.size()) != 1)
    return error{errc::unsupported, "OpenSSL refuses the versions or ciphers of TLS: " + why()};
  SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                             SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  // An idle connection keeps no buffers.
  SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF); // a session is in its ticket
  SSL_CTX_set_num_tickets(c, 1);
  SSL_CTX_set_default_passwd_cb(c, no_passphrase);
  if (SSL_CTX_use_certificate_chain_file(c, files.chain.c_str()) != 1)
    return refuse(files.chain, "the certificate cannot be read; expected PEM");
  if (SSL_CTX_use_PrivateKey_file(c, files.key.c_str(), SSL_FILETYPE_PEM) != 1)
    return refuse(files.key, "the private key cannot be used; expected PEM without a passphrase, "
                             "which belongs to the certificate " +
                                 files.chain);
  if (SSL_CTX_check_private_key(c) != 1)
    return refuse(files.key, "the private key does not belong to the certificate " + files.chain);
  SSL_CTX_set_alpn_select_cb(c, choose_protocol, nullptr);
  if (o.clients == client_certificates::none) return made;
  if (SSL_CTX_load_verify_locations(c, o.trusted.c_str(), nullptr) != 1)
    return refuse(o.trusted, "the authorities cannot be read; expected certificates in PEM");
  STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(o.trusted.c_str());
  if (names == nullptr) return refuse(o.trusted, "the authorities have no names");
  SSL_CTX_set_client_CA_list(c, names);
  SSL_CTX_set_verify(
      c,
      SSL_VERIFY_PEER |
          (o.clients == client_certificates::required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
      nullptr);
  return made;
}

} // namespace

context::context(std::unique_ptr<state> s) : state_(std::move(s)) {}
context::~context() = default;

result<std::shared_ptr<const context>> context::load(const context_options& o) {
  if (o.certificates.empty())
    return error{errc::invalid_argument, "certificates: expected at least one, with its key"};
  if ((o.clients != client_certificates::none) != !o.trusted.empty())
    return error{errc::invalid_argument,
                 "trusted: expected the file of authorities exactly where clients' certificates "
                 "are asked for"};
  auto s = std::make_unique<state>();
  for (const certificate_files& files : o.certificates) {
    auto made = make(o, files);
    if (!made) return made.error();
    s->certificates.push_back(std::move(*made));
  }
  for (const auto& c : s->certificates) {
    SSL_CTX_set_tlsext_servername_callback(c.get(), choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(c.get(), s.get());
  }
  return std::shared_ptr<const context>(new context(std::move(s)));
}

} // namespace chainring::tls
