// SPDX-License-Identifier: BSD-3-Clause
// Sleep (section 6.14): the broker keeps the messages of a client that does not listen.
#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>

#include "client.h"

namespace chainring::client {

using mqttsn::qos_level;

status client::sleep(std::uint16_t duration_s) {
  if (phase_ != phase::active && phase_ != phase::asleep) return ended();
  auto s = exchange(
      "DISCONNECT for a sleep of " + std::to_string(duration_s) + " s",
      [&](std::span<std::byte> to, bool) {
        return mqttsn::encode_disconnect(to, {.has_duration = true, .duration_s = duration_s});
      },
      [](const mqttsn::message& m) { return m.get<mqttsn::disconnect>() != nullptr; });
  if (s.what == outcome::no_answer)
    s.message += "; a broker that does not support sleep does not answer";
  if (!s) return s;
  phase_ = phase::asleep;
  pings_ = 0;
  sleep_s_ = duration_s;
  std::erase_if(inbox_, [](const delivery& d) { return d.flags.qos() != qos_level::zero; });
  return {};
}

/// Drops all datagrams that have arrived.
void client::drop_received() {
  for (;;) {
    const ssize_t n = ::recv(socket_, in_.data(), in_.size(), MSG_DONTWAIT);
    if (n >= 0)
      tell("dropped, as it came during sleep:",
           mqttsn::octets(in_.data(), static_cast<std::size_t>(n)));
    else if (errno != EINTR && errno != ECONNREFUSED)
      return;
  }
}

status client::wake() {
  if (phase_ != phase::asleep) return ended();
  drop_received();
  phase_ = phase::awake;
  pings_ = 0;
  return stay_awake();
}

/// Sends the PINGREQ that asks for the messages, and sends it again when nothing was heard for the
/// retry interval. After retries_max of them the client is asleep again, which spares a battery.
status client::stay_awake() {
  const auto now = clock::now();
  if (pings_ > 0 && now < std::max(ping_at_, heard_at_) + options_.retry_interval) return {};
  if (pings_ > options_.retries_max) {
    pings_ = 0;
    phase_ = phase::asleep;
    return lost("PINGREQ of '" + options_.client_id + "', who is awake,");
  }
  ++pings_;
  ping_at_ = now;
  return send(mqttsn::encode_pingreq(out_, {.client_id = options_.client_id}));
}

bool client::overslept() const noexcept {
  return phase_ == phase::asleep && clock::now() > heard_at_ + std::chrono::seconds(sleep_s_);
}

status client::doze(clock::time_point until) const {
  pollfd stop{options_.stop_fd, POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock::now()).count();
    if (left <= 0) return {};
    const int n = ::poll(&stop, 1, static_cast<int>(std::min<long long>(left, 3'600'000)));
    if (n > 0) return {outcome::interrupted, {}, "interrupted"};
    if (n < 0 && errno != EINTR) return system_failed("cannot wait");
  }
}

} // namespace chainring::client
