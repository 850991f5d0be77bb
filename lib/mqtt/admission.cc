// SPDX-License-Identifier: BSD-3-Clause
// Who a client is: by the name in its certificate, by a user name with a password, or nobody.
//
// The hash of a password takes milliseconds, so a helper makes it. The CONNECT waits meanwhile in a
// phase of its own, and is handled from its beginning when the password is known to be right. What
// the client has sent behind it waits in its buffer, as while a session is opened.
#include <algorithm>

#include "mqtt/server_state.h"

namespace chainring::mqtt {

// Counts a new connection at its listener. Returns false when there are enough.
bool server_worker::state::enter(stream::connection n, std::uint16_t own_port) noexcept {
  const auto at = std::ranges::find(config.listeners, own_port, &listener_config::port);
  const auto place = static_cast<std::size_t>(at - config.listeners.begin());
  if (at == config.listeners.end() ||
      (at->connections_max != 0 && listener_connections[place] >= at->connections_max)) {
    ++count.listener_full;
    tcp->abort(n);
    return false;
  }
  ++listener_connections[place];
  clients[n].listener = static_cast<std::uint16_t>(place);
  return true;
}

// Returns false when the CONNECT goes on later, or was refused.
bool server_worker::state::admit(client& c, const connect& m) noexcept {
  if (std::exchange(c.admitted, false)) return true;
  c.user.clear();
  c.proved_under = 0;
  if (m.properties.authentication_method) {
    begin_authentication(c, m);
    return false;
  }
  if (config.certificate_names_user)
    if (const std::string_view name = tcp->proved_name(number_of(c)); !name.empty()) {
      c.user = name;
      return true;
    }
  if (file == nullptr || !m.user_name) {
    if (config.listeners[c.listener].allow_anonymous.value_or(config.allow_anonymous)) return true;
    ++count.anonymous_refused;
    refuse(c, connect_return_code::not_authorized);
    return false;
  }
  if (!m.password || m.user_name->size() > access::user_name_size_max) {
    ++count.passwords_wrong;
    refuse(c, connect_return_code::bad_user_name_or_password);
    return false;
  }
  if (memory + connect_packet.size() > config.memory_max) {
    ++count.closed_out_of_memory;
    refuse(c, connect_return_code::server_unavailable);
    return false;
  }
  auto p = std::make_unique<proof_desk::proof>();
  p->connection = number_of(c);
  p->life = c.life;
  p->host = net::host_of(c.from.address);
  p->file = file;
  p->user = *m.user_name;
  p->password.assign(m.password->begin(), m.password->end());
  p->packet.assign(connect_packet.begin(), connect_packet.end());
  memory += p->packet.size();
  c.at = client::phase::proving;
  arm(c);
  desk.ask(std::move(p));
  if (desk.waiting() != 0) ++count.passwords_waited;
  return false;
}

// Takes over a new password file, and compares some clients' entries in it with the former ones.
// Whoever has no such entry any more, or another password, is let go. Its will is not sent, because
// nobody has proved to be its sender. While clients are compared, no newer file is taken over.
void server_worker::state::adopt_passwords() noexcept {
  constexpr std::uint32_t compared_per_round = 256;
  if (next_to_compare == UINT32_MAX) {
    if (const auto& newest = passwords.take(); newest != file) {
      former_file = std::exchange(file, newest);
      file_number = static_cast<std::uint8_t>(file_number % 255 + 1);
      if (former_file != nullptr) next_to_compare = 0;
    }
    if (next_to_compare == UINT32_MAX) return;
  }
  const auto all = static_cast<std::uint32_t>(clients.size());
  const std::uint32_t last = std::min(all, next_to_compare + compared_per_round);
  for (; next_to_compare < last; ++next_to_compare) {
    client& c = clients[next_to_compare];
    if (c.proved_under == 0 || c.proved_under == file_number) continue;
    if (former_file->agrees_with(*file, c.user)) {
      c.proved_under = file_number;
    } else if (c.at == client::phase::open) {
      ++count.ended_by_passwords;
      fail(c, broker_worker::end_reason::client, reason_code::not_authorized,
           "the user's password has changed, or there is no such user any more");
    } else if (c.at == client::phase::opening) {
      return; // its session is open soon, and then this goes on
    }
  }
  if (next_to_compare < all) return;
  next_to_compare = UINT32_MAX;
  former_file.reset();
}

bool server_worker::state::awaits(const proof_desk::proof& p) const noexcept {
  const client& c = clients[p.connection];
  return c.life == p.life && c.at == client::phase::proving;
}

void server_worker::state::decided(proof_desk::proof& p) noexcept {
  memory -= p.packet.size();
  if (!awaits(p)) return; // the client is gone
  client& c = clients[p.connection];
  c.at = client::phase::waiting;
  ++count.passwords_checked;
  if (!p.good) {
    ++count.passwords_wrong;
    return refuse(c, connect_return_code::bad_user_name_or_password);
  }
  if (p.file != file && !p.file->agrees_with(*file, p.user)) // it was replaced meanwhile
    return refuse(c, connect_return_code::bad_user_name_or_password);
  c.admitted = true;
  c.proved_under = file_number;
  c.user = std::move(p.user);
  handle_packet(c, p.packet, packet_type::connect);
}

} // namespace chainring::mqtt
