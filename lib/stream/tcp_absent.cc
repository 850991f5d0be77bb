// SPDX-License-Identifier: BSD-3-Clause
// What takes the place of the TCP stack in a library that was built without the sources of lwIP.
#include "stream/tcp.h"

namespace chainring::stream {

struct tcp_stack::state {
  tcp_counters<statistic> count;
};

bool tcp_available() noexcept {
  return false;
}

tcp_stack::tcp_stack(std::unique_ptr<state> s) : state_(std::move(s)) {}
tcp_stack::~tcp_stack() = default;

result<std::unique_ptr<tcp_stack>> tcp_stack::create(const tcp_options&, byte_stream_handler&,
                                                     packet_output&) {
  return error{errc::unsupported, "Chainring was built without TCP: run .ci/install, which brings "
                                  "the sources of lwIP, and build again"};
}

// No stack was ever made, so nothing calls these.
result<void> tcp_stack::add_interface(tcp_interface) {
  return {};
}
result<void> tcp_stack::add_interface(std::uint16_t, std::uint32_t, std::uint16_t) {
  return {};
}
result<void> tcp_stack::listen(std::uint16_t, const std::optional<net::ip_address>&) {
  return {};
}
void tcp_stack::input(rte_mbuf*, std::uint32_t, std::uint16_t, bool) noexcept {}
bool tcp_stack::poll(std::uint64_t) noexcept {
  return false;
}
connection tcp_stack::connect(std::uint16_t, std::uint16_t, const net::endpoint&) noexcept {
  return no_connection;
}
std::uint32_t tcp_stack::room(connection) const noexcept {
  return 0;
}
std::size_t tcp_stack::write(connection, std::span<const std::byte>) noexcept {
  return 0;
}
void tcp_stack::push(connection) noexcept {}
void tcp_stack::consumed(connection, std::uint32_t) noexcept {}
void tcp_stack::close(connection) noexcept {}
void tcp_stack::abort(connection) noexcept {}
std::uint32_t tcp_stack::open() const noexcept {
  return 0;
}
const tcp_counters<statistic>& tcp_stack::counters() const noexcept {
  return state_->count;
}
std::uint64_t tcp_stack::memory() const noexcept {
  return 0;
}
const char* tcp_stack::audit() const noexcept {
  return nullptr;
}

} // namespace chainring::stream
