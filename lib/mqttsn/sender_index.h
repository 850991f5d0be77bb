// SPDX-License-Identifier: BSD-3-Clause
/// Where a worker looks first for the connection of a sender: the sessions of the addresses that it
/// has found lately. Internal to lib/mqttsn.
///
/// An entry is a hint, which the caller verifies: the connection itself says whether it is open and
/// has the address. So the index holds no addresses, and a line of it serves eight clients. A
/// sender that is not here is looked up in the map of all addresses, and then noted.
///
/// A client's entry lies in one line, which the hash of its address names. When a line is full of
/// other clients, one of them gives way. The factors of the hash are secret, so a stranger cannot
/// choose addresses that all fall into one line; if it could, their datagrams would cost a look-up
/// in the map again and no more.
///
/// Thread-safety: none. Each worker has its own.
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include "base/cacheline.h"
#include "base/client_address.h"
#include "base/keyed_hash.h"
#include "base/lazy_array.h"

namespace chainring::mqttsn {

class sender_index {
 public:
  static constexpr std::uint32_t none = 0xffffffff;
  /// The most entries. An index is used by one worker only, and with more clients than this the
  /// line of an entry would not stay in a cache anyway.
  static constexpr std::uint32_t entries_max = 1u << 19;

  /// Throws std::bad_alloc without memory. `seed` 0 means a secret of this process.
  explicit sender_index(std::uint32_t sessions_max, std::uint64_t seed = 0) {
    const hash_key key = make_hash_key(seed);
    factors_ = {key.k0 | 1, key.k1 | 1, (key.k0 ^ std::rotl(key.k1, 32)) | 1,
                (key.k1 ^ std::rotl(key.k0, 16)) | 1};
    const std::uint32_t wanted = sessions_max < entries_max / 2 ? 2 * sessions_max : entries_max;
    count_ = std::bit_ceil((wanted + std::uint32_t{line_size} - 1) / std::uint32_t{line_size});
    if (!lines_.make(count_, true)) throw std::bad_alloc();
  }

  /// Returns the hash of an address, which is not 0.
  [[nodiscard]] std::uint32_t hash(const client_address& a) const noexcept {
    std::uint64_t sum =
        a.words[0] * factors_[0] + a.words[1] * factors_[1] + a.words[2] * factors_[2];
    // Without the second product, addresses that follow each other crowd into some lines, with one
    // secret in twenty.
    sum = (sum ^ sum >> 32) * factors_[3];
    return static_cast<std::uint32_t>(sum >> 32) | 1;
  }
  void prefetch(std::uint32_t hash) const noexcept { __builtin_prefetch(&line_of(hash)); }
  /// Returns a session whose address has that hash, or none. Where two have it, the other one is
  /// looked up in the map each time.
  [[nodiscard]] std::uint32_t find(std::uint32_t hash) const noexcept {
    const line& l = line_of(hash);
    for (std::size_t i = 0; i < line_size; ++i)
      if (const entry& e = l[place(hash, i)]; e.hash == hash) [[likely]]
        return e.session;
    return none;
  }
  /// Notes that the session's connection has an address with that hash.
  void note(std::uint32_t hash, std::uint32_t session) noexcept {
    line& l = line_of(hash);
    std::size_t chosen = place(hash, 0);
    for (std::size_t i = line_size; i-- > 0;)
      if (l[place(hash, i)].hash == 0) chosen = place(hash, i);
    for (std::size_t i = 0; i < line_size; ++i)
      if (l[i].hash == hash) chosen = i;
    l[chosen] = {hash, session};
  }
  /// Forgets that the session's connection has an address with that hash.
  void forget(std::uint32_t hash, std::uint32_t session) noexcept {
    for (entry& e : line_of(hash))
      if (e.hash == hash && e.session == session) e = {};
  }

 private:
  struct entry {
    std::uint32_t hash, session; // a hash of 0 means that the entry is free
  };
  static constexpr std::size_t line_size = cacheline_size / sizeof(entry);
  struct alignas(cacheline_size) line : std::array<entry, line_size> {};

  [[nodiscard]] line& line_of(std::uint32_t hash) const noexcept {
    return lines_[std::uint64_t{hash} * count_ >> 32];
  }
  // The entries of a line are looked at from one on that the hash chooses, so that the first one is
  // the right one mostly.
  [[nodiscard]] static std::size_t place(std::uint32_t hash, std::size_t i) noexcept {
    return ((hash >> 1) + i) % line_size;
  }

  std::array<std::uint64_t, 4> factors_;
  std::uint32_t count_ = 0; // of the lines
  chainring::detail::lazy_array<line> lines_;
};

} // namespace chainring::mqttsn
