// SPDX-License-Identifier: BSD-3-Clause
/// TCP connections over the packets of a DPDK port.
///
/// The state machine of TCP is lwIP's (2.1.3). lwIP finds a connection by walking through all of
/// them, and walks through all of them again in each of its timers. So its lists are empty here
/// between two calls: a table with a secret hash finds the connection of a packet, and lwIP gets
/// to see that one alone. Its timers get to see those connections only that have something to do.
/// An idle connection costs no time.
///
/// When to use: for a protocol over TCP on a port that the kernel does not see. When not: for
/// connections that the kernel can serve as well, because it has the better sender (selective
/// acknowledgements, timers finer than half a second).
///
///     class echo final : public stream::byte_stream_handler { ... };
///     auto stack = stream::tcp_stack::create({}, handler, output);
///     (*stack)->add_interface({.id = 0, .addresses = {address}});
///     (*stack)->listen(1883);
///     // in every round:
///     (*stack)->input(frame, ip_offset, 0, now);  // for each TCP packet to an own address
///     (*stack)->poll(now);                        // calls the handler
///
/// **Limits.** A connection that is not established yet has a place in a line of `half_open_max`.
/// When there is none, a SYN is answered with a cookie (RFC 4987): nothing is kept of it, and the
/// acknowledgement of the peer brings back what is needed, except that the window of the peer is
/// not scaled. So a flood of SYN packets keeps no honest peer out. There are at most
/// `connections_max` connections, and `connections_per_host_max` from one host, which may begin
/// `connections_per_second_max` in a second. A host counts by connections that it has completed, so
/// that nobody can use up the share of another by sending in its name. Packets that arrive before
/// their turn are kept for at most `out_of_order_max` packets of one connection and
/// `out_of_order_total_max` of all. lwIP's memory has the limit `memory_max`. What a limit refuses
/// is counted.
///
/// **Forged segments** (RFC 5961). A RST counts only with the very sequence number that is expected
/// next, a SYN within a connection never, and a segment whose acknowledgement is none of the own
/// octets is dropped. The peer is asked for the truth by an acknowledgement, for each connection
/// once in half a second at most.
///
/// Thread-safety: one thread makes all calls; any thread may read the counters. lwIP's state is
/// global, so a process has one stack at a time. Nothing is allocated per packet but the segments
/// that wait to be sent or acknowledged.
///
/// Durability: none. All connections end with the process, and what was received says nothing about
/// what is stored: TCP acknowledges octets as soon as they are received.
///
/// Complexity: O(1) for a packet, whatever the number of connections.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "../base/error.h"
#include "../base/statistic.h"
#include "../net/address.h"
#include "byte_streams.h"

struct rte_mbuf;

namespace chainring::stream {

/// Sends the packets of the stack.
class packet_output {
 public:
  virtual ~packet_output() = default;
  /// Returns an empty mbuf with headroom for a link header, or nullptr when nothing can be sent
  /// now. TCP sends the packet again then.
  [[nodiscard]] virtual rte_mbuf* allocate() noexcept = 0;
  /// Sends the IPv4 or IPv6 packet in `m` through the interface. The flags of `m` say which
  /// checksums the device is to fill in.
  virtual void send(std::uint16_t interface, const net::ip_address& to, rte_mbuf* m) noexcept = 0;
};

struct tcp_options {
  std::uint32_t connections_max = 16384;
  std::uint32_t connections_per_host_max = 4096;
  std::uint32_t connections_per_second_max = 0; ///< from one host; 0 means no limit
  std::uint32_t half_open_max = 1024;
  /// Without cookies the oldest half-open connection gives way when their line is full.
  bool syn_cookies = true;
  std::uint32_t out_of_order_max = 16;
  std::uint32_t out_of_order_total_max = 2048;
  std::uint64_t memory_max = 256u << 20;
  std::uint64_t seed = 0; ///< of the hashes; 0 means secret
};

/// An interface of the stack.
struct tcp_interface {
  std::uint16_t id = 0; ///< net::interface_config::interface_id
  std::uint16_t mtu = 1500;
  std::vector<net::ip_address> addresses{}; ///< the own ones, of IPv4 and IPv6
  /// Segments are accepted whose checksum the kernel at the other end of a veth pair has left
  /// unfinished (net::interface_config::partial_checksums).
  bool partial_checksums = false;
  /// The device fills in the checksums of TCP and of IPv4 (net::port::fills_tcp_checksums()).
  bool checksum_offload = false;
};

/// The counters of a stack. Any thread may read them.
template <class T> struct tcp_counters {
  T packets_received{}, packets_sent{};
  T accepted{};          ///< connections of peers that were established
  T connected{};         ///< connections begun here that were established
  T ended{};             ///< of these, those that are gone
  T half_open_dropped{}; ///< half-open connections that gave way to newer ones
  T refused{};           ///< SYN packets refused by connections_max
  T refused_host{};      ///< SYN packets refused by connections_per_host_max
  T refused_rate{};      ///< SYN packets refused by connections_per_second_max
  T rates_forgotten{};   ///< hosts whose rate gave its place to that of another one too early
  T cookies_sent{};      ///< SYN packets that were answered with a cookie
  T cookies_accepted{};  ///< connections that came of one
  T cookies_refused{};   ///< acknowledgements of something else, while cookies were in use
  T checksum_wrong{};    ///< segments with a wrong checksum
  T checksum_partial{};  ///< segments whose checksum is unfinished, which the interface refuses
  T malformed{};         ///< packets that are no segment to an own address
  T challenged{};        ///< segments that the peer was asked to confirm (RFC 5961)
  T challenges_withheld{}; ///< segments that were dropped without that, so soon after another one
  T unsent{};            ///< packets for which there was no mbuf
  T no_memory{};         ///< allocations that memory_max refused
  T no_frame{};          ///< received packets for which there was no place
  /// Packets that came before their turn while out_of_order_total_max of them were kept.
  T out_of_order_refused{};

  template <class F> static constexpr void for_each(F&& fn) {
    fn("packets_received", &tcp_counters::packets_received);
    fn("packets_sent", &tcp_counters::packets_sent);
    fn("accepted", &tcp_counters::accepted);
    fn("connected", &tcp_counters::connected);
    fn("ended", &tcp_counters::ended);
    fn("half_open_dropped", &tcp_counters::half_open_dropped);
    fn("refused", &tcp_counters::refused);
    fn("refused_host", &tcp_counters::refused_host);
    fn("refused_rate", &tcp_counters::refused_rate);
    fn("rates_forgotten", &tcp_counters::rates_forgotten);
    fn("cookies_sent", &tcp_counters::cookies_sent);
    fn("cookies_accepted", &tcp_counters::cookies_accepted);
    fn("cookies_refused", &tcp_counters::cookies_refused);
    fn("checksum_wrong", &tcp_counters::checksum_wrong);
    fn("checksum_partial", &tcp_counters::checksum_partial);
    fn("malformed", &tcp_counters::malformed);
    fn("challenged", &tcp_counters::challenged);
    fn("challenges_withheld", &tcp_counters::challenges_withheld);
    fn("unsent", &tcp_counters::unsent);
    fn("no_memory", &tcp_counters::no_memory);
    fn("no_frame", &tcp_counters::no_frame);
    fn("out_of_order_refused", &tcp_counters::out_of_order_refused);
  }
};

/// False when this library was built without the sources of lwIP, and create() refuses.
[[nodiscard]] bool tcp_available() noexcept;

class tcp_stack final : public byte_streams {
 public:
  struct state; ///< internal
  /// Refuses options of 0, a second stack in this process (errc::busy), and everything in a library
  /// without TCP (errc::unsupported).
  [[nodiscard]] static result<std::unique_ptr<tcp_stack>>
  create(const tcp_options& options, byte_stream_handler& handler, packet_output& output);
  /// Ends all connections without a word to their peers.
  ~tcp_stack() override;
  tcp_stack(const tcp_stack&) = delete;
  tcp_stack& operator=(const tcp_stack&) = delete;

  /// Adds an interface. Refuses one without an address, an id that was added before
  /// (errc::busy), and more than 254 of them.
  [[nodiscard]] result<void> add_interface(tcp_interface config);
  /// Adds an interface with its own IPv4 address.
  [[nodiscard]] result<void> add_interface(std::uint16_t id, std::uint32_t ipv4, std::uint16_t mtu);
  /// Accepts connections to this port at this own address, or at all of every interface.
  [[nodiscard]] result<void> listen(std::uint16_t port,
                                    const std::optional<net::ip_address>& at = {});

  /// Takes the IPv4 or IPv6 packet of protocol TCP at `ip_offset` of the frame, whose IP header was
  /// checked. It consumes the frame. `checksum_good` says that the device has found the TCP
  /// checksum good; without it the checksum is computed.
  void input(rte_mbuf* frame, std::uint32_t ip_offset, std::uint16_t interface,
             bool checksum_good) noexcept;
  /// Calls the handler for what has arrived, and the timers that are due. Call it in every round.
  /// Returns true when there was anything to do.
  bool poll(std::uint64_t now_tsc) noexcept;

  /// Begins a connection from the interface's address and this port to a peer, whose interface is
  /// this one too. The handler hears connected() or ended() of it. Returns no_connection where
  /// there is no memory, number or own address for it, and where a connection of the same addresses
  /// and ports goes on; one that only waits for its end gives way. No limit counts it.
  [[nodiscard]] connection connect(std::uint16_t interface, std::uint16_t port,
                                   const net::endpoint& to) noexcept;
  /// Returns how many octets write() takes now.
  [[nodiscard]] std::uint32_t room(connection c) const noexcept;
  std::size_t write(connection c, std::span<const std::byte> octets) noexcept override;
  void push(connection c) noexcept override;
  void consumed(connection c, std::uint32_t octets) noexcept override;
  void close(connection c) noexcept override;
  void abort(connection c) noexcept override;

  [[nodiscard]] std::uint32_t open() const noexcept; ///< connections, half-open ones included
  [[nodiscard]] const tcp_counters<statistic>& counters() const noexcept;
  /// The octets that the stack holds: its tables, which create() makes, and what lwIP has allocated
  /// since then. Payloads that wait in received frames are not in it.
  [[nodiscard]] std::uint64_t memory() const noexcept;
  /// Checks that each connection which has something to do is known to the timers, for tests.
  /// Returns nullptr, or what is wrong.
  [[nodiscard]] const char* audit() const noexcept;

 private:
  explicit tcp_stack(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

} // namespace chainring::stream
