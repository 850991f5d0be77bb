// SPDX-License-Identifier: BSD-3-Clause
#include "tls/context.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls/context_state.h"

namespace chainring::tls {

namespace {

constexpr const char* certificate_ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr const char* key_ciphers =
    "DHE-PSK-AES128-GCM-SHA256:DHE-PSK-AES256-GCM-SHA384:ECDHE-PSK-CHACHA20-POLY1305:";

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
    if (SSL_CTX_get0_certificate(c.get()) != nullptr &&
        X509_check_host(SSL_CTX_get0_certificate(c.get()), name, 0, 0, nullptr) == 1) {
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

const shared_keys* keys_of(const SSL* ssl) noexcept {
  const auto* const mine = static_cast<const handshake_of*>(SSL_get_app_data(ssl));
  return mine == nullptr ? nullptr : mine->keys;
}

/// Finds the key that a client of TLS 1.2 names. OpenSSL keeps the identity in the session.
unsigned find_key_1_2(SSL* ssl, const char* identity, unsigned char* out, unsigned room) noexcept {
  const shared_keys* const keys = keys_of(ssl);
  if (keys == nullptr || SSL_version(ssl) >= TLS1_3_VERSION) return 0;
  const shared_keys::key* const key = keys->find(identity);
  if (key == nullptr || key->size() > room) return 0;
  std::ranges::copy(*key, out);
  return static_cast<unsigned>(key->size());
}

/// Makes the session that a client of TLS 1.3 has by the key that it names. The identity is a part
/// of the session, and of the tickets that resume it. So it is known only where this session was
/// chosen: a client may name several, and need not have the keys of all.
int find_key_1_3(SSL* ssl, const unsigned char* identity, std::size_t size,
                 SSL_SESSION** out) noexcept {
  *out = nullptr;
  const shared_keys* const keys = keys_of(ssl);
  const shared_keys::key* const key =
      keys == nullptr ? nullptr : keys->find({reinterpret_cast<const char*>(identity), size});
  if (key == nullptr) return 1; // the handshake goes on without it
  static constexpr unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
  const SSL_CIPHER* const cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
  SSL_SESSION* const made = SSL_SESSION_new();
  if (cipher == nullptr || made == nullptr ||
      SSL_SESSION_set1_master_key(made, key->data(), key->size()) != 1 ||
      SSL_SESSION_set_cipher(made, cipher) != 1 ||
      SSL_SESSION_set_protocol_version(made, TLS1_3_VERSION) != 1 ||
      SSL_SESSION_set1_ticket_appdata(made, identity, size) != 1) {
    SSL_SESSION_free(made);
    return 0;
  }
  *out = made;
  return 1;
}

/// Makes a context that both sides use, with these ciphers of TLS 1.2.
result<std::unique_ptr<SSL_CTX, free_ssl>> make_plain(const SSL_METHOD* side, int version_min,
                                                      const std::string& ciphers) {
  std::unique_ptr<SSL_CTX, free_ssl> made(SSL_CTX_new(side));
  SSL_CTX* const c = made.get();
  if (c == nullptr) return error{errc::unsupported, "OpenSSL makes no context: " + why()};
  static constexpr std::string_view session_context = "chainring";
  if (SSL_CTX_set_min_proto_version(c, version_min) != 1 ||
      SSL_CTX_set_cipher_list(c, ciphers.c_str()) != 1 ||
      SSL_CTX_set_session_id_context(c,
                                     reinterpret_cast<const unsigned char*>(session_context.data()),
                                     session_context.size()) != 1)
    return error{errc::unsupported, "OpenSSL refuses the versions or ciphers of TLS: " + why()};
  SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                             SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  // An idle connection keeps no buffers.
  SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF); // a session is in its ticket
  return made;
}

/// Makes one context. `files` are nullptr where there is no certificate.
result<std::unique_ptr<SSL_CTX, free_ssl>> make(const context_options& o,
                                                const certificate_files* files) {
  const bool keys = !o.keys.empty();
  // Only a client that has a key offers the ciphers that need one, so they are preferred.
  auto plain =
      make_plain(TLS_server_method(),
                 o.version_min == protocol_version::tls_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION,
                 std::string(keys ? key_ciphers : "") + certificate_ciphers);
  if (!plain) return plain.error();
  std::unique_ptr<SSL_CTX, free_ssl> made = std::move(*plain);
  SSL_CTX* const c = made.get();
  SSL_CTX_set_num_tickets(c, 1);
  SSL_CTX_set_default_passwd_cb(c, no_passphrase);
  SSL_CTX_set_alpn_select_cb(c, choose_protocol, nullptr);
  if (keys) {
    SSL_CTX_set_psk_server_callback(c, find_key_1_2);
    SSL_CTX_set_psk_find_session_callback(c, find_key_1_3);
    // A key of TLS 1.3 goes with its hash, SHA-256, so the ciphers with that hash are preferred.
    if (SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
                                    "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set_dh_auto(c, 1) != 1)
      return error{errc::unsupported, "OpenSSL refuses the ciphers of shared keys: " + why()};
  }
  if (files == nullptr) return made;
  if (SSL_CTX_use_certificate_chain_file(c, files->chain.c_str()) != 1)
    return refuse(files->chain, "the certificate cannot be read; expected PEM");
  if (SSL_CTX_use_PrivateKey_file(c, files->key.c_str(), SSL_FILETYPE_PEM) != 1)
    return refuse(files->key, "the private key cannot be used; expected PEM without a passphrase, "
                              "which belongs to the certificate " +
                                  files->chain);
  if (SSL_CTX_check_private_key(c) != 1)
    return refuse(files->key, "the private key does not belong to the certificate " + files->chain);
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
  if (o.revoked.empty()) return made;
  X509_STORE* const store = SSL_CTX_get_cert_store(c);
  X509_LOOKUP* const lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
  if (lookup == nullptr || X509_load_crl_file(lookup, o.revoked.c_str(), X509_FILETYPE_PEM) < 1 ||
      X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) != 1)
    return refuse(o.revoked, "the revocation lists cannot be read; expected them in PEM");
  return made;
}

} // namespace

std::string_view identity_of_key(SSL* ssl) noexcept {
  // Of TLS 1.2, whose tickets keep it too.
  if (const char* const identity = SSL_get_psk_identity(ssl); identity != nullptr) return identity;
  void* identity = nullptr;
  std::size_t size = 0;
  SSL_SESSION* const session = SSL_get_session(ssl);
  if (session == nullptr || SSL_SESSION_get0_ticket_appdata(session, &identity, &size) != 1)
    return {};
  return {static_cast<const char*>(identity), size};
}

context::context(std::unique_ptr<state> s) : state_(std::move(s)) {}
context::~context() = default;

std::size_t context::key_count() const noexcept {
  return state_->keys == nullptr ? 0 : state_->keys->size();
}

bool context::same_key(const context& other, std::string_view identity) const {
  const auto find = [&](const context& in) -> const shared_keys::key* {
    return in.state_->keys == nullptr ? nullptr : in.state_->keys->find(identity);
  };
  const shared_keys::key* const mine = find(*this);
  const shared_keys::key* const theirs = find(other);
  return mine != nullptr && theirs != nullptr && *mine == *theirs;
}

result<std::shared_ptr<const context>> context::load(const context_options& o) {
  if (o.certificates.empty() && o.keys.empty())
    return error{errc::invalid_argument,
                 "certificates: expected at least one, with its key, or keys that clients share"};
  if ((o.clients != client_certificates::none) != !o.trusted.empty())
    return error{errc::invalid_argument,
                 "trusted: expected the file of authorities exactly where clients' certificates "
                 "are asked for"};
  if (o.certificates.empty() && !o.trusted.empty())
    return error{errc::invalid_argument,
                 "trusted: a server that asks for certificates needs one of its own"};
  if (!o.revoked.empty() && o.trusted.empty())
    return error{errc::invalid_argument,
                 "revoked: expected the file of authorities that have made the lists"};
  auto s = std::make_unique<state>();
  if (!o.keys.empty()) {
    auto keys = shared_keys::read(o.keys);
    if (!keys) return keys.error();
    s->keys = std::move(*keys);
  }
  const auto add = [&](const certificate_files* files) -> chainring::result<void> {
    auto made = make(o, files);
    if (!made) return made.error();
    s->certificates.push_back(std::move(*made));
    return {};
  };
  if (o.certificates.empty())
    if (auto added = add(nullptr); !added) return added.error();
  for (const certificate_files& files : o.certificates)
    if (auto added = add(&files); !added) return added.error();
  for (const auto& c : s->certificates) {
    SSL_CTX_set_tlsext_servername_callback(c.get(), choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(c.get(), s.get());
  }
  return std::shared_ptr<const context>(new context(std::move(s)));
}

result<std::shared_ptr<const context>> context::for_clients(const std::string& trusted) {
  auto made = make_plain(TLS_client_method(), TLS1_2_VERSION, certificate_ciphers);
  if (!made) return made.error();
  SSL_CTX* const c = made->get();
  static constexpr unsigned char mqtt[] = "\x04mqtt";
  if (SSL_CTX_load_verify_locations(c, trusted.c_str(), nullptr) != 1)
    return refuse(trusted, "the authorities cannot be read; expected certificates in PEM");
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
  if (SSL_CTX_set_alpn_protos(c, mqtt, sizeof mqtt - 1) != 0)
    return error{errc::unsupported, "OpenSSL refuses ALPN: " + why()};
  auto s = std::make_unique<state>();
  s->certificates.push_back(std::move(*made));
  s->of_clients = true;
  return std::shared_ptr<const context>(new context(std::move(s)));
}

} // namespace chainring::tls
