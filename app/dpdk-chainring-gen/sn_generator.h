// SPDX-License-Identifier: BSD-3-Clause
/// Clients of MQTT-SN 1.2: each has a UDP port of its own.
#pragma once
#include <vector>

#include "generator.h"
#include "mqttsn/codec.h"
#include "topic_ids.h"

namespace chainring::gen {

class sn_generator final : public generator {
 public:
  sn_generator(const options& o, ledger& book, ledger_file* file, int signal_fd);

 private:
  [[nodiscard]] result<void> open_protocol() override;
  void receive(const net::datagram& d) noexcept override;
  void start(std::uint32_t i) noexcept override;
  void connect(std::uint32_t i, state as) noexcept override;
  void prepare(std::uint32_t i) noexcept override;
  void publish(std::uint32_t i) noexcept override;
  void leave(std::uint32_t i) noexcept override;
  void on_timeout(std::uint32_t i) noexcept override;
  void ping(std::uint32_t i) noexcept;
  void on_connack(std::uint32_t i, const mqttsn::connack& m) noexcept;
  void on_regack(std::uint32_t i, const mqttsn::regack& m) noexcept;
  void on_suback(std::uint32_t i, const mqttsn::suback& m) noexcept;
  void on_puback(std::uint32_t i, const mqttsn::puback& m) noexcept;
  void on_register(std::uint32_t i, const mqttsn::register_topic& m) noexcept;
  void on_publish(std::uint32_t i, const mqttsn::publish& m) noexcept;
  void on_disconnect(std::uint32_t i) noexcept;
  void refused(std::uint32_t i, const char* what, mqttsn::return_code code) noexcept;
  template <class Message> void say(std::uint32_t i, const Message& m) noexcept;
  void send(std::uint32_t i, rte_mbuf* m, std::size_t size) noexcept;

  std::vector<topic_ids> ids_; ///< for each subscriber, the topic ids that the broker gave it
};

} // namespace chainring::gen
