// SPDX-License-Identifier: BSD-3-Clause
#include "support/line_front_end.h"

#include <algorithm>
#include <charconv>
#include <tuple>

#include "topic/topic_names.h"

namespace chainring::test {

namespace {

/// Splits off up to `most` words; the last of them is the rest of the line.
std::vector<std::string_view> split(std::string_view line, std::size_t most) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::size_t end = words.size() + 1 == most ? std::string_view::npos : line.find(' ');
    words.push_back(line.substr(0, end));
    line = end == std::string_view::npos ? std::string_view{} : line.substr(end + 1);
  }
  return words;
}

unsigned number_of(std::string_view text) {
  unsigned n = 0;
  std::from_chars(text.data(), text.data() + text.size(), n);
  return n;
}

/// Splits a text into the properties in front of it and the rest.
std::pair<std::span<const std::byte>, std::span<const std::byte>> parts_of(std::string_view text) {
  const std::size_t end = text.starts_with('{') ? text.find('}') + 1 : 0;
  const auto all = std::as_bytes(std::span(text));
  return {all.first(end), all.subspan(end)};
}

const char* text_of(outcome o) {
  switch (o) {
  case outcome::accepted:
    return "accepted";
  case outcome::congestion:
    return "congestion";
  case outcome::too_long:
    return "too_long";
  case outcome::not_found:
    return "not_found";
  case outcome::repeated:
  case outcome::lost:
    return "repeated";
  }
  return "unknown";
}

} // namespace

line_front_end::client* line_front_end::serving(std::uint32_t session) noexcept {
  const auto at = connections_.find(session);
  return at == connections_.end() ? nullptr : &clients_[at->second];
}

void line_front_end::refuse(unsigned connection, const client& c, const char* reason) {
  out_.send(connection, "NO " + std::to_string(c.requests) + " " + reason);
}

void line_front_end::receive(unsigned connection, std::string_view line) {
  client& c = clients_[connection];
  const std::string_view verb = line.substr(0, line.find(' '));
  const words w = split(line, verb == "PUB" || verb == "RET" ? 4 : 8);
  if (verb == "ACK" || verb == "NACK" || verb == "SKIP" || verb == "REC")
    return answer_delivery(c, w);
  if (verb == "STOP" || verb == "GO") {
    c.stopped = verb == "STOP";
    if (!c.stopped && c.session != no_session) worker_.resume(c.session);
    return;
  }
  ++c.requests;
  if (verb == "CONNECT" && (w.size() == 3 || w.size() == 6)) return connect(connection, c, w);
  if (c.session == no_session) return refuse(connection, c, "not_connected");
  request(connection, c, w, w.size() == 4 ? w[3] : std::string_view{});
}

void line_front_end::connect(unsigned connection, client& c, const words& w) {
  if (c.session != no_session) { // the earlier session of the connection ends first
    connections_.erase(c.session);
    worker_.close_session(c.session);
  }
  c.session = no_session;
  c.in_flight = {};
  c.stopped = false;
  session_options o;
  o.clean_start = w[2].find("clean") != std::string_view::npos;
  o.ends_with_connection = w[2].find("passing") != std::string_view::npos;
  o.window = window;
  o.address = connection;
  o.keep_will = w[2].find("keep") != std::string_view::npos;
  o.same_connection = w[2].find("same") != std::string_view::npos;
  will_message will;
  if (w.size() == 6) {
    const auto [properties, content] = parts_of(w[5]);
    will = {.topic = w[3],
            .content = content,
            .properties = properties,
            .qos = static_cast<std::uint8_t>(number_of(w[4])),
            .retain = w[2].find("retain") != std::string_view::npos};
    o.will = &will;
  }
  const opened_session opened = worker_.open_session(*this, w[1], o, token(connection, c));
  if (opened.status != open_status::opening)
    return refuse(connection, c,
                  opened.status == open_status::congestion ? "congestion" : "refused");
  c.session = opened.session;
  connections_[c.session] = connection;
  if (opened.present) present_[token(connection, c)] = true;
}

bool line_front_end::change_will(client& c, const words& w, std::uint64_t t) {
  if (w[0] == "UNWILL") {
    worker_.set_will(c.session, nullptr, t);
  } else if (w[0] == "WILLTEXT" && w.size() == 2) {
    const will_message will{.topic = {}, .content = std::as_bytes(std::span(w[1]))};
    worker_.set_will(c.session, &will, t, will_part::content);
  } else if ((w[0] == "WILL" && w.size() == 4) || (w[0] == "WILLTOPIC" && w.size() == 3)) {
    will_message will{.topic = w[1], .content = {}, .qos = static_cast<std::uint8_t>(number_of(w[2]))};
    if (w.size() == 4) std::tie(will.properties, will.content) = parts_of(w[3]);
    worker_.set_will(c.session, &will, t, w.size() == 4 ? will_part::all : will_part::topic);
  } else {
    return false;
  }
  return true;
}

void line_front_end::request(unsigned connection, client& c, const words& w,
                             std::string_view text) {
  const std::uint64_t t = token(connection, c);
  if (w[0] == "SUB" && w.size() >= 3) {
    const auto bits = static_cast<std::uint8_t>(w.size() > 3 ? number_of(w[3]) : 0);
    subscribe_options o{.qos = static_cast<std::uint8_t>(number_of(w[2])), .front_end_bits = bits};
    const std::string_view more = w.size() > 4 ? w[4] : std::string_view{};
    if (more.find("new") != std::string_view::npos) o.retain_handling = retain_handling::if_new;
    if (more.find("never") != std::string_view::npos) o.retain_handling = retain_handling::never;
    o.retain_as_published = more.find("published") != std::string_view::npos;
    o.no_local = more.find("others") != std::string_view::npos;
    if (const auto at = more.find("id="); at != std::string_view::npos)
      o.identifier = number_of(more.substr(at + 3));
    worker_.subscribe(c.session, w[1], o, t);
  } else if (w[0] == "UNSUB" && w.size() == 2) {
    worker_.unsubscribe(c.session, w[1], t);
  } else if ((w[0] == "PUB" && w.size() == 4) || (w[0] == "RET" && w.size() >= 3)) {
    const std::uint32_t topic = worker_.topics().intern(w[1]);
    if (topic == topic_names::none) return refuse(connection, c, "congestion");
    const std::size_t colon = w[2].find(':');
    const unsigned id = colon == std::string_view::npos ? 0 : number_of(w[2].substr(colon + 1));
    const std::size_t slash = w[2].find('/');
    const publish_options o{
        .qos = static_cast<std::uint8_t>(number_of(w[2])),
        .retain = w[0] == "RET",
        .packet_id = static_cast<std::uint16_t>(id),
        .expiry_s = slash == std::string_view::npos ? 0 : number_of(w[2].substr(slash + 1))};
    const auto [properties, content] = parts_of(text);
    if (properties.empty())
      worker_.publish(*this, c.session, topic, content, o, t);
    else
      worker_.publish_with_properties(*this, c.session, topic, content, properties, o, t);
  } else if (w[0] == "REL" && w.size() == 2) {
    worker_.release_identifier(c.session, static_cast<std::uint16_t>(number_of(w[1])), t);
  } else if (w[0] == "BYE" || w[0] == "LOST") {
    connections_.erase(c.session);
    if (w.size() == 2) worker_.set_expiry(c.session, number_of(w[1]), w[1] == "0");
    worker_.close_session(c.session,
                          w[0] == "BYE" ? broker_worker::end_reason::client
                                        : broker_worker::end_reason::lost,
                          t);
    c.session = no_session;
  } else if (w[0] == "SLEEP" && w.size() == 2) {
    worker_.sleep(c.session, number_of(w[1]), t);
  } else if (!change_will(c, w, t)) {
    refuse(connection, c, "not_understood");
  }
}

void line_front_end::answer_delivery(client& c, const words& w) {
  if (c.session == no_session || w.size() != 2) return;
  for (delivery& d : c.in_flight) {
    if (d.ticket == 0 || d.number != number_of(w[1])) continue;
    const std::uint64_t ticket = d.ticket;
    if (w[0] == "REC")
      return worker_.received(c.session, ticket,
                              receipt_token | std::uint64_t{connections_[c.session]} << 32 |
                                  d.number);
    d = {};
    if (w[0] == "ACK")
      worker_.ack(c.session, ticket);
    else if (w[0] == "NACK")
      worker_.give_back(c.session, ticket);
    else
      worker_.skip(c.session, ticket);
    return;
  }
}

bool line_front_end::end_burst() {
  out_.release(worker_.end_burst());
  return worker_.worked();
}

// --- what the core calls ------------------------------------------------------------------------

std::uint32_t line_front_end::credit(std::uint32_t session) const noexcept {
  const auto at = connections_.find(session);
  if (at == connections_.end()) return 0;
  const auto& places = clients_.at(at->second).in_flight;
  // QoS 0 messages get one place more, because they take none.
  return 1 + static_cast<std::uint32_t>(std::ranges::count(places, 0u, &delivery::ticket));
}

void line_front_end::settled(std::span<const settlement> all) noexcept {
  for (const settlement& s : all) {
    if (s.outcome == outcome::repeated || s.outcome == outcome::lost) continue;
    const auto connection = static_cast<unsigned>((s.token & ~receipt_token) >> 32);
    if ((s.token & receipt_token) != 0) {
      if (s.outcome == outcome::accepted)
        out_.send(connection, "REL " + std::to_string(s.token & UINT32_MAX));
      continue;
    }
    const std::string number = std::to_string(s.token & UINT32_MAX);
    const bool present = present_.erase(s.token) != 0;
    if (s.outcome == outcome::accepted)
      out_.send(connection, "OK " + number + (present ? " present" : ""));
    else
      out_.send(connection, "NO " + number + " " + text_of(s.outcome));
  }
}

std::size_t line_front_end::deliver(std::uint32_t session,
                                    std::span<const delivery_item> items) noexcept {
  client* const c = serving(session);
  if (c == nullptr || c->stopped) return 0;
  std::size_t taken = 0;
  for (; taken < items.size(); ++taken) {
    const delivery_item& item = items[taken];
    delivery* place = nullptr;
    if (item.ticket != 0) {
      const auto free = std::ranges::find(c->in_flight, 0u, &delivery::ticket);
      if (free == c->in_flight.end()) break;
      place = &*free;
    }
    if (item.released) {
      *place = {item.ticket, ++c->deliveries};
      out_.send(connections_[session], "REL " + std::to_string(place->number));
      continue;
    }
    std::string text(item.content.size(), '\0');
    if (!item.content.copy_out(text.data())) break;
    if (item.extras != nullptr) {
      const std::span<const std::byte> p = item.extras->properties;
      text.insert(0, reinterpret_cast<const char*>(p.data()), p.size());
    }
    if (place != nullptr) *place = {item.ticket, ++c->deliveries};
    std::string flags = item.redelivered ? "again" : "";
    if (item.retain) flags += flags.empty() ? "retained" : ",retained";
    if (item.extras != nullptr && item.extras->expires_ns != 0)
      flags += flags.empty() ? "expires" : ",expires";
    out_.send(connections_[session],
              "MSG " + std::to_string(place != nullptr ? place->number : 0) + " " +
                  std::to_string(item.qos) + " " + std::to_string(item.front_end_bits) + " " +
                  (flags.empty() ? "-" : flags) + " " + std::string(item.name) + " " + text);
  }
  return taken;
}

void line_front_end::withdrawn(std::uint32_t session, std::uint64_t ticket) noexcept {
  client* const c = serving(session);
  if (c == nullptr) return;
  for (delivery& d : c->in_flight)
    if (d.ticket == ticket) {
      out_.send(connections_[session], "DROP " + std::to_string(d.number));
      d = {};
    }
}

void line_front_end::closed(std::uint32_t session, close_reason reason) noexcept {
  client* const c = serving(session);
  if (c == nullptr) return;
  out_.send(connections_[session],
            reason == close_reason::taken_over ? "GONE taken_over" : "GONE kicked");
  c->session = no_session;
  c->in_flight = {};
  connections_.erase(session);
}

// --- the server ---------------------------------------------------------------------------------

line_server::line_server(std::unique_ptr<chainring::broker> b) : broker_(std::move(b)) {
  for (unsigned w = 0; w < broker_->workers(); ++w)
    front_ends_.push_back(
        std::make_unique<line_front_end>(broker_->worker(w), out_, broker_->medium()));
}

void line_server::send(unsigned connection, const std::string& line) {
  if (line.starts_with("CONNECT ")) {
    const unsigned home = broker_->home_of(split(line, 8).at(1));
    const auto before = homes_.find(connection);
    if (before != homes_.end() && before->second != home) {
      front_ends_[before->second]->receive(connection, "BYE");
      settle(); // its answer must not be taken for one to the next session
      out_.forget(connection);
    }
    homes_[connection] = home;
  }
  front_ends_[homes_[connection]]->receive(connection, arrival_ ? arrival_(line) : line);
}

void line_server::settle() {
  for (int quiet = 0, rounds = 0; quiet < 3 && rounds < 1000; ++rounds) {
    bool any = false;
    for (auto& f : front_ends_)
      any |= f->end_burst();
    quiet = any ? 0 : quiet + 1;
  }
}

std::string line_server::ask(unsigned connection, const std::string& line) {
  send(connection, line);
  settle();
  return out_.next_answer(connection);
}

} // namespace chainring::test
