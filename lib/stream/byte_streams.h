// SPDX-License-Identifier: BSD-3-Clause
/// The seam between a protocol over streams of octets, and what carries the streams.
///
/// `tcp_stack` carries connections, and a layer such as TLS or WebSocket serves this seam above and
/// uses it below. A protocol calls `byte_streams`, is called as a `byte_stream_handler`, and does
/// not know what lies between it and TCP:
///
///     protocol  --write, consumed, close-->  layer  --write, consumed, close-->  tcp_stack
///     protocol  <--accepted, received------  layer  <--accepted, received------  tcp_stack
///
/// A connection has one number, which TCP gives and every layer passes on. A layer passes the
/// connections that it has nothing to do with on as they are.
///
/// Thread-safety: one thread makes all calls, the same for all layers of a stack.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../net/address.h"

namespace chainring::stream {

/// Names a connection, from accepted() or tcp_stack::connect() until ended() has returned, or until
/// close() or abort().
using connection = std::uint32_t;
inline constexpr connection no_connection = 0xffffffff;

enum class end_reason : std::uint8_t {
  closed,    ///< both sides have closed it
  reset,     ///< the peer reset it, or it broke the rules of a layer
  timed_out, ///< the peer does not acknowledge any more
};

/// What a program does with its connections. What is below calls it from its poll() only, so each
/// function may call what is below.
class byte_stream_handler {
 public:
  virtual ~byte_stream_handler() = default;
  /// A peer has connected. `from` has its address and port and the interface.
  virtual void accepted(connection c, const net::endpoint& from,
                        std::uint16_t own_port) noexcept = 0;
  /// The peer has accepted what tcp_stack::connect() began.
  virtual void connected(connection) noexcept {}
  /// The next octets that the peer has sent. They are valid during the call; what is needed later
  /// must be copied. They count against the window until consumed() is told of them.
  virtual void received(connection c, std::span<const std::byte> octets) noexcept = 0;
  /// The peer sends nothing more. The own side may go on.
  virtual void finished(connection c) noexcept = 0;
  /// There is room again after write() took less than it was given.
  virtual void writable(connection c) noexcept = 0;
  /// The connection is gone, or the peer has refused it.
  virtual void ended(connection c, end_reason reason) noexcept = 0;
};

/// What carries the connections of a handler.
class byte_streams {
 public:
  virtual ~byte_streams() = default;
  /// Copies octets to what is sent, as many as there is room for, and returns their number. They
  /// leave with push(), or earlier. What was not taken comes first in the next call.
  virtual std::size_t write(connection c, std::span<const std::byte> octets) noexcept = 0;
  /// Sends what was written.
  virtual void push(connection c) noexcept = 0;
  /// Opens the window again for so many octets that received() was given.
  virtual void consumed(connection c, std::uint32_t octets) noexcept = 0;
  /// Sends what was written and closes the connection. The handler hears no more of it.
  virtual void close(connection c) noexcept = 0;
  /// Resets the connection. The handler hears no more of it.
  virtual void abort(connection c) noexcept = 0;
  /// The name that the peer of this connection has proved to have by a certificate or a key, until
  /// the next call for this connection; empty where it has proved none.
  [[nodiscard]] virtual std::string_view proved_name(connection) const noexcept { return {}; }
};

/// How much of what a layer was given from below has been handled, where the layer hands other
/// octets on than it was given. What is handed on never has more octets than what carried it.
class window_account {
 public:
  void received(std::size_t octets) noexcept { below_ += static_cast<std::uint32_t>(octets); }
  void handed_on(std::size_t octets) noexcept { above_ += static_cast<std::uint32_t>(octets); }
  /// The handler above has consumed so many octets. Returns how many to report below.
  [[nodiscard]] std::uint32_t consumed(std::uint32_t octets) noexcept {
    above_ -= octets < above_ ? octets : above_;
    return settle();
  }
  /// Returns what can be reported below, because nothing above waits for it.
  [[nodiscard]] std::uint32_t settle() noexcept {
    const std::uint32_t free = below_ > above_ ? below_ - above_ : 0;
    below_ -= free;
    return free;
  }

 private:
  std::uint32_t below_ = 0; ///< octets received, of which nothing was told below
  std::uint32_t above_ = 0; ///< octets handed on, of which the handler has told nothing
};

} // namespace chainring::stream
