// SPDX-License-Identifier: BSD-3-Clause
/// A broker with the product's MQTT front end and clients whose connections are byte strings.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <rte_cycles.h>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/stream/fake_streams.h"
#include "mqtt/codec.h"
#include "mqtt/server.h"

namespace chainring::mqtt {

/// A broker, its MQTT front end and clients that are byte strings.
class world {
 public:
  world(std::unique_ptr<broker> b, version v) : core_(std::move(b)), speaks_(v) {
    server_config c;
    c.tcp.connections_max = 8;
    auto made = server::create(*core_, c);
    EXPECT_TRUE(made) << made.error().message;
    server_ = std::move(*made);
    handler_ = &server_->worker().attach(wires_);
  }
  /// True when there was anything to do.
  bool round() {
    server_worker& w = server_->worker();
    w.begin_round(rte_rdtsc());
    bool any = w.poll(rte_rdtsc());
    const mark_t mark = core_->worker(0).end_burst();
    any |= core_->worker(0).worked();
    w.send(mark);
    w.pump(core_->medium());
    return any;
  }
  /// Rounds until nothing is left to do.
  void settle() {
    for (int quiet = 0, rounds = 0; quiet < 3 && rounds < 1000; ++rounds)
      quiet = round() ? 0 : quiet + 1;
  }
  /// Sends the packet, with which nothing happens before the next round.
  template <class T> void put(std::uint32_t who, const T& m) {
    std::vector<std::byte> octets(2048);
    octets.resize(encode(octets, speaks_, message_body(m)));
    ASSERT_FALSE(octets.empty());
    handler_->received(who, octets);
  }
  template <class T> void send(std::uint32_t who, const T& m) {
    put(who, m);
    settle();
  }
  /// The next packet for that client, which stays valid until the next call for it.
  const message* next(std::uint32_t who) {
    packet& p = last_[who];
    std::string& sent = wires_.lines[who].sent;
    frame f;
    if (find_frame(std::as_bytes(std::span(sent)), 1 << 20, f) != frame_status::ok) return nullptr;
    const octets first = std::as_bytes(std::span(sent)).first(f.size);
    p.octets.assign(first.begin(), first.end());
    sent.erase(0, f.size);
    EXPECT_EQ(decode(speaks_, p.octets, p.m), decode_status::ok);
    return &p.m;
  }
  /// The next packet if it is a T.
  template <class T> const T* take(std::uint32_t who) {
    const message* m = next(who);
    return m == nullptr ? nullptr : m->get<T>();
  }
  /// Connects a client whose session is to last. True when it was accepted.
  bool connect(std::uint32_t who, std::string_view name, bool& present,
               const std::optional<will>& w = {}) {
    handler_->accepted(who, {0x0a000001 + who, static_cast<std::uint16_t>(1000 + who), 0}, 1883);
    mqtt::connect c{.clean_start = false, .client_id = name, .will = w};
    if (speaks_ == version::v5) c.properties.session_expiry_s = 0xffffffff;
    send(who, c);
    const auto* r = take<connack>(who);
    if (r == nullptr) return false;
    present = r->session_present;
    return speaks_ == version::v5 ? r->reason == reason_code::success
                                  : r->return_code == connect_return_code::accepted;
  }
  bool subscribe(std::uint32_t who, std::string_view filter, qos_level qos) {
    const subscription one{.filter = filter, .qos = qos};
    send(who,
         mqtt::subscribe{.packet_id = 7, .subscriptions = std::span<const subscription>(&one, 1)});
    const auto* r = take<suback>(who);
    return r != nullptr && *r->reasons.begin() == static_cast<reason_code>(qos);
  }
  void hang_up(std::uint32_t who) {
    handler_->ended(who, stream::end_reason::reset);
    wires_.lines[who] = {};
    settle();
  }
  /// Whether the server has closed or reset the connection.
  [[nodiscard]] bool closed(std::uint32_t who) {
    return wires_.lines[who].closed || wires_.lines[who].aborted;
  }
  /// The client has found that out, and its next connection may begin.
  void forget(std::uint32_t who) { wires_.lines[who] = {}; }
  [[nodiscard]] broker& core() noexcept { return *core_; }
  [[nodiscard]] bool v5() const noexcept { return speaks_ == version::v5; }

 private:
  struct packet {
    std::vector<std::byte> octets;
    message m;
  };
  std::unique_ptr<broker> core_;
  version speaks_;
  stream::fake_streams wires_;
  std::unique_ptr<server> server_;
  stream::byte_stream_handler* handler_ = nullptr;
  std::map<std::uint32_t, packet> last_;
};

} // namespace chainring::mqtt
