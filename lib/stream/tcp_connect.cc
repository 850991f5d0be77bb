// SPDX-License-Identifier: BSD-3-Clause
// Connections that are begun here.
#include <algorithm>

#include "stream/tcp_state.h"

namespace chainring::stream {

namespace {

err_t on_connected(void* context, tcp_pcb*, err_t) noexcept {
  auto& l = *static_cast<link_state*>(context);
  l.established = true;
  the_stack->list(l);
  return ERR_OK;
}

} // namespace

connection tcp_stack::state::connect(interface& on, std::uint16_t own_port,
                                     const net::endpoint& to) noexcept {
  const auto own = std::ranges::find_if(on.config.addresses, [&](const net::ip_address& a) {
    return a.is_ipv4() == to.address.is_ipv4() && is_link_local(a) == is_link_local(to.address);
  });
  if (own == on.config.addresses.end()) return no_connection;
  const net::endpoint peer = on.endpoint_of({*own, to.address, own_port, to.port});
  if (link_state* const former = find(peer, own_port); former != nullptr) {
    if (!former->time_wait) return no_connection;
    // The port is used again, with a sequence number above the former connection's, because the
    // clock that gives the first one is faster than any sender (RFC 6528).
    former->released = true;
    with(*former, [](tcp_pcb* p) { tcp_abort(p); });
  }
  if (free_links.empty()) return no_connection;
  ip_addr_t from, at;
  to_lwip(from, *own);
  to_lwip(at, to.address);
  tcp_pcb* const pcb = tcp_new_ip_type(IP_GET_TYPE(&from));
  if (pcb == nullptr) return no_connection;
  pcb->netif_idx = netif_get_index(&on.net);
  current = &on;
  // There is one connection in lwIP's lists at most, and it is this one.
  const bool begun = tcp_bind(pcb, &from, own_port) == ERR_OK &&
                     tcp_connect(pcb, &at, to.port, on_connected) == ERR_OK;
  current = nullptr;
  if (!begun) {
    (void)tcp_close(pcb);
    tcp_active_pcbs = nullptr;
    return no_connection;
  }
  link_state& l = number(pcb, on);
  l.begun_here = true;
  tcp_active_pcbs = nullptr;
  return number_of(l);
}

connection tcp_stack::connect(std::uint16_t interface, std::uint16_t port,
                              const net::endpoint& to) noexcept {
  state::interface* const on = state_->interface_of(interface);
  return on == nullptr ? no_connection : state_->connect(*on, port, to);
}

} // namespace chainring::stream
