// SPDX-License-Identifier: BSD-3-Clause
/// What a server proves and demands by TLS: its certificates, whom it trusts, and which versions it
/// speaks. A context is read from files at once and never changes; new files make a new one. A
/// program that begins connections makes a context of the other side with for_clients().
///
/// TLS 1.2 and 1.3 are spoken, with forward secrecy and authenticated encryption only: ECDHE with
/// AES-GCM or ChaCha20-Poly1305. There is no compression and no renegotiation. Where there are
/// several certificates, the first one whose names cover the name that the client asks for (SNI) is
/// used, and else the first of all. Sessions are resumed by tickets, whose keys live as long as the
/// context.
///
/// A client may prove by a key that it shares with the server (shared_keys.h) who it is, instead of
/// by a certificate, and the server proves itself by the same key. In TLS 1.3 the key goes with the
/// hash SHA-256, as RFC 8446 says of keys that name no other; in TLS 1.2 with DHE and AES-GCM or
/// ECDHE and ChaCha20-Poly1305.
///
/// Thread-safety: a context is constant; any thread may use it.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../base/error.h"
#include "shared_keys.h"

namespace chainring::tls {

/// A certificate with those that lead to its issuer, and its private key, as PEM files.
struct certificate_files {
  std::string chain;
  std::string key;
};

enum class client_certificates {
  none,     ///< are not asked for
  optional, ///< are asked for; one that is sent must be valid
  required, ///< a client without a valid one is refused
};

enum class protocol_version { tls_1_2, tls_1_3 };

struct context_options {
  std::vector<certificate_files> certificates; ///< at least one, or `keys`
  std::string trusted; ///< PEM file of the authorities that clients' certificates lead to
  /// PEM file of the revocation lists of those authorities, or empty. Then a client's certificate
  /// is refused that its issuer has revoked, or whose issuer has no list in the file that is still
  /// in force. The authorities themselves are not asked about.
  std::string revoked;
  std::string keys; ///< file of keys that clients share with the server, or empty
  client_certificates clients = client_certificates::none;
  protocol_version version_min = protocol_version::tls_1_2;
};

class context {
 public:
  /// Reads the files. The error names the file and what is wrong with it.
  [[nodiscard]] static result<std::shared_ptr<const context>> load(const context_options& options);
  /// The context of a program that begins connections to servers whose certificates lead to the
  /// authorities in this PEM file, whatever names they have. It offers the versions and ciphers
  /// that load() takes, and MQTT by ALPN.
  [[nodiscard]] static result<std::shared_ptr<const context>>
  for_clients(const std::string& trusted);
  ~context();
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  /// How many keys clients share with the server.
  [[nodiscard]] std::size_t key_count() const noexcept;
  /// Whether this client has the same key here as in `other`.
  [[nodiscard]] bool same_key(const context& other, std::string_view identity) const;

  struct state; ///< internal
  [[nodiscard]] const state& internals() const noexcept { return *state_; }

 private:
  explicit context(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

} // namespace chainring::tls
