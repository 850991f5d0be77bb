// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/mbuf: data rooms of mbufs that are chains of a block store. It works on mbufs of
/// any origin, so that it can be tried without EAL. Not installed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../block/block_store.h"
#include "chain_piece.h"

struct rte_mbuf;

namespace chainring::detail {

class receive_rooms {
 public:
  /// Each room has `room_blocks` blocks, and is scratch for the medium.
  receive_rooms(block_store& store, std::uint32_t room_blocks) noexcept
      : store_(store), room_blocks_(room_blocks) {}

  /// Takes blocks for `n` rooms, as few and as long chains as there are whose length is a multiple
  /// of a room's, or takes nothing. An empty answer: there are too few. Nobody could tell a packet
  /// in lost memory from what was sent, so the loss of a room fails the medium (media::require()).
  [[nodiscard]] std::vector<chain> take_blocks(std::uint32_t n);
  /// Gives a room back.
  void release(const std::byte* room) noexcept;
  /// Makes [data offset + `from`, + `size`) of the mbuf a piece of a chain that is the caller's,
  /// and gives the mbuf another room. The other blocks of the old room become free. Returns false
  /// and changes nothing if there is no room.
  [[nodiscard]] bool exchange(rte_mbuf& m, std::uint32_t from, std::uint32_t size,
                              chain_piece& out) noexcept;
  [[nodiscard]] std::uint64_t room_bytes() const noexcept {
    return std::uint64_t{room_blocks_} * store_.block_size();
  }
  [[nodiscard]] block_store& store() const noexcept { return store_; }

 private:
  [[nodiscard]] bool require(const chain& c) noexcept;
  void unrequire(const chain& c) noexcept;
  [[nodiscard]] chain room_at(const void* address) const noexcept;

  block_store& store_;
  std::uint32_t room_blocks_;
};

/// The bus address of memory of a region: its virtual address where EAL uses these, and otherwise
/// unknown, which ports without a device do not mind.
[[nodiscard]] std::uint64_t iova_of(const void* address) noexcept;

} // namespace chainring::detail
