// SPDX-License-Identifier: BSD-3-Clause
// The connections of a TCP stack: the table in which packets find them, and what lwIP tells of
// them. lwIP's callbacks only note what happened, because lwIP may not be called within one.
#include <algorithm>
#include <bit>
#include <cstring>
#include <rte_byteorder.h>
#include <rte_cycles.h>

#include "stream/tcp_state.h"

namespace chainring::stream {

tcp_stack::state* the_stack = nullptr;

namespace {

/// lwIP numbers interfaces with an octet, from 1 on.
constexpr std::size_t interfaces_max = 254;

} // namespace

net::ip_address address_of(const ip_addr_t& a) noexcept {
  if (IP_IS_V6_VAL(a)) return net::load_ipv6(ip_2_ip6(&a)->addr);
  return rte_be_to_cpu_32(ip4_addr_get_u32(ip_2_ip4(&a)));
}

void to_lwip(ip_addr_t& to, const net::ip_address& from) noexcept {
  to = {};
  if (from.is_ipv4()) {
    IP_SET_TYPE_VAL(to, IPADDR_TYPE_V4);
    ip4_addr_set_u32(ip_2_ip4(&to), rte_cpu_to_be_32(from.ipv4()));
  } else {
    IP_SET_TYPE_VAL(to, IPADDR_TYPE_V6);
    net::store_ipv6(ip_2_ip6(&to)->addr, from);
  }
}

namespace {

// A connection that the handler has released hears nothing more.
err_t on_received(void* context, tcp_pcb*, pbuf* p, err_t) noexcept {
  auto& l = *static_cast<link_state*>(context);
  if (p == nullptr) {
    l.finished = true;
  } else {
    l.unconsumed += p->tot_len;
    if (l.in == nullptr)
      l.in = p;
    else
      pbuf_cat(l.in, p); // the window keeps the sum below 65,536
  }
  the_stack->list(l);
  return ERR_OK;
}

err_t on_sent(void* context, tcp_pcb*, u16_t) noexcept {
  auto& l = *static_cast<link_state*>(context);
  if (l.wants_room) the_stack->list(l);
  return ERR_OK;
}

void on_error(void* context, err_t why) noexcept {
  if (context == nullptr) return; // a connection that was never adopted
  auto& l = *static_cast<link_state*>(context);
  l.reason = why == ERR_RST    ? end_reason::reset
             : why == ERR_CLSD ? end_reason::closed
                               : end_reason::timed_out;
}

err_t on_accepted(void* context, tcp_pcb* pcb, err_t why) noexcept {
  if (pcb == nullptr || why != ERR_OK || context == nullptr) return ERR_VAL;
  auto& l = *static_cast<link_state*>(context);
  the_stack->leave_half_open(l);
  if (!the_stack->admit(l)) return ERR_VAL; // lwIP resets the connection
  l.established = true;
  the_stack->list(l);
  return ERR_OK;
}

} // namespace

// --- the table ----------------------------------------------------------------------------------

std::uint32_t tcp_stack::state::bucket_of(const net::endpoint& peer,
                                          std::uint16_t own_port) const noexcept {
  const client_address a = peer.key();
  const std::array<std::uint64_t, 4> words{a.words[0], a.words[1], a.words[2], own_port};
  return static_cast<std::uint32_t>(keyed_hash(key, words.data(), sizeof words) &
                                    (buckets.size() - 1));
}

// Hosts whose hashes are the same count together. Who they are cannot be chosen, because the hash
// is secret.
std::uint32_t& tcp_stack::state::host_count_of(const net::ip_address& peer) noexcept {
  const std::uint64_t host = net::host_of(peer);
  return host_count[keyed_hash(key, &host, sizeof host) & (host_count.size() - 1)];
}

link_state* tcp_stack::state::find(const net::endpoint& peer, std::uint16_t own_port) noexcept {
  for (std::uint32_t at = buckets[bucket_of(peer, own_port)]; at != 0;) {
    link_state& l = links[at - 1];
    if (l.peer == peer && l.own_port == own_port) return &l;
    at = l.next;
  }
  return nullptr;
}

void tcp_stack::state::list(link_state& l) noexcept {
  if (l.listed) return;
  l.listed = true;
  ready[(ready_first + ready_count++) % ready.size()] = number_of(l);
}

void tcp_stack::state::free_input(link_state& l) noexcept {
  if (l.in != nullptr) pbuf_free(l.in);
  l.in = nullptr;
}

void tcp_stack::state::release_number(link_state& l) noexcept {
  free_input(l);
  // A number that is in the line of poll() becomes free there.
  if (!l.listed) free_links.push_back(number_of(l));
}

void tcp_stack::state::forget(link_state& l) noexcept {
  std::uint32_t* at = &buckets[bucket_of(l.peer, l.own_port)];
  while (*at != number_of(l) + 1)
    at = &links[*at - 1].next;
  *at = l.next;
  leave_timers(l);
  leave_half_open(l);
  --open;
  l.pcb = nullptr;
  if (l.established) {
    if (!l.begun_here) --host_count_of(l.peer.address);
    ++count.ended;
  }
  if ((l.established || l.begun_here) && !l.released)
    list(l); // the handler is told
  else
    release_number(l);
}

// A host has so many connections, and begins so many in a second. Both are counted here, when it
// has completed one, because before that anybody may have sent in its name.
bool tcp_stack::state::admit(link_state& l) noexcept {
  std::uint32_t& of_host = host_count_of(l.peer.address);
  if (of_host >= options.connections_per_host_max) {
    ++count.refused_host;
    return false;
  }
  const std::uint64_t forgotten = rates.forgotten();
  if (!rates.take(l.peer.address, now_tsc)) {
    ++count.refused_rate;
    return false;
  }
  count.rates_forgotten += rates.forgotten() - forgotten;
  ++of_host;
  return true;
}

void tcp_stack::state::enter_half_open(link_state& l) noexcept {
  const std::uint32_t n = number_of(l) + 1;
  l.half_open = true;
  l.half_before = half_last;
  l.half_after = 0;
  (half_last == 0 ? half_first : links[half_last - 1].half_after) = n;
  half_last = n;
  ++half_count;
}

void tcp_stack::state::leave_half_open(link_state& l) noexcept {
  if (!l.half_open) return;
  l.half_open = false;
  (l.half_before == 0 ? half_first : links[l.half_before - 1].half_after) = l.half_after;
  (l.half_after == 0 ? half_last : links[l.half_after - 1].half_before) = l.half_before;
  --half_count;
}

void tcp_stack::state::drop_oldest_half_open() noexcept {
  ++count.half_open_dropped;
  with(links[half_first - 1], [](tcp_pcb* p) { tcp_abandon(p, 0); });
}

link_state& tcp_stack::state::number(tcp_pcb* pcb, interface& on) noexcept {
  const std::uint32_t n = free_links.back();
  free_links.pop_back();
  link_state& l = links[n];
  l = {};
  l.pcb = pcb;
  pcb->netif_idx = netif_get_index(&on.net);
  l.peer =
      on.endpoint_of({address_of(pcb->local_ip), address_of(pcb->remote_ip), 0, pcb->remote_port});
  l.own_port = pcb->local_port;
  std::uint32_t& bucket = buckets[bucket_of(l.peer, l.own_port)];
  l.next = bucket;
  bucket = n + 1;
  ++open;
  tcp_arg(pcb, &l);
  tcp_recv(pcb, on_received);
  tcp_sent(pcb, on_sent);
  tcp_err(pcb, on_error);
  tcp_nagle_disable(pcb); // what belongs together is written together
  sort_into_timers(l);
  return l;
}

// Makes a connection of the control block that lwIP has made for a SYN.
void tcp_stack::state::adopt(tcp_pcb* pcb) noexcept {
  if (free_links.empty() || current == nullptr) { // input() has seen to it that there is a free one
    pcb->callback_arg = nullptr;
    tcp_abandon(pcb, 0);
    return;
  }
  link_state& l = number(pcb, *current);
  tcp_active_pcbs = nullptr;
  enter_half_open(l);
  if (half_count > options.half_open_max && !restored) drop_oldest_half_open();
}

// --- showing connections to lwIP ----------------------------------------------------------------

void tcp_stack::state::show(link_state* l) noexcept {
  if (l == nullptr) return;
  current = interface_of(l->peer.interface_id);
  l->pcb->next = nullptr;
  (l->time_wait ? tcp_tw_pcbs : tcp_active_pcbs) = l->pcb;
}

void tcp_stack::state::hide(link_state* l) noexcept {
  if (l == nullptr) {
    tcp_pcb* const made = tcp_active_pcbs;
    tcp_active_pcbs = tcp_tw_pcbs = nullptr;
    if (made == nullptr) return;
    tcp_active_pcbs = made;
    adopt(made);
    tcp_active_pcbs = tcp_tw_pcbs = nullptr;
    return;
  }
  const bool active = tcp_active_pcbs == l->pcb, waits = tcp_tw_pcbs == l->pcb;
  tcp_active_pcbs = tcp_tw_pcbs = nullptr;
  if (!active && !waits) {
    forget(*l);
    return;
  }
  l->time_wait = waits;
  sort_into_timers(*l);
}

tcp_stack::state::interface* tcp_stack::state::interface_of(std::uint16_t id) noexcept {
  for (const auto& i : interfaces)
    if (i->config.id == id) return i.get();
  return nullptr;
}

// --- the interface ------------------------------------------------------------------------------

bool tcp_available() noexcept {
  return true;
}

tcp_stack::tcp_stack(std::unique_ptr<state> s) : state_(std::move(s)) {}

result<std::unique_ptr<tcp_stack>>
tcp_stack::create(const tcp_options& o, byte_stream_handler& handler, packet_output& output) {
  if (the_stack != nullptr)
    return error{errc::busy, "this process has a TCP stack already, and lwIP allows only one"};
  const auto refuse = [](const char* name) {
    return error{errc::invalid_argument, std::string(name) + " 0: expected at least 1"};
  };
  if (o.connections_max == 0) return refuse("connections_max");
  if (o.connections_per_host_max == 0) return refuse("connections_per_host_max");
  if (o.half_open_max == 0) return refuse("half_open_max");
  auto s = std::make_unique<state>(o, make_hash_key(o.seed), rte_get_tsc_hz());
  s->now_tsc = rte_rdtsc();
  s->handler = &handler;
  s->output = &output;
  if (!s->sequences.make())
    return error{errc::unsupported, "OpenSSL gives no SipHash or no random numbers, which TCP "
                                    "needs for its sequence numbers"};
  s->links.resize(o.connections_max);
  s->free_links.reserve(o.connections_max);
  for (std::uint32_t n = o.connections_max; n-- > 0;)
    s->free_links.push_back(n);
  s->buckets.resize(std::bit_ceil(std::size_t{o.connections_max} * 2));
  s->host_count.resize(65536);
  s->slow.reserve(o.connections_max);
  s->fast.reserve(o.connections_max);
  s->ready.resize(o.connections_max);
  // Frames are held while a packet is handled, until the next poll(), and out of order.
  constexpr std::uint32_t between_polls = 4096;
  s->frames.resize(between_polls + o.out_of_order_total_max);
  for (std::uint32_t n = 0; n < s->frames.size(); ++n)
    s->frames[n].next_free = n == 0 ? 0 : n;
  s->first_free_frame = static_cast<std::uint32_t>(s->frames.size());
  the_stack = s.get();
  static bool started = false;
  if (!started) memp_init();
  started = true;
  return std::unique_ptr<tcp_stack>(new tcp_stack(std::move(s)));
}

tcp_stack::~tcp_stack() {
  state& s = *state_;
  for (link_state& l : s.links) {
    if (l.pcb == nullptr) continue;
    l.released = true;
    s.with(l, [&](tcp_pcb* p) { tcp_abandon(p, 0); });
  }
  for (link_state& l : s.links)
    s.free_input(l);
  while (tcp_listen_pcbs.pcbs != nullptr)
    (void)tcp_close(tcp_listen_pcbs.pcbs);
  the_stack = nullptr;
}

result<void> tcp_stack::add_interface(std::uint16_t id, std::uint32_t ipv4, std::uint16_t mtu) {
  return add_interface({.id = id, .mtu = mtu, .addresses = {ipv4}});
}

result<void> tcp_stack::add_interface(tcp_interface config) {
  state& s = *state_;
  const std::string name = "interface " + std::to_string(config.id) + ": ";
  if (config.addresses.empty())
    return error{errc::invalid_argument, name + "expected at least one own address"};
  if (s.interface_of(config.id) != nullptr)
    return error{errc::busy, name + "the TCP stack has it already"};
  if (s.interfaces.size() == interfaces_max)
    return error{errc::no_space, name + "a TCP stack has at most " +
                                     std::to_string(interfaces_max) + " interfaces"};
  auto i = std::make_unique<state::interface>();
  i->config = std::move(config);
  i->net.num = static_cast<u8_t>(s.interfaces.size());
  i->net.mtu = i->config.mtu;
  i->net.flags = NETIF_FLAG_UP | NETIF_FLAG_LINK_UP;
  for (const net::ip_address& a : i->config.addresses)
    i->has_global |= !a.is_ipv4() && !is_link_local(a);
  s.interfaces.push_back(std::move(i));
  return {};
}

result<void> tcp_stack::listen(std::uint16_t port, const std::optional<net::ip_address>& at) {
  ip_addr_t own = *IP_ANY_TYPE;
  if (at) to_lwip(own, *at);
  tcp_pcb* const fresh = tcp_new_ip_type(IP_GET_TYPE(&own));
  if (fresh == nullptr) return error{errc::no_space, "there is no memory to listen with"};
  if (tcp_bind(fresh, &own, port) != ERR_OK) {
    (void)tcp_close(fresh);
    return error{errc::busy, "port " + std::to_string(port) + " is listened to already"};
  }
  tcp_pcb* const listening = tcp_listen(fresh);
  if (listening == nullptr) return error{errc::no_space, "there is no memory to listen with"};
  tcp_accept(listening, on_accepted);
  tcp_arg(listening, nullptr);
  state_->listening.push_back({port, at});
  return {};
}

// Tells the handler what has happened to a connection.
void tcp_stack::state::serve(link_state& l) noexcept {
  const connection c = number_of(l);
  if (l.released || !(l.established || l.begun_here)) {
    free_input(l);
    return;
  }
  if (!l.told && l.established) {
    l.told = true;
    if (l.begun_here) {
      ++count.connected;
      handler->connected(c);
    } else {
      ++count.accepted;
      handler->accepted(c, l.peer, l.own_port);
    }
  }
  while (l.in != nullptr && !l.released) {
    pbuf* const p = l.in;
    pbuf* const rest = p->next;
    if (rest != nullptr) {
      p->next = nullptr;
      p->tot_len = p->len;
    }
    l.in = rest;
    handler->received(c, {static_cast<const std::byte*>(p->payload), p->len});
    pbuf_free(p);
  }
  if (l.finished && !l.finish_told && !l.released) {
    l.finish_told = true;
    handler->finished(c);
  }
  if (l.wants_room && !l.released && l.pcb != nullptr && tcp_sndbuf(l.pcb) != 0) {
    l.wants_room = false;
    handler->writable(c);
  }
  if (l.pcb == nullptr && !l.released) {
    l.released = true;
    handler->ended(c, l.reason);
  }
}

bool tcp_stack::poll(std::uint64_t now_tsc) noexcept {
  state& s = *state_;
  s.now_tsc = now_tsc;
  const std::size_t count = s.ready_count;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t n = s.ready[s.ready_first];
    s.ready_first = (s.ready_first + 1) % s.ready.size();
    --s.ready_count;
    link_state& l = s.links[n];
    s.serve(l);
    // What the handler has done for the connection may have to be told in the next round.
    l.listed = false;
    if (l.pcb == nullptr)
      s.release_number(l);
    else if (!l.released && (l.in != nullptr || (l.finished && !l.finish_told)))
      s.list(l);
  }
  return s.run_timers(now_tsc) || count != 0;
}

std::uint32_t tcp_stack::room(connection c) const noexcept {
  const link_state* const l = state_->live(c);
  if (l == nullptr || l->pcb->snd_queuelen + 8 >= TCP_SND_QUEUELEN) return 0;
  return tcp_sndbuf(l->pcb);
}

std::size_t tcp_stack::write(connection c, std::span<const std::byte> octets) noexcept {
  link_state* const l = state_->live(c);
  if (l == nullptr) return octets.size(); // it is lost with its connection
  const std::size_t n = std::min<std::size_t>(octets.size(), room(c));
  bool taken = n == 0;
  if (n != 0)
    state_->with(*l, [&](tcp_pcb* p) {
      taken = tcp_write(p, octets.data(), static_cast<u16_t>(n), TCP_WRITE_FLAG_COPY) == ERR_OK;
    });
  const std::size_t written = taken ? n : 0;
  if (written < octets.size()) {
    l->wants_room = true;
    state_->sort_into_timers(*l);
  }
  return written;
}

void tcp_stack::push(connection c) noexcept {
  link_state* const l = state_->live(c);
  if (l == nullptr) return;
  state_->with(*l, [](tcp_pcb* p) { (void)tcp_output(p); });
}

void tcp_stack::consumed(connection c, std::uint32_t octets) noexcept {
  link_state* const l = state_->live(c);
  if (l == nullptr) return;
  octets = std::min(octets, l->unconsumed);
  l->unconsumed -= octets;
  state_->with(*l, [&](tcp_pcb* p) { tcp_recved(p, static_cast<u16_t>(octets)); });
}

void tcp_stack::close(connection c) noexcept {
  link_state* const l = state_->live(c);
  if (l == nullptr) return;
  l->released = true;
  state_->free_input(*l);
  state_->with(*l, [&](tcp_pcb* p) {
    // A connection with octets that were not consumed would be reset, and what was written last
    // would be lost.
    if (l->unconsumed != 0) tcp_recved(p, static_cast<u16_t>(l->unconsumed));
    (void)tcp_close(p); // the fast timer goes on with it when there is no memory
  });
}

void tcp_stack::abort(connection c) noexcept {
  link_state* const l = state_->live(c);
  if (l == nullptr) return;
  l->released = true;
  state_->free_input(*l);
  state_->with(*l, [](tcp_pcb* p) { tcp_abort(p); });
}

std::uint32_t tcp_stack::open() const noexcept {
  return state_->open;
}
const tcp_counters<statistic>& tcp_stack::counters() const noexcept {
  return state_->count;
}

std::uint64_t tcp_stack::memory() const noexcept {
  const state& s = *state_;
  const auto octets = [](const auto& v) { return v.capacity() * sizeof v[0]; };
  return sizeof s + s.memory + octets(s.links) + octets(s.free_links) + octets(s.buckets) +
         octets(s.host_count) + octets(s.slow) + octets(s.fast) + octets(s.ready) +
         octets(s.frames) + s.rates.memory();
}

const char* tcp_stack::audit() const noexcept {
  for (const link_state& l : state_->links) {
    if (l.pcb == nullptr) continue;
    if (state::wants_slow(l) && l.slow_at == 0)
      return "a connection has something for the slow timer, which does not know it";
    if (state::wants_fast(l) && l.fast_at == 0)
      return "a connection has something for the fast timer, which does not know it";
    if (l.slow_at != 0 && &state_->links[state_->slow[l.slow_at - 1]] != &l)
      return "a connection has a wrong place in the slow timer";
    if (l.fast_at != 0 && &state_->links[state_->fast[l.fast_at - 1]] != &l)
      return "a connection has a wrong place in the fast timer";
  }
  return nullptr;
}

} // namespace chainring::stream
