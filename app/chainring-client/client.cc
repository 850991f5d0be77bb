// SPDX-License-Identifier: BSD-3-Clause
#include "client.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace chainring::client {

using mqttsn::flags;
using mqttsn::qos_level;
using mqttsn::return_code;
using mqttsn::topic_id_type;

namespace {

/// The largest payload of a UDP datagram over IPv4, in octets.
constexpr std::size_t datagram_size_max = 65507;

status failed(std::string message) {
  return {outcome::failed, {}, std::move(message)};
}

status system_failed(std::string message) {
  return failed(std::move(message) + ": " + std::strerror(errno));
}

std::string seconds(std::chrono::milliseconds t) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", static_cast<double>(t.count()) / 1000);
  return text;
}

status rejected(const std::string& what, return_code code) {
  std::string message = what + " was refused by the broker (" + to_string(code) + ")";
  if (code == return_code::congestion) message += "; try again later";
  return {outcome::rejected, code, message};
}

} // namespace

topic topic::named(std::string name) {
  return {topic_id_type::normal, 0, std::move(name)};
}

topic topic::predefined(std::uint16_t id) {
  return {topic_id_type::predefined, id, std::to_string(id)};
}

topic topic::short_name(const std::string& name) {
  return {topic_id_type::short_name, mqttsn::short_topic_id(name), name};
}

client::client(client_options options)
    : options_(std::move(options)), out_(mqttsn::message_size_max), in_(mqttsn::message_size_max) {}

client::~client() {
  if (socket_ >= 0) ::close(socket_);
}

std::string client::peer() const {
  return options_.host + ":" + std::to_string(options_.port);
}

status client::open() {
  addrinfo* found = nullptr;
  // IPv4 is tried first, because a datagram does not tell whether the other address family would
  // have been answered.
  for (const int family : {AF_INET, AF_INET6}) {
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_DGRAM;
    const std::string port = std::to_string(options_.port);
    const int rc = getaddrinfo(options_.host.c_str(), port.c_str(), &hints, &found);
    if (rc == 0) break;
    found = nullptr;
    if (family == AF_INET6)
      return failed("cannot find host '" + options_.host + "': " + gai_strerror(rc) +
                    "; give a name or address with --host");
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, &freeaddrinfo);
  if (socket_ >= 0) ::close(socket_);
  socket_ = ::socket(all->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket_ < 0) return system_failed("cannot open a UDP socket");
  if (::connect(socket_, all->ai_addr, all->ai_addrlen) != 0)
    return system_failed("cannot reach " + peer());
  // The brokers of this project accept no IP fragments. With path MTU discovery a message that is
  // too long for the path is an error of send() and not a silent loss.
  const int never = all->ai_family == AF_INET6 ? IPV6_PMTUDISC_DO : IP_PMTUDISC_DO;
  (void)(all->ai_family == AF_INET6
             ? ::setsockopt(socket_, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &never, sizeof never)
             : ::setsockopt(socket_, IPPROTO_IP, IP_MTU_DISCOVER, &never, sizeof never));
  return {};
}

std::size_t client::fits() const {
  int mtu = 0;
  socklen_t size = sizeof mtu;
  if (::getsockopt(socket_, IPPROTO_IP, IP_MTU, &mtu, &size) == 0 && mtu > 28)
    return static_cast<std::size_t>(mtu) - 28; // IPv4 and UDP headers
  if (::getsockopt(socket_, IPPROTO_IPV6, IPV6_MTU, &mtu, &size) == 0 && mtu > 48)
    return static_cast<std::size_t>(mtu) - 48;
  return datagram_size_max;
}

std::uint16_t client::next_msg_id() noexcept {
  if (++msg_id_ == 0) msg_id_ = 1;
  return msg_id_;
}

void client::tell(const char* verb, mqttsn::octets datagram) const {
  if (!options_.debug) return;
  mqttsn::message m;
  const auto status = decode(datagram, m);
  std::string detail;
  std::visit(
      [&](const auto& body) {
        if constexpr (requires { body.msg_id; }) detail += " m" + std::to_string(body.msg_id);
        if constexpr (requires { body.topic_id; }) detail += " t" + std::to_string(body.topic_id);
        if constexpr (requires { body.flags; }) {
          static constexpr const char* levels[] = {"0", "1", "2", "-1"};
          detail += std::string(" q") + levels[static_cast<int>(body.flags.qos())];
          if (body.flags.dup()) detail += " dup";
          if (body.flags.retain()) detail += " retain";
        }
        if constexpr (requires { body.topic; }) detail += " '" + std::string(body.topic) + "'";
        if constexpr (requires { body.code; }) detail += std::string(" ") + to_string(body.code);
      },
      m.body);
  std::fprintf(stderr, "%s %s%s (%zu octets%s%s)\n", verb,
               status == mqttsn::decode_status::ok ? to_string(m.type) : "a malformed message",
               detail.c_str(), datagram.size(), status == mqttsn::decode_status::ok ? "" : ", ",
               status == mqttsn::decode_status::ok ? "" : to_string(status));
}

/// Sends the first `size` octets of out_.
status client::send(std::size_t size) {
  if (size == 0 || size > datagram_size_max)
    return failed("the message does not fit a datagram of " + std::to_string(datagram_size_max) +
                  " octets with its header; send it in parts");
  const mqttsn::octets datagram(out_.data(), size);
  tell("sent", datagram);
  sent_at_ = clock::now();
  if (::send(socket_, datagram.data(), size, MSG_NOSIGNAL) >= 0) return {};
  if (errno == EMSGSIZE)
    return failed("too long: with its header the message has " + std::to_string(size) +
                  " octets, and one packet to " + peer() + " carries " + std::to_string(fits()) +
                  "; send it in parts");
  // A datagram that the network refuses now counts as lost, and the retry timer sends it again.
  refused_ = errno == ECONNREFUSED;
  return {};
}

template <class Message> void client::answer(const Message& m) {
  // The answer's own loss is harmless: the broker then repeats its request.
  static_cast<void>(send(mqttsn::encode(out_, mqttsn::message_body(m))));
}

/// Waits once, for a datagram, for `fd` or for the deadline. Sets `matched` when the datagram is
/// the answer that `match` waits for, and `ready` when `fd` can be read.
status client::step(clock::time_point deadline, int fd, const matcher& match, bool& matched,
                    bool& ready) {
  pollfd fds[] = {{socket_, POLLIN, 0}, {options_.stop_fd, POLLIN, 0}, {fd, POLLIN, 0}};
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
  const int timeout_ms = static_cast<int>(std::clamp<long long>(left, 0, 3'600'000));
  if (::poll(fds, 3, timeout_ms) < 0) {
    if (errno == EINTR) return {};
    return system_failed("cannot wait for the broker");
  }
  if (fds[1].revents != 0) return {outcome::interrupted, {}, "interrupted"};
  ready = fds[2].revents != 0;
  if (fds[0].revents == 0) return {};
  const ssize_t n = ::recv(socket_, in_.data(), in_.size(), MSG_DONTWAIT);
  if (n < 0) {
    if (errno == ECONNREFUSED)
      refused_ = true;
    else if (errno != EAGAIN && errno != EINTR && errno != EHOSTUNREACH && errno != ENETUNREACH)
      return system_failed("cannot receive from " + peer());
    return {};
  }
  refused_ = false;
  const mqttsn::octets datagram(in_.data(), static_cast<std::size_t>(n));
  tell("received", datagram);
  mqttsn::message m;
  if (decode(datagram, m) != mqttsn::decode_status::ok) return {};
  matched = match && match(m);
  if (!matched) handle(m);
  return {};
}

status client::ended() const {
  return {outcome::disconnected, {}, "the broker at " + peer() + " ended the session"};
}

status client::lost(const std::string& what) {
  std::string message = what + " was not answered by " + peer() + " in " +
                        std::to_string(options_.retries_max + 1) + " attempts, " +
                        seconds(options_.retry_interval) + " apart";
  message += refused_ ? ": nothing listens on that port; is the broker running?"
                      : "; check --host and --port, or allow more with --max-retries";
  return {outcome::no_answer, {}, message};
}

status client::exchange(const std::string& what, const encoder& encode, const matcher& match) {
  for (unsigned attempt = 0; attempt <= options_.retries_max; ++attempt) {
    if (auto s = send(encode(out_, attempt > 0)); !s) return s;
    const auto deadline = clock::now() + options_.retry_interval;
    do {
      bool matched = false, ready = false;
      if (auto s = step(deadline, -1, match, matched, ready); !s) return s;
      if (matched) return {};
      if (!connected_ && !connecting_)
        return {outcome::disconnected,
                {},
                "the broker at " + peer() + " ended the session before it answered " + what};
    } while (clock::now() < deadline);
  }
  return lost(what);
}

status client::connect() {
  ids_.clear();
  names_.clear();
  if (options_.clean) open_.clear();
  inbox_.clear(); // these messages are not acknowledged, so the broker sends them again
  connected_ = false;
  pings_ = 0;
  // A DISCONNECT that arrives now belongs to an older session and is ignored.
  connecting_ = true;
  const bool with_will = options_.will.has_value();
  std::optional<mqttsn::message_type> step;
  return_code code{};
  const auto match = [&](const mqttsn::message& m) {
    if (const auto* ack = m.get<mqttsn::connack>())
      code = ack->code;
    else if (!with_will || (m.type != mqttsn::message_type::willtopicreq &&
                            m.type != mqttsn::message_type::willmsgreq))
      return false;
    step = m.type;
    return true;
  };
  status s;
  // The broker leads: it asks for the parts of the will in its own order, and may ask again.
  for (unsigned round = 0; round < 16 && s && step != mqttsn::message_type::connack; ++round) {
    s = exchange(
        step ? "the will" : "CONNECT",
        [&](std::span<std::byte> to, bool) {
          if (step == mqttsn::message_type::willtopicreq)
            return mqttsn::encode_willtopic(
                to,
                {.flags = flags{}.with_qos(options_.will->qos).with_retain(options_.will->retain),
                 .topic = options_.will->topic});
          if (step == mqttsn::message_type::willmsgreq)
            return mqttsn::encode_willmsg(
                to, {.data = std::as_bytes(std::span(options_.will->payload))});
          return mqttsn::encode_connect(
              to, {.flags = flags{}.with_clean(options_.clean).with_will(with_will),
                   .keep_alive_s = options_.keep_alive_s,
                   .client_id = options_.client_id});
        },
        match);
  }
  connecting_ = false;
  if (!s) return s;
  if (step != mqttsn::message_type::connack)
    return failed("the broker asked for the will again and again and never answered with CONNACK");
  if (code != return_code::accepted)
    return rejected("client id '" + options_.client_id + "'", code);
  connected_ = true;
  return {};
}

status client::disconnect() {
  if (!connected_) return ended();
  auto s = exchange(
      "DISCONNECT", [](std::span<std::byte> to, bool) { return mqttsn::encode_disconnect(to); },
      [](const mqttsn::message& m) { return m.get<mqttsn::disconnect>() != nullptr; });
  connected_ = false;
  return s;
}

status client::register_name(const std::string& name, std::uint16_t& id) {
  if (const auto known = ids_.find(name); known != ids_.end()) {
    id = known->second;
    return {};
  }
  const std::uint16_t msg_id = next_msg_id();
  return_code code{};
  auto s = exchange(
      "REGISTER of '" + name + "'",
      [&](std::span<std::byte> to, bool) {
        return mqttsn::encode_register(to, {.msg_id = msg_id, .topic = name});
      },
      [&](const mqttsn::message& m) {
        const auto* ack = m.get<mqttsn::regack>();
        if (ack == nullptr || ack->msg_id != msg_id) return false;
        code = ack->code;
        id = ack->topic_id;
        return true;
      });
  if (!s) return s;
  if (code != return_code::accepted) return rejected("the topic '" + name + "'", code);
  ids_[name] = id;
  names_[id] = name;
  return {};
}

status client::publish_once(const topic& to, std::uint16_t id, mqttsn::octets data, qos_level qos,
                            bool retain) {
  mqttsn::publish out{.flags = flags{}.with_qos(qos).with_retain(retain).with_topic_type(to.type),
                      .topic_id = id,
                      .data = data};
  if (qos == qos_level::zero || qos == qos_level::minus_one) {
    if (auto s = send(mqttsn::encode_publish(out_, out)); !s) return s;
    bool matched = false, ready = false; // the refusal of an earlier message may be waiting
    return step(clock::now(), -1, {}, matched, ready);
  }
  const std::uint16_t msg_id = out.msg_id = next_msg_id();
  const std::string what = "PUBLISH " + std::to_string(msg_id) + " to '" + to.name + "'";
  return_code code{};
  auto s = exchange(
      what,
      [&](std::span<std::byte> buffer, bool again) {
        out.flags = out.flags.with_dup(again);
        return mqttsn::encode_publish(buffer, out);
      },
      [&](const mqttsn::message& m) {
        if (const auto* ack = m.get<mqttsn::puback>(); ack != nullptr && ack->msg_id == msg_id) {
          code = ack->code;
          return qos == qos_level::one || code != return_code::accepted;
        }
        const auto* rec = m.get<mqttsn::pubrec>();
        return qos == qos_level::two && rec != nullptr && rec->msg_id == msg_id;
      });
  if (!s) return s;
  if (code != return_code::accepted) return rejected(what, code);
  if (qos == qos_level::one) return {};
  return exchange(
      "PUBREL " + std::to_string(msg_id),
      [&](std::span<std::byte> buffer, bool) {
        return mqttsn::encode_pubrel(buffer, {.msg_id = msg_id});
      },
      [&](const mqttsn::message& m) {
        const auto* comp = m.get<mqttsn::pubcomp>();
        return comp != nullptr && comp->msg_id == msg_id;
      });
}

status client::publish(const topic& to, mqttsn::octets data, qos_level qos, bool retain) {
  std::uint16_t id = to.id;
  if (qos != qos_level::minus_one && !connected_) return ended();
  if (to.type != topic_id_type::normal) return publish_once(to, id, data, qos, retain);
  for (bool again = false;; again = true) {
    if (auto s = register_name(to.name, id); !s) return s;
    auto s = publish_once(to, id, data, qos, retain);
    if (s.what != outcome::rejected || s.code != return_code::invalid_topic_id || again) return s;
    ids_.erase(to.name); // the broker forgot the id: register the name again (section 6.6)
  }
}

status client::subscribe(const topic& filter, qos_level qos, qos_level& granted) {
  const std::uint16_t msg_id = next_msg_id();
  mqttsn::subscribe out{.flags = flags{}.with_qos(qos).with_topic_type(filter.type),
                        .msg_id = msg_id,
                        .topic_id = filter.id,
                        .topic = filter.name};
  mqttsn::suback got;
  subscribing_ = true;
  auto s = exchange(
      "SUBSCRIBE to '" + filter.name + "'",
      [&](std::span<std::byte> to, bool again) {
        out.flags = out.flags.with_dup(again);
        return mqttsn::encode_subscribe(to, out);
      },
      [&](const mqttsn::message& m) {
        const auto* ack = m.get<mqttsn::suback>();
        if (ack == nullptr || ack->msg_id != msg_id) return false;
        got = *ack;
        return true;
      });
  subscribing_ = false;
  if (!s) return s;
  if (got.code != return_code::accepted)
    return rejected("the subscription to '" + filter.name + "'", got.code);
  granted = got.flags.qos();
  if (filter.type == topic_id_type::predefined)
    predefined_.insert(filter.id);
  else if (filter.type == topic_id_type::normal && mqttsn::valid_topic_id(got.topic_id))
    names_[got.topic_id] = filter.name;
  return {};
}

void client::handle(const mqttsn::message& m) {
  if (const auto* p = m.get<mqttsn::publish>())
    on_publish(*p);
  else if (const auto* r = m.get<mqttsn::register_topic>())
    on_register(*r);
  else if (m.get<mqttsn::pingreq>() != nullptr)
    answer(mqttsn::pingresp{});
  else if (m.get<mqttsn::pingresp>() != nullptr)
    pings_ = 0;
  else if (m.get<mqttsn::disconnect>() != nullptr)
    connected_ = false;
  else if (const auto* rel = m.get<mqttsn::pubrel>()) {
    open_.erase(rel->msg_id);
    answer(mqttsn::pubcomp{rel->msg_id});
  } else if (const auto* ack = m.get<mqttsn::puback>();
             ack != nullptr && ack->msg_id == 0 && ack->code != return_code::accepted) {
    ++refused_count_;
    refused_code_ = ack->code;
  }
}

void client::on_register(const mqttsn::register_topic& r) {
  if (!connected_) return;
  mqttsn::regack ack{.topic_id = r.topic_id, .msg_id = r.msg_id};
  if (!mqttsn::valid_topic_id(r.topic_id))
    ack.code = return_code::invalid_topic_id;
  else if (!valid_topic_name(r.topic))
    ack.code = return_code::not_supported;
  else
    names_[r.topic_id] = std::string(r.topic);
  answer(ack);
}

void client::on_publish(const mqttsn::publish& p) {
  if (!connected_) return;
  // The caller already has this QoS 2 message and only the PUBREC was lost. Without the DUP flag a
  // PUBLISH is a new message that reuses an old id.
  if (p.flags.qos() == qos_level::two && p.flags.dup() && open_.contains(p.msg_id))
    return answer(mqttsn::pubrec{p.msg_id});
  delivery d{p.flags, p.topic_id, p.msg_id, {}, {p.data.begin(), p.data.end()}};
  bool known = true;
  switch (p.flags.topic_type()) {
  case topic_id_type::short_name: {
    const auto name = mqttsn::short_topic_name(p.topic_id);
    d.topic.assign(name.begin(), name.end());
    break;
  }
  case topic_id_type::predefined:
    known = predefined_.contains(p.topic_id);
    d.topic = std::to_string(p.topic_id);
    break;
  default:
    const auto name = names_.find(p.topic_id);
    known = name != names_.end();
    if (known) d.topic = name->second;
  }
  if (known) {
    inbox_.push_back(std::move(d));
  } else if (!subscribing_) {
    // While a SUBSCRIBE waits for its SUBACK, that SUBACK may be what was lost. The client then
    // does not answer, so that the broker sends the message again instead of dropping it.
    answer(mqttsn::puback{p.topic_id, p.msg_id, return_code::invalid_topic_id});
  }
}

/// Sends a PINGREQ when one is due. It is due after three quarters of the keep-alive time, which
/// leaves room for a retry.
status client::keep_alive() {
  if (options_.keep_alive_s == 0 || !connected_) return {};
  const auto now = clock::now();
  const auto idle_max = std::chrono::milliseconds(options_.keep_alive_s * 750);
  if (pings_ == 0 ? now < sent_at_ + idle_max : now < ping_at_ + options_.retry_interval) return {};
  if (pings_ > options_.retries_max) return lost("PINGREQ");
  ++pings_;
  ping_at_ = now;
  return send(mqttsn::encode_pingreq(out_));
}

status client::next(clock::time_point deadline, std::optional<delivery>& out) {
  out.reset();
  for (;;) {
    if (!inbox_.empty()) {
      out = std::move(inbox_.front());
      inbox_.pop_front();
      return {};
    }
    if (!connected_) return ended();
    const auto now = clock::now();
    if (now >= deadline) return {};
    if (auto s = keep_alive(); !s) return s;
    auto wake = deadline;
    if (options_.keep_alive_s > 0)
      wake = std::min(
          wake, pings_ > 0 ? ping_at_ + options_.retry_interval
                           : sent_at_ + std::chrono::milliseconds(options_.keep_alive_s * 750));
    bool matched = false, ready = false;
    if (auto s = step(wake, -1, {}, matched, ready); !s) return s;
  }
}

status client::wait_readable(int fd) {
  for (bool ready = false; !ready;) {
    if (auto s = keep_alive(); !s) return s;
    auto wake = clock::time_point::max();
    if (options_.keep_alive_s > 0 && connected_)
      wake = pings_ > 0 ? ping_at_ + options_.retry_interval
                        : sent_at_ + std::chrono::milliseconds(options_.keep_alive_s * 750);
    bool matched = false;
    if (auto s = step(wake, fd, {}, matched, ready); !s) return s;
  }
  return {};
}

status client::acknowledge(const delivery& d) {
  if (!connected_) return {}; // the session in which the message came is over
  if (d.flags.qos() == qos_level::one)
    return send(mqttsn::encode_puback(out_, {.topic_id = d.topic_id, .msg_id = d.msg_id}));
  if (d.flags.qos() == qos_level::two) {
    open_.insert(d.msg_id);
    return send(mqttsn::encode_pubrec(out_, {.msg_id = d.msg_id}));
  }
  return {};
}

} // namespace chainring::client
