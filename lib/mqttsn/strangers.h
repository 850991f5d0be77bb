// SPDX-License-Identifier: BSD-3-Clause
/// How often senders without a session are told so: each source a few times a second, and never in
/// an exchange that two gateways could keep up between them. Internal to lib/mqttsn.
///
/// A fixed table of counts by hash of the address, with a seed of this process: sources that share
/// an entry share its allowance.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "map/map_hash.h"

namespace chainring::mqttsn {

class stranger_limit {
 public:
  /// `per_second`: answers to one source.
  stranger_limit(std::uint64_t seed, std::uint64_t tsc_hz, std::uint32_t per_second = 4)
      : seed_(seed), tsc_hz_(tsc_hz), per_second_(per_second), entries_(4096) {}

  /// Whether that source may be told DISCONNECT. `by_disconnect`: it has sent one itself. One
  /// DISCONNECT is answered, and the next only after something else came from there: the source may
  /// be a gateway, too, which would answer ours.
  [[nodiscard]] bool may_tell(std::uint64_t address, bool by_disconnect,
                              std::uint64_t now_tsc) noexcept {
    const std::array<std::uint64_t, 1> key{address};
    entry& e = entries_[hash_bytes(std::as_bytes(std::span(key)), seed_) % entries_.size()];
    if (by_disconnect && e.answered_disconnect && e.address == address) return false;
    e.answered_disconnect = by_disconnect;
    e.address = address;
    if (now_tsc - e.since_tsc >= tsc_hz_) e = {now_tsc, address, 0, by_disconnect};
    if (e.told >= per_second_) return false;
    ++e.told;
    return true;
  }

 private:
  struct entry {
    std::uint64_t since_tsc = 0;
    std::uint64_t address = 0; ///< that sent last
    std::uint32_t told = 0;
    bool answered_disconnect = false;
  };
  std::uint64_t seed_, tsc_hz_;
  std::uint32_t per_second_;
  std::vector<entry> entries_;
};

} // namespace chainring::mqttsn
