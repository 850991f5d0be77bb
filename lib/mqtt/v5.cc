// SPDX-License-Identifier: BSD-3-Clause
// What MQTT 5.0 has beyond 3.1.1: the properties of CONNECT and CONNACK, reasons in all answers,
// and a DISCONNECT before the server closes a connection.
//
// A message can be refused, and its connection goes on. The answers to messages leave in the order
// of the messages (MQTT-4.6.0-2), so an answer that is known early waits for those before it.
#include <algorithm>
#include <ctime>
#include <utility>

#include "mqtt/server_state.h"

namespace chainring::mqtt {

namespace {
/// Octets of a CONNACK beside its client id and its reason string, at most.
constexpr std::size_t connack_size_max = 64;
/// Octets of an acknowledgement or a DISCONNECT with the longest reason string.
constexpr std::size_t answer_size_max = 256;

reason_code reason_of(connect_return_code code) noexcept {
  switch (code) {
  case connect_return_code::accepted:
    return reason_code::success;
  case connect_return_code::unacceptable_protocol_version:
    return reason_code::unsupported_protocol_version;
  case connect_return_code::identifier_rejected:
    return reason_code::client_identifier_not_valid;
  case connect_return_code::server_unavailable:
    return reason_code::server_unavailable;
  case connect_return_code::bad_user_name_or_password:
    return reason_code::bad_user_name_or_password;
  case connect_return_code::not_authorized:
    return reason_code::not_authorized;
  }
  return reason_code::unspecified_error;
}

std::uint64_t wall_clock_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

/// What a client is told beside a reason for which its message is refused.
std::string_view explain(reason_code reason) noexcept {
  switch (reason) {
  case reason_code::quota_exceeded:
    return "a limit or a full queue refuses the message; it may be sent again later";
  case reason_code::not_authorized:
    return "the access rules deny the topic, or it is one of the broker itself";
  case reason_code::topic_name_invalid:
    return "the topic name is longer than the broker's limit";
  case reason_code::implementation_specific_error:
    return "no listener of the broker could deliver so long a message";
  default:
    return {};
  }
}
} // namespace

// --- the beginning and the end of a connection --------------------------------------------------

// Returns the reason string that the client is given beside a packet of that size: none where it
// has not asked for problem information, and none that makes the packet too long for it
// (MQTT-3.14.2-3).
std::string_view server_worker::state::explanation(const client& c, std::string_view said,
                                                   std::size_t packet_size) const noexcept {
  constexpr std::size_t around = 3 + 2; // identifier and length of the string; lengths that grow
  const bool told = c.v5 == nullptr || c.v5->wants_reasons;
  return told && packet_size + around + said.size() <= packet_size_limit(c) ? said
                                                                            : std::string_view{};
}

void server_worker::state::write_connack(client& c, const connack& m,
                                         std::string_view said) noexcept {
  connack whole = m;
  std::size_t size = connack_size_max + m.properties.assigned_client_id.value_or("").size();
  if (m.properties.authentication_method)
    size += 2 * 3 + m.properties.authentication_method->size() +
            m.properties.authentication_data->size();
  said = explanation(c, said, size);
  if (!said.empty()) whole.properties.reason_string = said;
  write(c, size + said.size(), [&](std::span<std::byte> room) {
    const std::size_t n = encode_connack(room, version::v5, whole);
    return n <= packet_size_limit(c) ? n : 0;
  });
}

// Refuses a CONNECT, and closes the connection.
void server_worker::state::refuse(client& c, reason_code reason, std::string_view said) noexcept {
  ++count.connects_refused;
  write_connack(c, {.reason = reason}, said);
  leave(c);
}

void server_worker::state::refuse(client& c, connect_return_code code) noexcept {
  if (c.speaks == version::v5) return refuse(c, reason_of(code), {});
  ++count.connects_refused;
  write(c, 4, [&](std::span<std::byte> room) {
    return encode_connack(room, version::v3_1_1, {.return_code = code});
  });
  leave(c);
}

// Tells a client of MQTT 5.0 why its connection is closed. MQTT 3.1.1 has no packet for it.
void server_worker::state::tell_end(client& c, reason_code reason, std::string_view said) noexcept {
  if (c.speaks != version::v5) return;
  if (c.at == client::phase::waiting || c.at == client::phase::authenticating ||
      c.at == client::phase::opening) {
    // Of two connections that open one session the first has no reason of its own in CONNACK.
    const bool may = allowed_in(packet_type::connack, reason);
    return write_connack(c, {.reason = may ? reason : reason_code::server_busy}, said);
  }
  if (c.at != client::phase::open) return;
  disconnect m{.reason = reason};
  said = explanation(c, said, 4);
  if (!said.empty()) m.properties.reason_string = said;
  ++count.disconnects_sent;
  write(c, answer_size_max, [&](std::span<std::byte> room) {
    const std::size_t n = encode_disconnect(room, version::v5, m);
    return n <= packet_size_limit(c) ? n : 0;
  });
}

// Sets the expiry of a session, of which the broker's setting is the upper limit. Returns what the
// client gets where it is not what the client has asked for.
std::optional<std::uint32_t>
server_worker::state::set_expiry(session_options& options, std::uint32_t asked_s) const noexcept {
  constexpr std::uint32_t never = UINT32_MAX;
  const std::uint32_t limit = core_broker.session_expiry(); // 0 means that there is none
  options.ends_with_connection = asked_s == 0;
  const bool limited = limit != 0 && asked_s > limit;
  options.expiry_s = limited || asked_s == never ? 0 : asked_s; // 0 stands for the setting
  return limited ? std::optional(limit) : std::nullopt;
}

// Reads what each answer to the client depends on, from its CONNECT.
void server_worker::state::read_limits(client& c, const properties& p) noexcept {
  c.v5 = std::make_unique<v5_client>();
  c.v5->packet_size_max = p.maximum_packet_size.value_or(mqtt::packet_size_max);
  c.v5->wants_reasons = p.request_problem_information.value_or(true);
}

// Reads what CONNECT asks for. Returns false when it is refused, and then the client is answered.
bool server_worker::state::begin_v5(client& c, const connect& m,
                                    session_options& options) noexcept {
  const properties& p = m.properties;
  read_limits(c, p);
  v5_client& v = *c.v5;
  ++count.connects_v5;
  v.authenticates = p.authentication_method.has_value(); // admit() has asked for the proof
  if (v.packet_size_max < connack_size_max) {
    refuse(c, reason_code::packet_too_large,
           "the Maximum Packet Size is too small for the broker's CONNACK");
    return false;
  }
  v.expiry_granted = set_expiry(options, p.session_expiry_s.value_or(0));
  v.ends_with_connection = options.ends_with_connection;
  v.aliases_max = std::min(config.topic_aliases_max, p.topic_alias_maximum.value_or(0));
  options.window = std::min(config.window_max, p.receive_maximum.value_or(UINT16_MAX));
  return true;
}

// Answers a CONNECT that is accepted.
void server_worker::state::accept_v5(client& c, bool present) noexcept {
  v5_client& v = *c.v5;
  if (present) read_identifiers(c);
  connack m{.session_present = present};
  m.properties.receive_maximum = config.window_max;
  m.properties.maximum_packet_size = config.packet_size_max;
  m.properties.topic_alias_maximum = config.topic_aliases_max;
  m.properties.session_expiry_s = v.expiry_granted;
  if (v.has_assigned_id) m.properties.assigned_client_id = core.identity_of(c.session);
  std::string proof;
  add_proof(c, m.properties, proof);
  write_connack(c, m);
}

// --- answers ------------------------------------------------------------------------------------

// Writes PUBACK, PUBREC, PUBREL or PUBCOMP.
void server_worker::state::send_ack(client& c, packet_type type, std::uint16_t packet_id,
                                    reason_code reason, std::string_view said) noexcept {
  if (reason == reason_code::success || c.v5 == nullptr)
    return write(c, 4, [&](std::span<std::byte> room) {
      write_ack(room.data(), type, packet_id);
      return std::size_t{4};
    });
  properties p;
  said = explanation(c, said, 6);
  if (!said.empty()) p.reason_string = said;
  write(c, answer_size_max, [&](std::span<std::byte> room) {
    switch (type) {
    case packet_type::puback:
      return encode_puback(room, version::v5, {packet_id, reason, p});
    case packet_type::pubrec:
      return encode_pubrec(room, version::v5, {packet_id, reason, p});
    case packet_type::pubrel:
      return encode_pubrel(room, version::v5, {packet_id, reason, p});
    default:
      return encode_pubcomp(room, version::v5, {packet_id, reason, p});
    }
  });
}

// Notes that a message at QoS 1 or 2 will be answered. Returns false when the client has more of
// them under way than CONNACK allows, and then the connection is closed (MQTT-3.3.4-7).
bool server_worker::state::expect_answer(client& c, const publish& m) noexcept {
  v5_client& v = *c.v5;
  if (v.received == config.window_max) {
    ++count.receive_maximum_exceeded;
    fail(c, broker_worker::end_reason::lost, reason_code::receive_maximum_exceeded,
         "more messages are under way than the Receive Maximum of CONNACK allows");
    return false;
  }
  ++v.received;
  v.answers.push_back({.packet_id = m.packet_id, .qos = static_cast<std::uint8_t>(m.qos)});
  return true;
}

// Notes the outcome of a message, and sends the answers that wait for nothing any more.
void server_worker::state::answer_publish(client& c, std::uint16_t packet_id,
                                          reason_code reason) noexcept {
  std::vector<publish_answer>& all = c.v5->answers;
  const auto mine = std::ranges::find_if(
      all, [&](const publish_answer& a) { return a.packet_id == packet_id && !a.known; });
  if (mine == all.end()) return;
  mine->known = true;
  mine->reason = reason;
  const auto end = std::ranges::find_if(all, [](const publish_answer& a) { return !a.known; });
  for (auto a = all.begin(); a != end; ++a) {
    if (c.v5->received != 0 && (a->qos == 1 || failed(a->reason))) --c.v5->received;
    send_ack(c, a->qos == 1 ? packet_type::puback : packet_type::pubrec, a->packet_id, a->reason,
             explain(a->reason));
  }
  all.erase(all.begin(), end);
}

// --- the properties of messages -----------------------------------------------------------------

// Returns those properties of a PUBLISH or a will that go with the message to its subscribers, as
// they are kept: a property section of a PUBLISH, in the order of the identifiers. It is valid
// until the next call.
std::span<const std::byte> server_worker::state::carried(const properties& p) noexcept {
  if (p.raw.empty()) return {};
  const properties kept{.payload_format_indicator = p.payload_format_indicator,
                        .message_expiry_s = p.message_expiry_s,
                        .content_type = p.content_type,
                        .response_topic = p.response_topic,
                        .correlation_data = p.correlation_data,
                        .user_properties = p.user_properties};
  return std::span(section).first(encode_properties(section, kept));
}

// Puts the properties with which a message was published into its PUBLISH, with what is left of its
// expiry. A will counts from its sending on, which is not known: its interval is passed on.
void server_worker::state::add_carried(const message_extras& extras, properties& p) noexcept {
  constexpr std::uint64_t second_ns = 1'000'000'000;
  if (decode_properties(packet_type::publish, extras.properties, p) != decode_status::ok) {
    p = {}; // another front end's, which this one does not understand
    return;
  }
  if (!p.message_expiry_s || extras.expires_ns == 0) return;
  const std::uint64_t now_ns = wall_clock_ns();
  const std::uint64_t left_ns = extras.expires_ns > now_ns ? extras.expires_ns - now_ns : 0;
  const std::uint64_t left_s = (left_ns + second_ns - 1) / second_ns;
  p.message_expiry_s =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(left_s, *p.message_expiry_s));
}

// --- subscription identifiers -------------------------------------------------------------------

// Reads the identifiers of the subscriptions that a session has had before.
void server_worker::state::read_identifiers(client& c) noexcept {
  if (!core.has_identifiers(c.session)) return;
  for (const subscription_info& s : core_broker.subscriptions_of(c.session, 0, SIZE_MAX))
    if (s.identifier != 0) identify(c, s.filter, s.identifier);
}

// True when the client may have an identifier for one more subscription, beside so many others of
// the same SUBSCRIBE, or has one for this one.
bool server_worker::state::may_identify(const client& c, std::uint32_t others,
                                        std::string_view filter) const noexcept {
  const std::vector<identified_filter>& all = c.v5->identified;
  return all.size() + others < config.identified_per_client_max ||
         std::ranges::any_of(all, [&](const identified_filter& f) {
           return f.group.empty() && f.filter == filter;
         });
}

// Notes the identifier of a subscription; 0 means that it has none, or ends.
void server_worker::state::identify(client& c, std::string_view filter,
                                    std::uint32_t identifier) noexcept {
  const auto shared = split_shared_filter(filter);
  const std::string_view name = shared ? shared->filter : filter;
  const std::string_view group = // the octets in front of the filter
      shared ? shared->both.substr(0, shared->both.size() - name.size()) : std::string_view{};
  std::vector<identified_filter>& all = c.v5->identified;
  const auto known = std::ranges::find_if(
      all, [&](const identified_filter& f) { return f.filter == name && f.group == group; });
  const std::uint64_t size = sizeof(identified_filter) + name.size() + group.size();
  if (known != all.end()) {
    known->identifier = identifier;
    if (identifier != 0) return;
    all.erase(known);
    c.v5->memory -= size;
    memory -= size;
  } else if (identifier != 0 && all.size() >= config.identified_per_client_max) {
    // Several SUBSCRIBE of one burst have asked for more than the limit.
    ++count.identifiers_refused;
  } else if (identifier != 0) {
    all.push_back({std::string(name), std::string(group), identifier});
    c.v5->memory += size;
    memory += size;
  }
}

// Returns the identifiers of the client's subscriptions that match a message, until the next call.
// A message of a group has those of shared subscriptions. A message at QoS 0 does not show where it
// is from, and one at QoS 2 may have moved from a group to the session's own queue. So where the
// one kind of subscription does not match, it is from the other.
subscription_ids server_worker::state::ids_for(const client& c,
                                               const delivery_item& item) noexcept {
  found_ids.clear();
  constexpr std::uint16_t first_of_groups = 32768; // see delivery_packet_id()
  bool shared = item.ticket != 0 && delivery_packet_id(item.ticket) >= first_of_groups;
  for (int kind = 0; kind < 2 && found_ids.empty(); ++kind, shared = !shared)
    for (const identified_filter& f : c.v5->identified)
      if (f.group.empty() != shared && topic_matches(f.filter, item.name))
        found_ids.push_back(f.identifier);
  return std::span(std::as_const(found_ids));
}

// --- topic aliases ------------------------------------------------------------------------------

// Returns the topic of a message from the client, whose alias may stand for it. Where the alias
// stands for nothing, or is above the maximum, the connection is closed and nothing is returned.
std::optional<std::string_view> server_worker::state::topic_of(client& c,
                                                               const publish& m) noexcept {
  if (!m.properties.topic_alias) return m.topic;
  std::vector<std::string>& known = c.v5->from_client;
  const std::size_t at = std::size_t{*m.properties.topic_alias} - 1;
  if (at >= config.topic_aliases_max) {
    ++count.aliases_refused;
    fail(c, broker_worker::end_reason::lost, reason_code::topic_alias_invalid,
         "the topic alias is above the Topic Alias Maximum of CONNACK");
    return std::nullopt;
  }
  if (m.topic.empty() && (at >= known.size() || known[at].empty())) {
    ++count.aliases_refused;
    fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
         "the topic alias stands for no topic in this connection");
    return std::nullopt;
  }
  if (m.topic.empty()) return known[at];
  if (known.size() <= at) known.resize(at + 1);
  const std::size_t before = known[at].size();
  // Of a topic that is refused, as much is kept as shows that it is refused.
  known[at] = m.topic.substr(0, core_broker.config().topic_size_max + std::size_t{1});
  c.v5->memory += known[at].size() - before;
  memory += known[at].size() - before;
  if (memory > config.memory_max) {
    ++count.closed_out_of_memory;
    fail(c, broker_worker::end_reason::lost, reason_code::quota_exceeded,
         "the broker has no memory for more topic aliases");
    return std::nullopt;
  }
  return m.topic;
}

// Puts a topic alias into a message to the client, in the place of its topic where the client knows
// the alias. Returns the alias where the message makes it known: see keep_alias().
std::uint16_t server_worker::state::choose_alias(client& c, publish& p) noexcept {
  const v5_client& v = *c.v5;
  if (v.aliases_max == 0) return 0;
  const auto known = std::ranges::find(v.to_client, p.topic);
  const auto alias = static_cast<std::uint16_t>(known - v.to_client.begin() + 1);
  if (known != v.to_client.end()) {
    p.topic = {};
    p.properties.topic_alias = alias;
    return 0;
  }
  if (alias > v.aliases_max || memory + p.topic.size() > config.memory_max) return 0;
  p.properties.topic_alias = alias;
  return alias;
}

void server_worker::state::keep_alias(client& c, std::string_view topic) noexcept {
  c.v5->to_client.emplace_back(topic);
  c.v5->memory += topic.size();
  memory += topic.size();
}

// --- the end of the program ---------------------------------------------------------------------

void server_worker::state::shut_down() noexcept {
  for (client& c : clients) {
    if (c.at != client::phase::open) continue;
    tell_end(c, reason_code::server_shutting_down, {});
    leave(c);
  }
}

} // namespace chainring::mqtt
