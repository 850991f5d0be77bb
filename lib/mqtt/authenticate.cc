// SPDX-License-Identifier: BSD-3-Clause
// Enhanced authentication (MQTT 5.0, section 4.12) by SCRAM-SHA-256.
//
//   CONNECT, client-first   -->
//                           <--  AUTH 0x18, server-first
//   AUTH 0x18, client-final -->
//                           <--  CONNACK, server-final
//
// The CONNECT waits meanwhile, and is handled from its beginning when the proof is good. A client
// that is connected in this way may prove itself again: AUTH 0x19 begins that, AUTH 0x00 ends it,
// and everything else goes on beside it. A check of a proof takes microseconds, so the worker makes
// it.
#include "mqtt/server_state.h"

namespace chainring::mqtt {

namespace {
constexpr std::string_view method = "SCRAM-SHA-256";
/// Octets of an AUTH of the broker, at most.
constexpr std::size_t auth_size_max = 1024;

std::string_view text_of(octets data) noexcept {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}
octets octets_of(std::string_view text) noexcept {
  return std::as_bytes(std::span(text));
}
} // namespace

void server_worker::state::write_auth(client& c, reason_code reason,
                                      std::string_view data) noexcept {
  auth m{.reason = reason};
  m.properties.authentication_method = method;
  m.properties.authentication_data = octets_of(data);
  write(c, auth_size_max, [&](std::span<std::byte> room) {
    const std::size_t n = encode_auth(room, version::v5, m);
    return n <= packet_size_limit(c) ? n : 0;
  });
}

// Begins an exchange with the client's first message, and answers it. False: the message is wrong.
bool server_worker::state::begin_exchange(client& c, const properties& p) noexcept {
  exchange& e = exchanges[number_of(c)];
  e.file = file;
  const auto answer =
      p.authentication_data ? e.scram.first(text_of(*p.authentication_data), *file) : std::nullopt;
  if (!answer) {
    end_exchange(c);
    return false;
  }
  write_auth(c, reason_code::continue_authentication, *answer);
  return true;
}

void server_worker::state::end_exchange(client& c) noexcept {
  const auto at = exchanges.find(number_of(c));
  if (at == exchanges.end()) return;
  memory -= at->second.packet.size();
  exchanges.erase(at);
}

// Begins the authentication that a CONNECT asks for, or refuses it.
void server_worker::state::begin_authentication(client& c, const connect& m) noexcept {
  const properties& p = m.properties;
  read_limits(c, p);
  if (file == nullptr || *p.authentication_method != method)
    return refuse(c, reason_code::bad_authentication_method,
                  file == nullptr ? "the broker has no authentication method"
                                  : "the broker's authentication method is SCRAM-SHA-256");
  if (packet_size_limit(c) < auth_size_max)
    return refuse(c, reason_code::packet_too_large,
                  "the Maximum Packet Size is too small for the broker's AUTH");
  if (memory + connect_packet.size() > config.memory_max) {
    ++count.closed_out_of_memory;
    return refuse(c, connect_return_code::server_unavailable);
  }
  if (!begin_exchange(c, p)) {
    ++count.authentications_failed;
    return refuse(c, reason_code::not_authorized, "the Authentication Data is no SCRAM message");
  }
  exchange& e = exchanges[number_of(c)];
  e.packet.assign(connect_packet.begin(), connect_packet.end());
  memory += e.packet.size();
  c.at = client::phase::authenticating;
  arm(c);
}

// Looks at the client's last message. Returns the answer when the proof is good.
std::optional<std::string> server_worker::state::check_proof(client& c, exchange& e,
                                                             const auth& m) noexcept {
  const properties& p = m.properties;
  const auto answer =
      p.authentication_data ? e.scram.last(text_of(*p.authentication_data)) : std::nullopt;
  // What a former file says counts where the present one says the same.
  const bool good = answer && (e.file == file || e.file->agrees_with(*file, e.scram.user()));
  ++(good ? count.authentications : count.authentications_failed);
  if (good) c.proved_under = file_number;
  return good ? answer : std::nullopt;
}

void server_worker::state::handle(client& c, const auth& m) noexcept {
  const bool connecting = c.at == client::phase::authenticating;
  const auto at = exchanges.find(number_of(c));
  const bool goes_on = m.reason == reason_code::continue_authentication && at != exchanges.end();
  const bool begins_again = m.reason == reason_code::reauthenticate && at == exchanges.end() &&
                            c.v5 != nullptr && c.v5->authenticates;
  if ((!goes_on && !begins_again) || m.properties.authentication_method != method) {
    ++count.unexpected;
    return fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
                "a client does not send this packet here");
  }
  if (begins_again) {
    if (begin_exchange(c, m.properties)) return;
    ++count.authentications_failed;
    return fail(c, broker_worker::end_reason::lost, reason_code::not_authorized,
                "the Authentication Data is no SCRAM message");
  }
  exchange& e = at->second;
  const auto answer = check_proof(c, e, m);
  if (!answer || (!connecting && e.scram.user() != c.user)) {
    end_exchange(c);
    return fail(c, broker_worker::end_reason::lost, reason_code::not_authorized,
                "the proof of the password is wrong");
  }
  if (!connecting) {
    end_exchange(c);
    return write_auth(c, reason_code::success, *answer);
  }
  c.user = e.scram.user();
  e.answer = *answer; // CONNACK brings it
  c.at = client::phase::waiting;
  c.admitted = true;
  const std::vector<std::byte> packet = std::move(e.packet);
  memory -= packet.size();
  e.packet.clear();
  handle_packet(c, packet, packet_type::connect);
}

// Adds to CONNACK what the client needs to know that the broker has its keys.
void server_worker::state::add_proof(client& c, properties& p, std::string& kept) noexcept {
  const auto at = exchanges.find(number_of(c));
  if (at == exchanges.end()) return;
  kept = std::move(at->second.answer);
  end_exchange(c);
  p.authentication_method = method;
  p.authentication_data = octets_of(kept);
}

} // namespace chainring::mqtt
