// SPDX-License-Identifier: BSD-3-Clause
// Its ordering label [place-used] is described in forwarder.h.
#include "mqttsn/forwarder.h"

#include <algorithm>
#include <mutex>

#include "net/address.h"

namespace chainring::mqttsn {

namespace {
constexpr std::uint16_t generation_max = 4095;
/// Places that are asked to give their node up before a new node is refused.
constexpr std::uint32_t asked_max = 64;
} // namespace

node_table::node_table(const options& o, is_connected connected)
    : limits_(o), seeds_{o.seed != 0 ? o.seed : random_seed(), random_seed(), random_seed()},
      connected_(std::move(connected)), places_(new seqlock<node>[o.nodes_max]),
      used_(new std::atomic<bool>[o.nodes_max]()), counts_(forwarder_counts) {}

result<std::unique_ptr<node_table>> node_table::create(const options& o, is_connected connected) {
  if (o.nodes_max == 0 || o.nodes_max > 1u << index_bits)
    return error{errc::invalid_argument, "nodes_max " + std::to_string(o.nodes_max) +
                                             ": expected 1 to " + std::to_string(1 << index_bits)};
  if (o.per_forwarder_max == 0 || o.per_forwarder_max > 0xffff)
    return error{errc::invalid_argument, "per_forwarder_max " +
                                             std::to_string(o.per_forwarder_max) +
                                             ": expected 1 to 65535"};
  std::unique_ptr<node_table> made(new node_table(o, std::move(connected)));
  auto known = seq_map<name, std::uint32_t>::create(o.nodes_max, map_hash<name>{random_seed()});
  if (!known) return known.error();
  made->known_ = std::move(known).value();
  return made;
}

node_table::name node_table::name_of(const client_address& forwarder, octets id) const noexcept {
  return {forwarder.words, {hash_bytes(id, seeds_[0]), hash_bytes(id, seeds_[1])}};
}

client_address node_table::address_of(const node& n, std::uint32_t place) noexcept {
  const std::uint64_t tag = std::uint64_t{n.generation} << index_bits | place;
  return {n.forwarder.words[0], n.forwarder.words[1], n.forwarder.words[2] | tag << node_shift};
}

std::uint16_t& node_table::count_of(const client_address& forwarder) noexcept {
  // All forwarders of one host count together, whatever their ports.
  const std::uint64_t host = net::host_of(net::endpoint::from_key(forwarder).address);
  return counts_[hash_bytes(std::as_bytes(std::span(&host, 1)), seeds_[2]) % counts_.size()];
}

std::optional<client_address> node_table::find(const client_address& forwarder,
                                               octets id) const noexcept {
  const auto place = known_->get(name_of(forwarder, id));
  if (!place) return std::nullopt;
  const node n = places_[*place].read();
  if (n.forwarder != forwarder || !std::ranges::equal(octets(n.id.data(), n.size), id))
    return std::nullopt;                                // the place has another node by now
  used_[*place].store(true, std::memory_order_relaxed); // [place-used]
  return address_of(n, *place);
}

// Returns a place for a node of that forwarder, or nodes_max.
std::uint32_t node_table::free_place(const client_address& forwarder) noexcept {
  const std::uint16_t& own = count_of(forwarder);
  const bool own_only = own >= limits_.per_forwarder_max;
  if (taken_ < limits_.nodes_max && !own_only) return taken_++;
  for (std::uint32_t i = 0; i < std::min(asked_max, taken_); ++i) {
    const std::uint32_t place = hand_;
    hand_ = hand_ + 1 < taken_ ? hand_ + 1 : 0;
    const node n = places_[place].read();
    if (n.size == 0) return place; // it was given up, and its successor was refused
    if (own_only && &count_of(n.forwarder) != &own) continue;
    if (used_[place].exchange(false, std::memory_order_relaxed)) continue; // [place-used]
    if (connected_(address_of(n, place))) continue;
    known_->erase(name_of(n.forwarder, {n.id.data(), n.size}));
    --count_of(n.forwarder);
    auto given_up = places_[place].lock_write();
    given_up->size = 0;
    return place;
  }
  return limits_.nodes_max;
}

std::optional<client_address> node_table::find_or_add(const client_address& forwarder,
                                                      octets id) noexcept {
  if (auto known = find(forwarder, id)) return known;
  if (id.empty() || id.size() > node_id_max) return std::nullopt;
  const std::lock_guard guard(lock_);
  if (auto known = find(forwarder, id)) return known; // another thread was quicker
  const std::uint32_t place = free_place(forwarder);
  if (place == limits_.nodes_max) return std::nullopt;
  node n{};
  {
    auto now = places_[place].lock_write();
    n = *now;
    n.forwarder = forwarder;
    n.id = {};
    std::ranges::copy(id, n.id.begin());
    n.size = static_cast<std::uint16_t>(id.size());
    n.generation = n.generation == generation_max ? std::uint16_t{1}
                                                  : static_cast<std::uint16_t>(n.generation + 1);
    *now = n;
  }
  // Two ids with the same pair of hashes cannot be told apart; the second is refused.
  if (known_->insert(name_of(forwarder, id), place) != map_status::done) {
    places_[place].lock_write()->size = 0;
    return std::nullopt;
  }
  ++count_of(forwarder);
  used_[place].store(true, std::memory_order_relaxed); // [place-used]
  return address_of(n, place);
}

std::size_t node_table::id_of(const client_address& node_address,
                              std::array<std::byte, node_id_max>& out) const noexcept {
  const auto place =
      static_cast<std::uint32_t>(node_address.words[2] >> node_shift) & ((1u << index_bits) - 1);
  if (place >= limits_.nodes_max) return 0;
  const node n = places_[place].read();
  if (n.size == 0 || address_of(n, place) != node_address) return 0;
  out = n.id;
  return n.size;
}

std::span<std::byte> node_transport::begin_to_node(const client_address& to, std::size_t size,
                                                   std::uint8_t radius) noexcept {
  std::array<std::byte, node_id_max> id;
  const std::size_t id_size = nodes_->id_of(to, id);
  if (id_size == 0) return {};
  const std::size_t header = header_size + id_size;
  const std::span<std::byte> room = out_->begin(net_address(to), header + size);
  if (room.empty()) return {};
  (void)encode_encapsulated(room.first(header),
                            {.radius = radius, .node_id = octets(id.data(), id_size), .inner = {}});
  header_ = header;
  return room.subspan(header);
}

} // namespace chainring::mqttsn
