// SPDX-License-Identifier: BSD-3-Clause
/// Hands the datagrams of a worker's listener over to its gateway worker, and gives the core the
/// blocks in which their payloads lie, where a port has received them into the region.
///
/// The payload of a PUBLISH then becomes a message without a copy. The mbuf gets another data room
/// (mbuf/receive_pool.h), and goes back to its pool like every other one when the burst is handled.
/// Answers and deliveries are built in mbufs of another pool, since the listener keeps none with
/// data rooms of its own (net/datagram_transport.h).
///
/// **When to use:** ports whose receive queues have the pool of a receive_pool, whose data rooms
/// are one block each. Datagrams in other mbufs are handled like those of gateway_sink.
///
/// **Thread-safety:** belongs to the thread of its worker.
///
///     mqttsn::taking_sink sink(*gateway, number, *rooms);
///     broker->worker(number).receive_from(&sink, 1024);
///     while (running) {
///       listener.poll(sink);
///       ...
///     }
///     broker->worker(number).receive_from(nullptr, 0);
#pragma once
#include "../block/content_source.h"
#include "../mbuf/receive_pool.h"
#include "sink.h"

namespace chainring::mqttsn {

class taking_sink final : public net::datagram_sink, public content_source {
 public:
  /// The pool is that of the ports.
  taking_sink(gateway& g, unsigned number, receive_pool& rooms) noexcept
      : inner_(g, number), rooms_(rooms) {}

  std::size_t place(std::span<net::received_datagram> burst,
                    std::uint8_t* homes) noexcept override {
    return inner_.place(burst, homes);
  }
  void receive(client_address from, bool to_group, std::span<const std::byte> payload,
               std::uint64_t received_tsc) noexcept override {
    inner_.receive(from, to_group, payload, received_tsc);
  }
  void receive_burst(std::span<const net::received_datagram> burst) noexcept override {
    left_ = burst;
    inner_.receive_burst(burst);
    left_ = {};
  }
  [[nodiscard]] bool take(std::span<const std::byte> content, std::uint32_t front,
                          taken_content& out) noexcept override;

 private:
  gateway_sink inner_;
  receive_pool& rooms_;
  /// The datagrams of the burst from the one on whose content was taken last. The gateway handles
  /// them in their order.
  std::span<const net::received_datagram> left_;
};

} // namespace chainring::mqttsn
