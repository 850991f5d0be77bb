// SPDX-License-Identifier: BSD-3-Clause
/// The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding: the client
/// proves that it knows a password, and the server that it has the keys made of it, while neither
/// the password nor anything that could stand for it crosses the network.
///
/// User names are compared octet by octet; nothing is prepared as SASLprep would. A user that does
/// not exist is answered like one that does, and its proof fails.
///
/// Thread-safety: none. Each call allocates, and takes microseconds.
///
///     scram_exchange exchange;
///     auto answer = exchange.first(client_first, *file); // server-first-message
///     auto proof = exchange.last(client_final);          // server-final-message
///     if (proof) welcome(exchange.user());
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "password_file.h"

namespace chainring::access {

/// Longer messages of a client are refused.
inline constexpr std::size_t scram_message_max = 1024;

class scram_exchange {
 public:
  /// Takes the client-first-message, and returns the server-first-message. Nothing where the
  /// message is malformed, asks for channel binding or for another identity than its own. A test
  /// gives the server's part of the nonce.
  [[nodiscard]] std::optional<std::string>
  first(std::string_view message, const password_file& file, std::string_view nonce = {});
  /// Takes the client-final-message, and returns the server-final-message. Nothing where it does
  /// not continue the exchange, or the proof is wrong.
  [[nodiscard]] std::optional<std::string> last(std::string_view message);
  /// The name that the client gave in its first message. It is proved when last() has returned a
  /// message.
  [[nodiscard]] const std::string& user() const noexcept { return user_; }

 private:
  std::string user_;
  std::string binding_; ///< what the client must repeat: the beginning of its message, in Base64
  std::string nonce_;   ///< the client's part and the server's
  std::string text_;    ///< of the messages, which the proof covers
  std::array<unsigned char, 64> keys_{};
  bool begun_ = false;
};

} // namespace chainring::access
