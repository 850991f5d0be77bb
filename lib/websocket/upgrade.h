// SPDX-License-Identifier: BSD-3-Clause
/// The HTTP request by which a client opens a WebSocket (RFC 6455, section 4), and the answer.
///
/// read_upgrade() is a pure function over the octets that have arrived. It refuses, with the status
/// code of HTTP that fits, everything that is not exactly one such request: another method or
/// version, a body, a header line that is folded or malformed, a header that may stand once and
/// stands twice. A request has no size of its own to allocate, and `head_size_max` bounds it.
///
/// Thread-safety: both functions are pure. Neither allocates.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace chainring::websocket {

/// What a request must fit.
struct upgrade_rules {
  std::string_view path = "/mqtt";       ///< the path that is asked for, without a query
  std::string_view subprotocol = "mqtt"; ///< the client must offer it (MQTT-6.0.0-3)
  /// The origins from which scripts in browsers may connect, such as "https://example.org". Empty
  /// means any. Clients that are no browsers send no origin and are not concerned.
  std::span<const std::string> origins{};
  std::uint32_t head_size_max = 8192; ///< octets of the request
};

enum class upgrade_status : std::uint8_t {
  need_more, ///< the request is not whole yet
  accepted,  ///< the connection is a WebSocket once answer() has been sent
  refused,   ///< answer() says why; the connection ends behind it
};

struct upgrade {
  upgrade_status status = upgrade_status::need_more;
  std::uint16_t http_status = 0; ///< 101, or the code with which the request is refused
  std::size_t head_size = 0;     ///< octets of an accepted request; frames may follow behind them
  std::string_view key;          ///< Sec-WebSocket-Key of an accepted request, in the octets
};

/// Reads the request at the start of `octets`.
[[nodiscard]] upgrade read_upgrade(std::string_view octets, const upgrade_rules& rules) noexcept;

/// The longest answer, in octets, for a subprotocol of at most 64.
inline constexpr std::size_t answer_size_max = 320;
/// Writes the answer to a request that is accepted or refused. Returns its size, or 0 when the room
/// is too small or OpenSSL gives no SHA-1.
[[nodiscard]] std::size_t answer(std::span<char> room, const upgrade& to,
                                 std::string_view subprotocol) noexcept;

} // namespace chainring::websocket
