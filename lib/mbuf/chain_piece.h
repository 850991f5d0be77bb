// SPDX-License-Identifier: BSD-3-Clause
/// Octets of a chain: what a packet becomes that is kept where it was received, and what an mbuf is
/// attached to. It has eight bytes, so that a slot of a durable queue or one word of a record can
/// name it.
///
///     medium.store_release(&record->piece, piece.pack());
///
/// **Recovery:** whoever names a piece on media validates it with valid(), and marks its chain as
/// live: `store.mark_live(chain_of(store, piece))`.
///
/// Ordering labels:
///   [piece-before-record]  flush() writes back the octets of a piece; the caller drains before it
///     stores what names the piece.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "../block/block_store.h"
#include "../media/media.h"

namespace chainring {

/// `size` octets that begin `offset` bytes behind the beginning of block `first`. It is valid if
/// and only if it has an octet, `offset` lies in the first block, and its last block lies in the
/// store.
struct chain_piece {
  std::uint32_t first = 0;  ///< number of a block
  std::uint16_t offset = 0; ///< bytes, less than a block
  std::uint16_t size = 0;   ///< octets
  friend bool operator==(const chain_piece&, const chain_piece&) = default;

  /// The piece as a word of a record or a queue. The word of a valid piece is not 0.
  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{first} | std::uint64_t{offset} << 32 | std::uint64_t{size} << 48;
  }
  [[nodiscard]] static constexpr chain_piece unpack(std::uint64_t word) noexcept {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint16_t>(word >> 32),
            static_cast<std::uint16_t>(word >> 48)};
  }
};
static_assert(sizeof(chain_piece) == 8);
static_assert(offsetof(chain_piece, first) == 0);
static_assert(offsetof(chain_piece, offset) == 4);
static_assert(offsetof(chain_piece, size) == 6);

/// The blocks in which the piece lies. They are what is marked live, and what is released.
[[nodiscard]] inline chain chain_of(const block_store& store, const chain_piece& p) noexcept {
  return {p.first, static_cast<std::uint32_t>(store.blocks_for(std::uint64_t{p.offset} + p.size))};
}
/// For a piece that was read from media. Says nothing about whose blocks they are.
[[nodiscard]] inline bool valid(const block_store& store, const chain_piece& p) noexcept {
  return p.size != 0 && p.offset < store.block_size() && store.valid(chain_of(store, p));
}
/// The octets of a valid piece.
[[nodiscard]] inline std::span<const std::byte> octets_of(const block_store& store,
                                                          const chain_piece& p) noexcept {
  return {store.address(chain_of(store, p)) + p.offset, p.size};
}
/// Flushes the octets. They are durable behind this thread's next drain, and only then may a record
/// name the piece.
inline void flush(const block_store& store, const chain_piece& p,
                  site s = site::current()) noexcept {
  const std::span<const std::byte> all = octets_of(store, p);
  // [piece-before-record] Without it a crash could leave a record that names octets which were
  // never durable.
  store.medium().flush(all.data(), all.size(), s);
}

} // namespace chainring
