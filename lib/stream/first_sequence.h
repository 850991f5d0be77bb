// SPDX-License-Identifier: BSD-3-Clause
/// The first sequence numbers of connections (RFC 6528), and those that stand for a connection
/// which nobody remembers (SYN cookies, RFC 4987).
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "../net/address.h"

namespace chainring::stream {

/// The two ends of a connection.
struct connection_ends {
  net::ip_address own{};
  net::ip_address peer{};
  std::uint16_t own_port = 0;
  std::uint16_t peer_port = 0;
};

/// What a SYN has said and its cookie has to remember.
struct syn_offer {
  std::uint16_t mss = 536; ///< octets of the longest segment that the peer takes (RFC 9293, 3.7.1)
  bool sack = false;       ///< the peer understands selective acknowledgements
  friend bool operator==(const syn_offer&, const syn_offer&) = default;
};

/// Draws the first sequence number of each connection from a secret, the addresses and ports of
/// both sides, and the time, so that nobody else can predict it. The function is SipHash-2-4 of
/// OpenSSL: strangers see its values, so a hash for tables would not do.
///
/// A cookie is a first sequence number as well. Its upper four bits are the parity of the period of
/// 64 seconds in which it was made, whether the peer understands selective acknowledgements, and
/// two for the length of segments, which is rounded down to 536, 1,220, 1,440 or 1,460. The other
/// 28 are of the hash of these, the period, both ends and the peer's own sequence number. Whoever
/// does not see the answer to a SYN has to guess them, with one chance in 268 million a segment. A
/// cookie is good in its period and in the next one.
///
/// Thread-safety: one thread calls it.
class first_sequence {
 public:
  /// Draws the secret. Returns false when OpenSSL has no SipHash or no random numbers.
  [[nodiscard]] bool make() noexcept;
  [[nodiscard]] std::uint32_t operator()(const connection_ends& ends,
                                         std::uint64_t time_4us) noexcept;
  /// The seconds in which cookies of one period are made.
  static constexpr std::uint64_t period_s = 64;
  /// Makes the cookie that answers a SYN with the sequence number `peer_sequence`.
  [[nodiscard]] std::uint32_t cookie(const connection_ends& ends, std::uint32_t peer_sequence,
                                     const syn_offer& offer, std::uint64_t now_s) noexcept;
  /// Returns what the SYN has said, or nothing when this is no cookie for it.
  [[nodiscard]] std::optional<syn_offer> read_cookie(std::uint32_t cookie,
                                                     const connection_ends& ends,
                                                     std::uint32_t peer_sequence,
                                                     std::uint64_t now_s) noexcept;
  first_sequence() noexcept;
  ~first_sequence();
  first_sequence(const first_sequence&) = delete;
  first_sequence& operator=(const first_sequence&) = delete;

 private:
  /// The hash of the ends and of a word, which says what the hash is for.
  [[nodiscard]] std::uint64_t hash(const connection_ends& ends, std::uint64_t of) noexcept;
  struct state;
  std::unique_ptr<state> state_;
};

} // namespace chainring::stream
