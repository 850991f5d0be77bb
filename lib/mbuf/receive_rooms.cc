// SPDX-License-Identifier: BSD-3-Clause
#include "mbuf/receive_rooms.h"

#include <algorithm>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "base/assert.h"

namespace chainring::detail {

std::uint64_t iova_of(const void* address) noexcept {
  return rte_eal_iova_mode() == RTE_IOVA_VA ? reinterpret_cast<std::uintptr_t>(address)
                                            : RTE_BAD_IOVA;
}

std::vector<chain> receive_rooms::take_blocks(std::uint32_t n) {
  // What one chain has beyond its last whole room is given back, and asked for again.
  std::vector<chain> taken;
  std::vector<chain> got(256);
  while (n != 0) {
    const std::uint64_t wanted = std::uint64_t{n} * room_blocks_;
    const unsigned chains = wanted > block_store::blocks_max
                                ? 0
                                : store_.allocate(static_cast<std::uint32_t>(wanted), got);
    std::uint32_t rooms = 0, lost = 0;
    for (unsigned i = 0; i < chains; ++i) {
      chain whole = got[i];
      const std::uint32_t rest = whole.blocks % room_blocks_;
      if (rest != 0) store_.release({whole.first + whole.blocks - rest, rest});
      whole.blocks -= rest;
      if (whole.blocks == 0) continue;
      if (!require(whole)) { // the store now knows that some of its memory is lost
        store_.release(whole);
        ++lost;
        continue;
      }
      rooms += whole.blocks / room_blocks_;
      store_.medium().declare_scratch(store_.address(whole), store_.size_of(whole));
      taken.push_back(whole);
    }
    if (rooms == 0 && lost == 0) {
      for (const chain& c : taken) {
        store_.medium().retract_scratch(store_.address(c), store_.size_of(c));
        unrequire(c);
      }
      store_.release(taken);
      return {};
    }
    n -= std::min(n, rooms);
  }
  return taken;
}

// Requires each room of a chain by itself, as it is given back.
bool receive_rooms::require(const chain& c) noexcept {
  for (std::uint32_t at = 0; at < c.blocks; at += room_blocks_) {
    const chain room{c.first + at, room_blocks_};
    if (store_.medium().require(store_.address(room), store_.size_of(room))) continue;
    unrequire({c.first, at});
    return false;
  }
  return true;
}

void receive_rooms::unrequire(const chain& c) noexcept {
  for (std::uint32_t at = 0; at < c.blocks; at += room_blocks_) {
    const chain room{c.first + at, room_blocks_};
    store_.medium().unrequire(store_.address(room), store_.size_of(room));
  }
}

chain receive_rooms::room_at(const void* address) const noexcept {
  const chain zero{0, 1};
  const auto at =
      static_cast<std::uint64_t>(static_cast<const std::byte*>(address) - store_.address(zero));
  return {static_cast<std::uint32_t>(at / store_.block_size()), room_blocks_};
}

void receive_rooms::release(const std::byte* room) noexcept {
  const chain all = room_at(room);
  store_.medium().retract_scratch(room, store_.size_of(all));
  store_.release_required(all);
}

bool receive_rooms::exchange(rte_mbuf& m, std::uint32_t from, std::uint32_t size,
                             chain_piece& out) noexcept {
  chain fresh;
  if (!store_.allocate_required(room_blocks_, fresh)) return false;
  const chain old = room_at(m.buf_addr);
  const std::uint32_t block_size = store_.block_size();
  const std::uint32_t begin = m.data_off + from;
  const std::uint32_t front = begin / block_size;
  out = {old.first + front, static_cast<std::uint16_t>(begin % block_size),
         static_cast<std::uint16_t>(size)};
  const chain kept = chain_of(store_, out);
  const std::uint32_t behind = old.blocks - front - kept.blocks;
  media& medium = store_.medium();
  medium.retract_scratch(m.buf_addr, store_.size_of(old));
  medium.unrequire(m.buf_addr, store_.size_of(old));
  medium.declare_scratch(store_.address(fresh), store_.size_of(fresh));
  if (front != 0) store_.release({old.first, front});
  if (behind != 0) store_.release({kept.first + kept.blocks, behind});
  m.buf_addr = store_.address(fresh);
  rte_mbuf_iova_set(&m, iova_of(m.buf_addr));
  return true;
}

} // namespace chainring::detail
