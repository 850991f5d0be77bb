// SPDX-License-Identifier: BSD-3-Clause
/// Clients of MQTT 3.1.1 or 5.0: each has a TCP connection from a source port of its own, which the
/// generator's own TCP begins (lib/stream), with or without TLS. TCP repeats what is lost. A
/// PUBLISH is sent again, with DUP, in the next connection only, as the specification says.
#pragma once
#include <optional>
#include <vector>

#include "generator.h"
#include "mqtt/codec.h"
#include "stream/link_packets.h"
#include "tls/tls.h"
#include "topic_ids.h"

namespace chainring::gen {

class mqtt_generator final : public generator, stream::byte_stream_handler {
 public:
  mqtt_generator(const options& o, ledger& book, ledger_file* file, int signal_fd);
  ~mqtt_generator() override;

 private:
  /// The connection of a client.
  struct wire {
    stream::connection connection = stream::no_connection;
    bool up = false;             ///< the broker has accepted it
    bool pinged = false;         ///< a PINGREQ has no answer yet
    std::vector<std::byte> in;   ///< the start of a packet that is not whole
    std::vector<std::byte> rest; ///< what TCP has not taken yet
  };

  /// The exchanges of QoS 2 that a client has begun, which outlive its connections.
  struct exchanges {
    bool released = false; ///< the broker has the message of this publisher; PUBREL follows
    std::vector<std::uint16_t> received; ///< what PUBLISH has brought and PUBREL has not released
  };

  [[nodiscard]] result<void> open_protocol() override;
  bool poll() noexcept override;
  void receive(const net::datagram& d) noexcept override;
  void connect(std::uint32_t i, state as) noexcept override;
  void prepare(std::uint32_t i) noexcept override;
  void publish(std::uint32_t i) noexcept override;
  [[nodiscard]] bool may_publish(std::uint32_t i) const noexcept override {
    return wires_[i].rest.empty();
  }
  void leave(std::uint32_t i) noexcept override;
  void on_timeout(std::uint32_t i) noexcept override;

  void accepted(stream::connection, const net::endpoint&, std::uint16_t) noexcept override {}
  void connected(stream::connection c) noexcept override;
  void received(stream::connection c, std::span<const std::byte> octets) noexcept override;
  void finished(stream::connection c) noexcept override;
  void writable(stream::connection c) noexcept override;
  void ended(stream::connection c, stream::end_reason reason) noexcept override;

  using generator::connected;
  void handle(std::uint32_t i, std::span<const std::byte> packet) noexcept;
  void on_connack(std::uint32_t i, const mqtt::connack& m) noexcept;
  void on_suback(std::uint32_t i, const mqtt::suback& m) noexcept;
  void on_puback(std::uint32_t i, const mqtt::puback& m) noexcept;
  void on_pubrec(std::uint32_t i, const mqtt::pubrec& m) noexcept;
  void on_pubrel(std::uint32_t i, const mqtt::pubrel& m) noexcept;
  void on_pubcomp(std::uint32_t i, const mqtt::pubcomp& m) noexcept;
  void on_publish(std::uint32_t i, const mqtt::publish& m) noexcept;
  /// The broker has refused the publisher's message.
  void refused(std::uint32_t i, mqtt::reason_code why) noexcept;
  void hang_up(std::uint32_t i) noexcept;
  /// The connection is gone, and another one is begun after a while.
  void lost(std::uint32_t i) noexcept;
  /// Writes the message to the connection. What it does not take now follows later.
  void say(std::uint32_t i, const mqtt::message_body& m) noexcept;
  void write(std::uint32_t i, std::span<const std::byte> octets) noexcept;

  mqtt::version version_;
  std::optional<stream::link_packets> packets_;
  std::unique_ptr<tls::layer> tls_; ///< between the clients and TCP, or null
  std::unique_ptr<stream::tcp_stack> tcp_;
  std::unique_ptr<stream::helper_crew> crew_; ///< for handshakes; ends before the layer
  stream::byte_streams* wire_ = nullptr;      ///< what carries the clients' octets
  std::vector<wire> wires_;                   ///< by client
  std::vector<exchanges> exchanges_;          ///< by client
  std::vector<std::uint32_t> client_of_;      ///< by connection
  std::vector<std::byte> room_;               ///< for the packet that is being written
};

} // namespace chainring::gen
