// SPDX-License-Identifier: BSD-3-Clause
/// Wireless nodes behind forwarders (MQTT-SN 1.2 section 5.5). Internal to lib/mqttsn.
///
/// A forwarder puts the id of a node in front of each message of the node, and sends it from its
/// own address. Each pair of a forwarder and a node id gets a client address of its own here, so
/// that the rest of the gateway treats a node like any other client. `node_transport` puts the id
/// in front of what is sent to such an address.
///
/// **Limits.** A table holds `nodes_max` nodes, and `per_forwarder_max` of one forwarder, so that
/// no forwarder takes the room of the others. A node without a connection gives its place up when
/// another one needs it. The limit of a forwarder is kept in a table of counts, indexed by a hash
/// of its host with a secret seed; forwarders that share a count share its limit.
///
/// **A place that changes its node** gets the next generation, which is part of the address. A
/// datagram to an address of an earlier generation is not sent.
///
/// Ordering labels:
///   [place-used]  Whether a place was used lately only chooses which node gives its place up; the
///     access orders nothing.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/spin_lock.h"
#include "map/map_hash.h"
#include "map/seq_map.h"
#include "mqttsn/codec.h"
#include "net/transport.h"
#include "seqlock/seqlock.h"

namespace chainring::mqttsn {

using net::client_address;

/// The octets of a node id that fit into the table. The specification sets no limit below the 252
/// octets of the header; addresses of the networks in use have 2 to 16.
inline constexpr std::size_t node_id_max = 64;

/// Thread-safety: any thread may call every function.
class node_table {
 public:
  struct options {
    std::uint32_t nodes_max = 4096; ///< 1 to 2^20
    std::uint32_t per_forwarder_max = 2048;
    std::uint64_t seed = 0; ///< of the hashes; 0 means a secret of this process
  };
  /// Says whether a connection uses the address, so that its node keeps its place.
  using is_connected = std::function<bool(const client_address&)>;

  /// errc::invalid_argument names the option and its range.
  [[nodiscard]] static result<std::unique_ptr<node_table>> create(const options& o,
                                                                  is_connected connected);

  /// True for an address that this class has made.
  [[nodiscard]] static bool is_node(const client_address& a) noexcept {
    return a.words[2] >> node_shift != 0;
  }
  /// The address of the forwarder behind which the node is. Of any other address, that address.
  [[nodiscard]] static client_address forwarder_of(const client_address& a) noexcept {
    return {a.words[0], a.words[1], a.words[2] & ((std::uint64_t{1} << node_shift) - 1)};
  }

  /// Returns the address of a node that has a place, or nothing.
  [[nodiscard]] std::optional<client_address> find(const client_address& forwarder,
                                                   octets id) const noexcept;
  /// Returns the address of a node, which gets a place if it has none. Returns nothing when the id
  /// is empty or too long, or when a limit is reached.
  [[nodiscard]] std::optional<client_address> find_or_add(const client_address& forwarder,
                                                          octets id) noexcept;
  /// True when the address is not a node's, or its node has its place still.
  [[nodiscard]] bool is_current(const client_address& a) const noexcept {
    std::array<std::byte, node_id_max> id;
    return !is_node(a) || id_of(a, id) != 0;
  }
  /// Copies the id of the node to `out`, and returns its size. Returns 0 when the place has another
  /// node by now.
  [[nodiscard]] std::size_t id_of(const client_address& node,
                                  std::array<std::byte, node_id_max>& out) const noexcept;
  /// How many nodes have a place.
  [[nodiscard]] std::uint32_t count() const noexcept {
    return static_cast<std::uint32_t>(known_->len());
  }

 private:
  static constexpr unsigned node_shift = 32; ///< the address words of a transport are below this
  static constexpr unsigned index_bits = 20;
  static constexpr std::size_t forwarder_counts = 1024;

  /// What a place holds. `size` is 0 in a place that was never used.
  struct node {
    client_address forwarder;
    std::array<std::byte, node_id_max> id;
    std::uint16_t size;
    std::uint16_t generation; ///< 1 to 4,095
  };
  /// The name of a node in the map: its forwarder and two hashes of its id.
  struct name {
    std::array<std::uint64_t, 3> forwarder;
    std::array<std::uint64_t, 2> id;
    bool operator==(const name&) const = default;
  };
  explicit node_table(const options& o, is_connected connected);
  [[nodiscard]] name name_of(const client_address& forwarder, octets id) const noexcept;
  [[nodiscard]] static client_address address_of(const node& n, std::uint32_t place) noexcept;
  [[nodiscard]] std::uint16_t& count_of(const client_address& forwarder) noexcept;
  [[nodiscard]] std::uint32_t free_place(const client_address& forwarder) noexcept;

  const options limits_;
  const std::array<std::uint64_t, 3> seeds_;
  const is_connected connected_;
  std::unique_ptr<seq_map<name, std::uint32_t>> known_; ///< maps a node to its place
  std::unique_ptr<seqlock<node>[]> places_;
  std::unique_ptr<std::atomic<bool>[]> used_; ///< set by each look-up, cleared by the hand
  spin_lock lock_;                            ///< held while a node gets a place
  std::uint32_t taken_ = 0;                   ///< places that were ever used
  std::uint32_t hand_ = 0;                    ///< the next place to be asked to give its node up
  std::vector<std::uint16_t> counts_;         ///< nodes of the forwarders with that hash
};

/// The transport of a worker, which also sends to nodes. It is a class of its own and not another
/// net::transport, so that a datagram to any other client takes one comparison more and no more.
class node_transport {
 public:
  node_transport(net::transport& out, const node_table& nodes) noexcept
      : out_(&out), nodes_(&nodes) {}

  [[nodiscard]] std::uint32_t credit(const client_address& to) const noexcept {
    return out_->credit(net_address(to));
  }
  [[nodiscard]] std::uint32_t credit_of_any() const noexcept { return out_->credit_of_any(); }
  /// The octets of the longest message to `to`, without the header for the forwarder.
  [[nodiscard]] std::size_t size_max(const client_address& to) const noexcept {
    const std::size_t size = out_->size_max(net_address(to));
    if (!node_table::is_node(to)) [[likely]]
      return size;
    return size - std::min(size, header_size + node_id_max);
  }
  [[nodiscard]] std::uint32_t position(const client_address& to) const noexcept {
    return out_->position(net_address(to));
  }
  [[nodiscard]] bool passed(const client_address& to, std::uint32_t position) const noexcept {
    return out_->passed(net_address(to), position);
  }
  std::span<std::byte> begin(const client_address& to, std::size_t size) noexcept {
    if (node_table::is_node(to)) [[unlikely]]
      return begin_to_node(to, size, 0);
    return out_->begin(to, size);
  }
  /// As begin(), for a message that the forwarder shall broadcast over `radius` hops.
  std::span<std::byte> begin_to_node(const client_address& to, std::size_t size,
                                     std::uint8_t radius) noexcept;
  void commit(std::size_t size) noexcept {
    out_->commit(size + header_);
    header_ = 0;
  }
  void release(mark_t mark) noexcept { out_->release(mark); }
  [[nodiscard]] net::transport& ports() noexcept { return *out_; }

 private:
  static constexpr std::size_t header_size = 3; ///< length, type and control
  [[nodiscard]] static client_address net_address(const client_address& to) noexcept {
    return node_table::is_node(to) ? node_table::forwarder_of(to) : to;
  }
  net::transport* out_;
  const node_table* nodes_;
  std::size_t header_ = 0; ///< the octets in front of the open message
};

} // namespace chainring::mqttsn
