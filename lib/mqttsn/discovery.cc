// SPDX-License-Identifier: BSD-3-Clause
// How clients find the gateway (MQTT-SN 1.2 section 6.1), and messages that come through a
// forwarder (section 5.5).
//
// **Groups.** ADVERTISE goes to the group of each interface on its period. The answer to a SEARCHGW
// that came to a group goes to the group, as the specification says, so that other clients that are
// about to search need not. Groups are limited to one link, so a radius has no meaning for them;
// behind a forwarder the radius is handed on.
//
// **Limits.** GWINFO is never longer than SEARCHGW, so a forged source address makes the gateway no
// amplifier. But a group multiplies what is sent to it, and so does a forwarder that broadcasts in
// its network. So the number of such answers in one second is limited; one answer serves all
// clients that hear it.
#include <algorithm>

#include "mqttsn/gateway_state.h"
#include "net/address.h"

namespace chainring::mqttsn {

namespace {
/// Answers of one worker in one second that many hosts receive.
constexpr std::uint32_t group_answers_max = 8;
} // namespace

void gateway_worker::state::advertise_now() noexcept {
  advertise_tsc = UINT64_MAX;
  if (config.advertise_s == 0 || number != 0) return; // one worker advertises for all
  advertise_tsc = now_tsc + config.advertise_s * tsc_hz;
  for (const client_address& group : config.groups) {
    ++count.advertised;
    send_message(group, 5, advertise{.gw_id = config.gateway_id, .duration_s = config.advertise_s});
  }
}

// Returns the address of the group on the link of the sender. Where no group is configured it is
// the broadcast address, for IPv6 the group of all nodes, with the port of the sender, at which
// other clients may listen as well.
client_address gateway_worker::state::group_of(const client_address& from) const noexcept {
  const net::endpoint sender = net::endpoint::from_key(from);
  for (const client_address& group : config.groups)
    if (const net::endpoint e = net::endpoint::from_key(group);
        e.interface_id == sender.interface_id && e.address.is_ipv4() == sender.address.is_ipv4())
      return group;
  constexpr std::uint32_t broadcast = 0xffffffff;
  const net::ip_address all = sender.address.is_ipv4() ? broadcast : net::all_nodes;
  return net::endpoint{all, sender.port, sender.interface_id}.key();
}

// True while this worker may send one more answer in this second that many hosts receive. Each
// forwarder has an allowance of its own: its datagrams may come from anywhere, and must not use up
// what the hosts on the link have.
bool gateway_worker::state::may_answer_many(const sender& from) noexcept {
  if (node_table::is_node(from.address)) {
    const std::uint64_t host = source_of(node_table::forwarder_of(from.address));
    if (forwarder_searches.may_answer({host, 0, 0}, false, now_tsc)) return true;
    ++count.discovery_limited;
    return false;
  }
  if (now_tsc - group_second_tsc >= tsc_hz) {
    group_second_tsc = now_tsc;
    group_answers = 0;
  }
  if (group_answers == group_answers_max) {
    ++count.discovery_limited;
    return false;
  }
  ++group_answers;
  return true;
}

void gateway_worker::state::handle(const sender& from, const searchgw& m) noexcept {
  ++count.searches;
  const gwinfo answer{.gw_id = config.gateway_id};
  const bool behind_forwarder = node_table::is_node(from.address);
  if (!behind_forwarder && !from.to_group) return send_message(from.address, 3, answer);
  if (!may_answer_many(from)) return;
  if (!behind_forwarder) return send_message(group_of(from.address), 3, answer);
  const std::span<std::byte> room =
      out->begin_to_node(from.address, 3, std::min<std::uint8_t>(m.radius, 3));
  if (room.empty()) {
    ++count.answers_dropped;
    return;
  }
  out->commit(encode_message(room, answer));
}

// The gateway treats a node behind a forwarder as a client with an address of its own.
void gateway_worker::state::handle(const sender& from, const encapsulated& m) noexcept {
  if (node_table::is_node(from.address)) { // a header inside a header
    ++count.malformed;
    return;
  }
  const auto node = common.nodes->find_or_add(from.address, m.node_id);
  if (!node) {
    ++count.nodes_refused;
    return;
  }
  ++count.forwarded;
  receive(sender{*node, none, from.received_tsc}, m.inner);
}

} // namespace chainring::mqttsn
