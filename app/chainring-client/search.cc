// SPDX-License-Identifier: BSD-3-Clause
// The search for a gateway (section 6.1): SEARCHGW, and GWINFO or ADVERTISE as its answer.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <random>
#include <unistd.h>

#include "client.h"

namespace chainring::client {
namespace {

/// The sockets of one search. A gateway may answer to the sender, or to everyone by broadcast or
/// multicast; the second socket hears the latter.
class search {
 public:
  ~search() {
    for (const int fd : sockets_)
      if (fd >= 0) ::close(fd);
  }
  search() = default;
  search(const search&) = delete;
  search& operator=(const search&) = delete;

  status open(const client_options& o);
  /// False when the kernel refuses to send; errno says why.
  bool send(mqttsn::octets datagram) const {
    return ::sendto(sockets_[0], datagram.data(), datagram.size(), 0, to(), to_size_) >= 0;
  }
  [[nodiscard]] std::array<int, 2> sockets() const noexcept { return sockets_; }

 private:
  [[nodiscard]] const sockaddr* to() const noexcept {
    return reinterpret_cast<const sockaddr*>(&to_);
  }
  void set_radius(std::uint8_t radius) const;
  void listen_to_all(std::uint16_t port);

  std::array<int, 2> sockets_{-1, -1};
  sockaddr_storage to_{};
  socklen_t to_size_ = 0;
};

using addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

addresses resolve(const std::string& host, const char* port, int family, int& rc) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  rc = getaddrinfo(host.c_str(), port, &hints, &found);
  return {rc == 0 ? found : nullptr, &freeaddrinfo};
}

status search::open(const client_options& o) {
  int rc = 0;
  const int wanted = o.family == address_family::ipv4   ? AF_INET
                     : o.family == address_family::ipv6 ? AF_INET6
                                                        : AF_UNSPEC;
  const auto target = resolve(o.search->address, std::to_string(o.port).c_str(), wanted, rc);
  if (!target)
    return failed("--search: cannot find the address '" + o.search->address +
                  "': " + gai_strerror(rc) +
                  "; expected a broadcast, multicast or unicast address, such as 225.1.1.1 or "
                  "ff02::1%eth0");
  std::memcpy(&to_, target->ai_addr, target->ai_addrlen);
  to_size_ = target->ai_addrlen;
  sockets_[0] = ::socket(to_.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (sockets_[0] < 0) return system_failed("cannot open a UDP socket");
  const int on = 1;
  (void)::setsockopt(sockets_[0], SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
  if (!o.bind_address.empty()) {
    const auto own = resolve(o.bind_address, nullptr, to_.ss_family, rc);
    if (!own)
      return failed("--bind: '" + o.bind_address + "' is not a local address: " + gai_strerror(rc));
    if (::bind(sockets_[0], own->ai_addr, own->ai_addrlen) != 0)
      return system_failed("--bind: cannot send from " + o.bind_address);
    if (to_.ss_family == AF_INET) {
      const in_addr interface = reinterpret_cast<const sockaddr_in*>(own->ai_addr)->sin_addr;
      (void)::setsockopt(sockets_[0], IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface);
    }
  }
  set_radius(o.search->radius);
  listen_to_all(o.port);
  return {};
}

/// The radius is also the number of routers that a multicast datagram may reach; radius 0 means the
/// whole network.
void search::set_radius(std::uint8_t radius) const {
  const int hops = radius == 0 ? 255 : radius;
  if (to_.ss_family == AF_INET6)
    (void)::setsockopt(sockets_[0], IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops);
  else
    (void)::setsockopt(sockets_[0], IPPROTO_IP, IP_MULTICAST_TTL, &hops, sizeof hops);
}

/// Opens the second socket, on the port that broadcasts and multicasts go to. Without it the client
/// still hears the gateways that answer to the sender.
void search::listen_to_all(std::uint16_t port) {
  const int fd = ::socket(to_.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const int on = 1;
  (void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  bool good = false;
  if (to_.ss_family == AF_INET6) {
    const auto& group = reinterpret_cast<const sockaddr_in6&>(to_);
    sockaddr_in6 own = group; // bound to the group, so that it takes no one's unicast datagrams
    ipv6_mreq join{group.sin6_addr, group.sin6_scope_id};
    own.sin6_port = htons(port);
    good = IN6_IS_ADDR_MULTICAST(&group.sin6_addr) &&
           ::bind(fd, reinterpret_cast<const sockaddr*>(&own), sizeof own) == 0 &&
           ::setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &join, sizeof join) == 0;
  } else {
    const auto& group = reinterpret_cast<const sockaddr_in&>(to_);
    sockaddr_in own = group; // a broadcast or multicast address can be bound to as well
    in_addr interface {};
    socklen_t size = sizeof interface;
    (void)::getsockopt(sockets_[0], IPPROTO_IP, IP_MULTICAST_IF, &interface, &size);
    ip_mreq join{group.sin_addr, interface};
    own.sin_port = htons(port);
    const bool multicast = IN_MULTICAST(ntohl(group.sin_addr.s_addr));
    // A unicast address of this machine could be bound to, and must not: a gateway may own it. The
    // kernel tells a broadcast address by refusing a socket that has not asked for broadcasts.
    const int plain = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const bool broadcast =
        plain >= 0 && !multicast &&
        ::connect(plain, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0 &&
        errno == EACCES;
    if (plain >= 0) ::close(plain);
    good = (multicast || broadcast) &&
           ::bind(fd, reinterpret_cast<const sockaddr*>(&own), sizeof own) == 0 &&
           (!multicast || ::setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join) == 0);
  }
  if (good)
    sockets_[1] = fd;
  else
    ::close(fd);
}

/// The gateway that `m` names: its sender, or the address that another client has put into GWINFO.
bool gateway_of(const mqttsn::message& m, std::uint16_t port, sockaddr_storage& from,
                socklen_t& size) {
  if (m.get<mqttsn::advertise>() != nullptr) return true;
  const auto* info = m.get<mqttsn::gwinfo>();
  if (info == nullptr) return false;
  if (info->gw_address.empty()) return true;
  // The specification leaves the form of the address to the network: here 4 or 16 octets of IP.
  if (info->gw_address.size() == sizeof(in_addr)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    std::memcpy(&address.sin_addr, info->gw_address.data(), sizeof address.sin_addr);
    std::memcpy(&from, &address, size = sizeof address);
    return true;
  }
  if (info->gw_address.size() == sizeof(in6_addr)) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    std::memcpy(&address.sin6_addr, info->gw_address.data(), sizeof address.sin6_addr);
    std::memcpy(&from, &address, size = sizeof address);
    return true;
  }
  return false;
}

} // namespace

/// Sends SEARCHGW after a random delay, and again after intervals that double each time, until a
/// gateway is known. Another client's SEARCHGW counts as this client's own.
status client::find_gateway(sockaddr_storage& found, socklen_t& size) {
  search s;
  if (auto opened = s.open(options_); !opened) return opened;
  const std::size_t length = mqttsn::encode_searchgw(out_, {.radius = options_.search->radius});
  const mqttsn::octets request(out_.data(), length);
  std::random_device random;
  std::uniform_int_distribution<long long> delay(0, options_.search->delay_max.count());
  const auto began = clock::now();
  auto again = began + std::chrono::milliseconds(delay(random));
  auto interval = options_.retry_interval;
  bool cancelled = false; // another client has sent the same SEARCHGW
  for (unsigned sent = 0; sent <= options_.retries_max + 1;) {
    pollfd fds[] = {
        {s.sockets()[0], POLLIN, 0}, {s.sockets()[1], POLLIN, 0}, {options_.stop_fd, POLLIN, 0}};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(again - clock::now()).count();
    if (left <= 0) {
      if (sent++ > options_.retries_max) break;
      if (!cancelled) {
        tell("sent", request);
        if (!s.send(request) && errno != ENETUNREACH && errno != EHOSTUNREACH &&
            errno != ECONNREFUSED)
          return system_failed("--search: cannot send to " + options_.search->address);
      }
      cancelled = false;
      again = clock::now() + interval;
      interval *= 2;
      continue;
    }
    if (::poll(fds, 3, static_cast<int>(std::min<long long>(left, 3'600'000))) < 0) {
      if (errno == EINTR) continue;
      return system_failed("cannot wait for a gateway");
    }
    if (fds[2].revents != 0) return {outcome::interrupted, {}, "interrupted"};
    for (const pollfd& fd : std::span(fds, 2)) {
      if (fd.revents == 0) continue;
      size = sizeof found;
      const ssize_t n = ::recvfrom(fd.fd, in_.data(), in_.size(), MSG_DONTWAIT,
                                   reinterpret_cast<sockaddr*>(&found), &size);
      if (n < 0) continue;
      const mqttsn::octets datagram(in_.data(), static_cast<std::size_t>(n));
      mqttsn::message m;
      if (decode(datagram, m) != mqttsn::decode_status::ok) continue;
      if (const auto* other = m.get<mqttsn::searchgw>()) {
        if (sent > 0 || cancelled || other->radius != options_.search->radius) continue;
        cancelled = true;
        tell("another client searches; its SEARCHGW counts as this client's own");
        continue;
      }
      tell("received", datagram);
      if (gateway_of(m, options_.port, found, size)) return {};
    }
  }
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - began);
  return {outcome::no_answer,
          {},
          "no gateway answered SEARCHGW to " + options_.search->address + " port " +
              std::to_string(options_.port) + " in " + std::to_string(options_.retries_max + 1) +
              " attempts over " + in_seconds(passed) +
              "; check that one runs in this network and listens on that address, or give its "
              "address with --host"};
}

} // namespace chainring::client
