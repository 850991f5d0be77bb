// SPDX-License-Identifier: BSD-3-Clause
/// WebSocket (RFC 6455) as a layer between a protocol and its connections.
///
/// The connections at the ports that are listed open with the HTTP request that upgrade.h reads.
/// Then the payload of their binary frames is the stream that the protocol above receives; packets
/// of the protocol may begin and end anywhere in frames and messages. What the protocol writes
/// leaves in binary messages. Frames of text end a connection, with status 1003. All other
/// connections pass through unchanged.
///
/// Frames that arrive are libwslay's: it checks the rules of the protocol, removes the masks, and
/// answers ping and close. The header of a frame that leaves is made here, so that its payload is
/// copied only once.
///
///     websocket::layer_options o;
///     o.endpoints.push_back({.port = 8080});
///     auto layer = websocket::layer::create(o, protocol);
///     auto stack = stream::tcp_stack::create(tcp, **layer, output);
///     (*layer)->use(**stack);
///     // the protocol writes to **layer
///
/// **Limits.** A request has at most `head_size_max` octets. The control frames that wait to be
/// sent to a client are at most `control_frames_max`: a client that sends pings and reads no
/// answers is closed. A connection that has sent no whole request, or nothing behind it, is for the
/// protocol above to end; it hears of each connection as soon as TCP has it. A WebSocket costs
/// about 9 KiB.
///
/// Thread-safety: one thread makes all calls; any thread may read the counters.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../base/error.h"
#include "../base/statistic.h"
#include "../stream/byte_streams.h"

namespace chainring::websocket {

/// A port at which connections are WebSockets.
struct endpoint {
  std::uint16_t port = 0;
  std::string path = "/mqtt";
};

struct layer_options {
  std::vector<endpoint> endpoints;
  std::string subprotocol = "mqtt";
  std::vector<std::string> origins; ///< see upgrade_rules; empty means any
  std::uint32_t head_size_max = 8192;
  std::uint32_t control_frames_max = 8;
  std::uint32_t connections_max = 16384; ///< above each number of a connection
};

/// The counters of a layer. Any thread may read them.
template <class T> struct layer_counters {
  T upgraded{};       ///< connections that became WebSockets
  T refused{};        ///< requests that were refused, those of the next three included
  T refused_path{};   ///< for their path
  T refused_origin{}; ///< for their origin
  T refused_size{};   ///< because they are longer than head_size_max
  T pings{};          ///< pings that were answered
  T text{};           ///< connections that were ended for a frame of text
  T malformed{};      ///< connections that broke a rule of RFC 6455
  T unread{};         ///< connections with too many control frames that they do not read

  template <class F> static constexpr void for_each(F&& fn) {
    fn("upgraded", &layer_counters::upgraded);
    fn("refused", &layer_counters::refused);
    fn("refused_path", &layer_counters::refused_path);
    fn("refused_origin", &layer_counters::refused_origin);
    fn("refused_size", &layer_counters::refused_size);
    fn("pings", &layer_counters::pings);
    fn("text", &layer_counters::text);
    fn("malformed", &layer_counters::malformed);
    fn("unread", &layer_counters::unread);
  }
};

class layer final : public stream::byte_streams, public stream::byte_stream_handler {
 public:
  /// `above` hears of all connections. errc::invalid_argument names the option and its range.
  [[nodiscard]] static result<std::unique_ptr<layer>> create(const layer_options& options,
                                                             stream::byte_stream_handler& above);
  ~layer() override;
  layer(const layer&) = delete;
  layer& operator=(const layer&) = delete;

  /// Sets what carries the connections, before the first of them.
  void use(stream::byte_streams& below) noexcept;
  [[nodiscard]] const layer_counters<statistic>& counters() const noexcept;

  std::size_t write(stream::connection c, std::span<const std::byte> octets) noexcept override;
  void push(stream::connection c) noexcept override;
  void consumed(stream::connection c, std::uint32_t octets) noexcept override;
  /// Sends a close frame first.
  void close(stream::connection c) noexcept override;
  void abort(stream::connection c) noexcept override;
  [[nodiscard]] std::string_view proved_name(stream::connection c) const noexcept override;

  void accepted(stream::connection c, const net::endpoint& from,
                std::uint16_t own_port) noexcept override;
  void connected(stream::connection c) noexcept override;
  void received(stream::connection c, std::span<const std::byte> octets) noexcept override;
  void finished(stream::connection c) noexcept override;
  void writable(stream::connection c) noexcept override;
  void ended(stream::connection c, stream::end_reason reason) noexcept override;

 private:
  struct state;
  explicit layer(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

} // namespace chainring::websocket
