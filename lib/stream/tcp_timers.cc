// SPDX-License-Identifier: BSD-3-Clause
// The timers of TCP. lwIP's two timers walk through all connections that they see. Here they see
// those alone that have something to do, and at most 64 of them in one call, so that a round never
// takes long. Each timer goes through its list from the end to the front: a connection that leaves
// the list gives its place to the last one, which was visited or is new, and a second visit within
// a tick is skipped.
#include <algorithm>
#include <array>

#include "stream/tcp_state.h"

namespace chainring::stream {

namespace {

constexpr std::size_t chunk_max = 64;

void enter(std::vector<std::uint32_t>& set, std::uint32_t number, std::uint32_t& at) noexcept {
  if (at != 0) return;
  set.push_back(number); // there is room for all connections
  at = static_cast<std::uint32_t>(set.size());
}

} // namespace

// lwIP's slow timer retransmits, probes closed windows, drops what waits out of order for too long,
// and ends what waits for a peer in any state but ESTABLISHED and CLOSE_WAIT.
bool tcp_stack::state::wants_slow(const link_state& l) noexcept {
  const tcp_pcb& p = *l.pcb;
  return l.time_wait || p.state != ESTABLISHED || p.unacked != nullptr || p.unsent != nullptr ||
         p.ooseq != nullptr || p.persist_backoff != 0;
}

// lwIP's fast timer sends delayed acknowledgements, and a FIN for which there was no memory. The
// handler is asked again for what write() did not take, because nothing tells when there is memory.
bool tcp_stack::state::wants_fast(const link_state& l) noexcept {
  const tcp_pcb& p = *l.pcb;
  return !l.time_wait && (l.wants_room || (p.flags & (TF_ACK_DELAY | TF_CLOSEPEND)) != 0 ||
                          p.refused_data != nullptr);
}

void tcp_stack::state::sort_into_timers(link_state& l) noexcept {
  const auto leave = [this](std::vector<std::uint32_t>& set, std::uint32_t& at,
                            std::uint32_t link_state::*place) noexcept {
    if (at == 0) return;
    const std::uint32_t last = set.back();
    set[at - 1] = last;
    links[last].*place = at;
    set.pop_back();
    at = 0;
  };
  if (l.pcb != nullptr && wants_slow(l))
    enter(slow, number_of(l), l.slow_at);
  else
    leave(slow, l.slow_at, &link_state::slow_at);
  if (l.pcb != nullptr && wants_fast(l))
    enter(fast, number_of(l), l.fast_at);
  else
    leave(fast, l.fast_at, &link_state::fast_at);
}

void tcp_stack::state::leave_timers(link_state& l) noexcept {
  tcp_pcb* const pcb = l.pcb;
  l.pcb = nullptr;
  sort_into_timers(l);
  l.pcb = pcb;
}

// Calls one of lwIP's timers for these connections.
void tcp_stack::state::run_chunk(std::span<const std::uint32_t> chunk, bool is_slow) noexcept {
  for (const std::uint32_t n : chunk) {
    link_state& l = links[n];
    tcp_pcb*& head = l.time_wait ? tcp_tw_pcbs : tcp_active_pcbs;
    l.pcb->last_timer = timer_calls; // lwIP skips a connection that has its new count already
    l.pcb->next = head;
    head = l.pcb;
  }
  ++timer_calls;
  if (is_slow) {
    tcp_ticks = ticks - 1; // which lwIP increases
    tcp_slowtmr();
  } else {
    tcp_fasttmr();
  }
  ++visits;
  const auto mark = [this](tcp_pcb* head, bool waits) noexcept {
    for (tcp_pcb* p = head; p != nullptr; p = p->next) {
      auto& l = *static_cast<link_state*>(p->callback_arg);
      l.visit = visits;
      l.time_wait = waits;
    }
  };
  mark(tcp_active_pcbs, false);
  mark(tcp_tw_pcbs, true);
  tcp_active_pcbs = tcp_tw_pcbs = nullptr;
  for (const std::uint32_t n : chunk) {
    link_state& l = links[n];
    if (l.visit != visits) {
      forget(l);
      continue;
    }
    if (!is_slow && l.wants_room) list(l);
    sort_into_timers(l);
  }
}

bool tcp_stack::state::run_timers(std::uint64_t now) noexcept {
  if (slow_next == 0) {
    slow_next = now + hz / 2;
    fast_next = now + hz / 4;
  }
  if (slow_left == 0 && static_cast<std::int64_t>(now - slow_next) >= 0) {
    // After a pause time goes on from now; lwIP's times then count the pause as one tick.
    slow_next = std::max(slow_next + hz / 2, now);
    tcp_ticks = ++ticks;
    slow_left = slow.size();
  }
  if (fast_left == 0 && static_cast<std::int64_t>(now - fast_next) >= 0) {
    fast_next = std::max(fast_next + hz / 4, now);
    ++fast_ticks;
    fast_left = fast.size();
  }
  if (slow_left == 0 && fast_left == 0) return false;
  std::array<std::uint32_t, chunk_max> chunk;
  const auto take = [&](const std::vector<std::uint32_t>& set, std::size_t& left,
                        std::uint32_t link_state::*seen, std::uint32_t tick) noexcept {
    std::size_t n = 0;
    left = std::min(left, set.size());
    while (left != 0 && n < chunk.size()) {
      const std::uint32_t number = set[--left];
      if (links[number].*seen == tick) continue;
      links[number].*seen = tick;
      chunk[n++] = number;
    }
    return std::span(chunk.data(), n);
  };
  if (const auto some = take(slow, slow_left, &link_state::slow_tick, ticks); !some.empty())
    run_chunk(some, true);
  if (const auto some = take(fast, fast_left, &link_state::fast_tick, fast_ticks); !some.empty())
    run_chunk(some, false);
  return true;
}

} // namespace chainring::stream
