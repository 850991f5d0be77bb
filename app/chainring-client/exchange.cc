// SPDX-License-Identifier: BSD-3-Clause
// The socket, requests with their retransmissions, and keep-alive.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include "client.h"

namespace chainring::client {

namespace {

/// The largest payload of a UDP datagram over IPv4, in octets.
constexpr std::size_t datagram_size_max = 65507;

/// "host:port", with brackets around an IPv6 address.
std::string host_and_port(const std::string& host, std::uint16_t port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

} // namespace

status failed(std::string message) {
  return {outcome::failed, {}, std::move(message)};
}

status system_failed(std::string message) {
  return failed(std::move(message) + ": " + std::strerror(errno));
}

std::string in_seconds(std::chrono::milliseconds t) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", static_cast<double>(t.count()) / 1000);
  return text;
}

client::client(client_options options)
    : options_(std::move(options)), out_(mqttsn::message_size_max), in_(mqttsn::message_size_max) {
  // Topic ids, open ids and the like of a session begin in connect().
  peer_ = host_and_port(options_.host, options_.port);
}

client::~client() {
  if (socket_ >= 0) ::close(socket_);
}

status client::open() {
  if (options_.search) {
    sockaddr_storage found{};
    socklen_t size = sizeof found;
    if (auto s = find_gateway(found, size); !s) return s;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    const auto* address = reinterpret_cast<const sockaddr*>(&found);
    if (getnameinfo(address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
      peer_ = host_and_port(host, static_cast<std::uint16_t>(std::atoi(port)));
    return open_socket(address, size, found.ss_family);
  }
  addrinfo* found = nullptr;
  // IPv4 is tried first, because a datagram does not tell whether the other address family would
  // have been answered.
  int rc = EAI_NONAME;
  for (const int family : {AF_INET, AF_INET6}) {
    if (options_.family == (family == AF_INET ? address_family::ipv6 : address_family::ipv4))
      continue;
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_DGRAM;
    const std::string port = std::to_string(options_.port);
    rc = getaddrinfo(options_.host.c_str(), port.c_str(), &hints, &found);
    if (rc == 0) break;
    found = nullptr;
  }
  if (found == nullptr) {
    const char* only = options_.family == address_family::ipv4   ? "an IPv4 address of "
                       : options_.family == address_family::ipv6 ? "an IPv6 address of "
                                                                 : "";
    return failed(std::string("cannot find ") + only + "host '" + options_.host +
                  "': " + gai_strerror(rc) + "; give a name or address with --host");
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, &freeaddrinfo);
  return open_socket(all->ai_addr, all->ai_addrlen, all->ai_family);
}

status client::open_socket(const sockaddr* address, socklen_t size, int family) {
  if (socket_ >= 0) ::close(socket_);
  socket_ = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket_ < 0) return system_failed("cannot open a UDP socket");
  if (!options_.bind_address.empty()) {
    addrinfo hints{}, *own = nullptr;
    hints.ai_family = family;
    hints.ai_socktype = SOCK_DGRAM;
    const int rc = getaddrinfo(options_.bind_address.c_str(), nullptr, &hints, &own);
    if (rc != 0)
      return failed("--bind: '" + options_.bind_address + "' is not a local " +
                    (family == AF_INET6 ? "IPv6" : "IPv4") + " address: " + gai_strerror(rc));
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(own, &freeaddrinfo);
    if (::bind(socket_, own->ai_addr, own->ai_addrlen) != 0)
      return system_failed("--bind: cannot send from " + options_.bind_address);
  }
  if (::connect(socket_, address, size) != 0) return system_failed("cannot reach " + peer());
  // Without fragments, which not every broker accepts, a message that is too long for the path is
  // an error of send() and not a silent loss.
  const bool ipv6 = family == AF_INET6;
  const int how = options_.fragments ? ipv6 ? IPV6_PMTUDISC_DONT : IP_PMTUDISC_DONT
                  : ipv6             ? IPV6_PMTUDISC_DO
                                     : IP_PMTUDISC_DO;
  (void)(ipv6 ? ::setsockopt(socket_, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &how, sizeof how)
              : ::setsockopt(socket_, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof how));
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

void client::tell(const std::string& line) const {
  if (options_.debug) std::fprintf(stderr, "%s\n", line.c_str());
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
        if constexpr (requires { body.client_id; }) {
          if (!body.client_id.empty()) detail += " '" + std::string(body.client_id) + "'";
        }
        if constexpr (requires { body.has_duration; }) {
          if (body.has_duration) detail += " for " + std::to_string(body.duration_s) + " s";
        }
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
                  "; send it in parts, or give --fragments if the broker accepts fragments");
  // A datagram that the network refuses now counts as lost, and the retry timer sends it again.
  refused_ = errno == ECONNREFUSED;
  return {};
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
  heard_at_ = clock::now();
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
                        in_seconds(options_.retry_interval) + " apart";
  message += refused_          ? ": nothing listens on that port; is the broker running?"
             : options_.search ? "; allow more with --max-retries"
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
      if (phase_ == phase::closed)
        return {outcome::disconnected,
                {},
                "the broker at " + peer() + " ended the session before it answered " + what};
    } while (clock::now() < deadline);
  }
  return lost(what);
}

status client::patiently(const std::function<status()>& request) {
  for (unsigned attempt = 0;; ++attempt) {
    auto s = request();
    if (!s.congested() || attempt >= options_.retries_max) return s;
    if (auto waited = wait(options_.retry_interval); !waited) return waited;
  }
}

/// A PINGREQ is due after three quarters of the keep-alive time, which leaves room for a retry.
clock::time_point client::keep_alive_at() const noexcept {
  if (options_.keep_alive_s == 0 || phase_ != phase::active) return clock::time_point::max();
  return pings_ > 0 ? ping_at_ + options_.retry_interval
                    : sent_at_ + std::chrono::milliseconds(options_.keep_alive_s * 750);
}

/// Sends a PINGREQ when one is due.
status client::keep_alive() {
  const auto now = clock::now();
  if (now < keep_alive_at()) return {};
  if (pings_ > options_.retries_max) return lost("PINGREQ");
  ++pings_;
  ping_at_ = now;
  return send(mqttsn::encode_pingreq(out_));
}

status client::wait_readable(int fd) {
  for (bool ready = false; !ready;) {
    if (auto s = keep_alive(); !s) return s;
    bool matched = false;
    if (auto s = step(keep_alive_at(), fd, {}, matched, ready); !s) return s;
  }
  return {};
}

status client::wait(std::chrono::milliseconds time) {
  const auto until = clock::now() + time;
  while (clock::now() < until) {
    if (auto s = keep_alive(); !s) return s;
    bool matched = false, ready = false;
    if (auto s = step(std::min(until, keep_alive_at()), -1, {}, matched, ready); !s) return s;
  }
  return {};
}

} // namespace chainring::client
