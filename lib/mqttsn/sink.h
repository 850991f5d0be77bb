// SPDX-License-Identifier: BSD-3-Clause
/// Hands the datagrams of a worker's listener over to its gateway worker.
#pragma once
#include "../net/listener.h"
#include "gateway.h"

namespace chainring::mqttsn {

class gateway_sink final : public net::datagram_sink {
 public:
  gateway_sink(gateway& g, unsigned number) noexcept : mine_(g.worker(number)) {}
  std::size_t place(std::span<net::received_datagram> burst,
                    std::uint8_t* homes) noexcept override {
    return mine_.place(burst, homes);
  }
  void receive(client_address from, bool to_group, std::span<const std::byte> payload,
               std::uint64_t received_tsc) noexcept override {
    mine_.receive(from, payload, received_tsc, to_group);
  }
  void receive_burst(std::span<const net::received_datagram> burst) noexcept override {
    mine_.receive_burst(burst);
  }

 private:
  gateway_worker& mine_;
};

/// The sink of a broker whose medium has failed. It does not touch the region any more, because its
/// memory may be lost, and only answers pings.
class failed_sink final : public net::datagram_sink {
 public:
  failed_sink(gateway& g, unsigned number) noexcept : gateway_(g), mine_(g.worker(number)) {}
  unsigned home_of(client_address from, std::span<const std::byte> payload) noexcept override {
    return gateway_.home_of(from, payload);
  }
  void receive(client_address from, bool, std::span<const std::byte> payload,
               std::uint64_t) noexcept override {
    mine_.receive_failed(from, payload);
  }

 private:
  gateway& gateway_;
  gateway_worker& mine_;
};

} // namespace chainring::mqttsn
