// SPDX-License-Identifier: BSD-3-Clause
/// TLS 1.2 and 1.3 as a layer between a protocol and its connections, by OpenSSL and without
/// sockets.
///
/// The connections at the ports that are listed begin with a handshake. Its steps take up to
/// milliseconds, so helper threads do them: what has arrived goes to a helper together with the
/// connection, and what it has answered is sent when both are back. Once the handshake is complete,
/// records are read and written on the worker's thread. All other connections pass through
/// unchanged.
///
///     tls::layer_options o;
///     o.endpoints.push_back({.port = 8883});
///     auto layer = tls::layer::create(o, crew, protocol);
///     (*layer)->use(context);            // again with a newer one at any time, by any thread
///     auto stack = stream::tcp_stack::create(tcp, **layer, output);
///     (*layer)->use(**stack);
///     // in every round, after stack.poll(): crew.collect(), then (*layer)->poll(now)
///
/// **Limits.** As many handshakes are with the helpers as their crew has jobs; the others wait in
/// line, and TCP's window bounds what each of them has sent. A connection whose handshake does not
/// end is for the protocol above to end; it hears of each connection as soon as TCP has it. What
/// was written and not taken below is at most one record of 16 KiB for each connection; a
/// connection that does not take it within `close_timeout_s` of close() is reset.
///
/// Thread-safety: one thread makes all calls; any thread may read the counters and call
/// use(context).
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "../base/error.h"
#include "../base/statistic.h"
#include "../stream/byte_streams.h"
#include "../stream/helper_crew.h"
#include "context.h"

namespace chainring::tls {

/// A port at which connections begin with a handshake.
struct endpoint {
  std::uint16_t port = 0;
  bool websocket = false; ///< HTTP is spoken in TLS, which decides what ALPN agrees on
};

struct layer_options {
  std::vector<endpoint> endpoints;
  std::uint32_t connections_max = 16384; ///< above each number of a connection
  std::uint32_t close_timeout_s = 10;
};

/// The counters of a layer. Any thread may read them.
template <class T> struct layer_counters {
  T handshakes{};        ///< handshakes that were completed
  T resumed{};           ///< of these, those that resumed a session; no keyed ones by TLS 1.3
  T tls_1_3{};           ///< of these, those by TLS 1.3
  T certified{};         ///< of these, those of clients that proved a name by a certificate
  T keyed{};             ///< of these, those of clients that proved a name by a shared key
  T handshakes_failed{}; ///< handshakes that failed
  T handshakes_waited{}; ///< times that a step of a handshake had to wait for a helper
  T malformed{};         ///< connections that ended for a wrong record
  T closes_timed_out{};  ///< connections that did not take what was written before their end
  T keys_gone{};         ///< connections that were ended because their key is gone or another one

  template <class F> static constexpr void for_each(F&& fn) {
    fn("handshakes", &layer_counters::handshakes);
    fn("resumed", &layer_counters::resumed);
    fn("tls_1_3", &layer_counters::tls_1_3);
    fn("certified", &layer_counters::certified);
    fn("keyed", &layer_counters::keyed);
    fn("handshakes_failed", &layer_counters::handshakes_failed);
    fn("handshakes_waited", &layer_counters::handshakes_waited);
    fn("malformed", &layer_counters::malformed);
    fn("closes_timed_out", &layer_counters::closes_timed_out);
    fn("keys_gone", &layer_counters::keys_gone);
  }
};

class layer final : public stream::byte_streams, public stream::byte_stream_handler {
 public:
  /// `above` hears of all connections. `crew` must be destroyed before the layer is.
  [[nodiscard]] static result<std::unique_ptr<layer>> create(const layer_options& options,
                                                             stream::helper_crew& crew,
                                                             stream::byte_stream_handler& above);
  ~layer() override;
  layer(const layer&) = delete;
  layer& operator=(const layer&) = delete;

  /// Sets what carries the connections, before the first of them.
  void use(stream::byte_streams& below) noexcept;
  /// Sets what new connections use from now on: those that are accepted at the endpoints, or, with
  /// a context for clients, those that are begun here. Connections whose clients have shown a key
  /// that is not in it any more are ended by one of the next calls of poll(). Any thread may call
  /// it.
  void use(std::shared_ptr<const context> newest);
  /// Goes on with handshakes that waited. Returns true when there was anything to do.
  bool poll(std::uint64_t now_tsc) noexcept;
  [[nodiscard]] const layer_counters<statistic>& counters() const noexcept;

  std::size_t write(stream::connection c, std::span<const std::byte> octets) noexcept override;
  void push(stream::connection c) noexcept override;
  void consumed(stream::connection c, std::uint32_t octets) noexcept override;
  /// Sends close_notify first.
  void close(stream::connection c) noexcept override;
  void abort(stream::connection c) noexcept override;
  /// The common name of the client's certificate, which was verified, or the identity of its key.
  [[nodiscard]] std::string_view proved_name(stream::connection c) const noexcept override;

  void accepted(stream::connection c, const net::endpoint& from,
                std::uint16_t own_port) noexcept override;
  /// Begins the handshake where the context is one for clients. Above hears of it behind that.
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

} // namespace chainring::tls
