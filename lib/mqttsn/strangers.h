// SPDX-License-Identifier: BSD-3-Clause
/// Limits how often senders without a session are answered: each source a few times a second, and
/// never in an exchange that two gateways could keep up with each other. Internal to lib/mqttsn.
///
/// The limits are a fixed table of counts, indexed by a hash of the address with a seed of this
/// process. Sources that share an entry share its allowance.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/client_address.h"
#include "map/map_hash.h"

namespace chainring::mqttsn {

class stranger_limit {
 public:
  /// `per_second` is the number of answers to one source in a second.
  stranger_limit(std::uint64_t seed, std::uint64_t tsc_hz, std::uint32_t per_second = 4)
      : seed_(seed), tsc_hz_(tsc_hz), per_second_(per_second), entries_(4096) {}

  /// Returns true when the source may be sent DISCONNECT. `by_disconnect` says that the source has
  /// sent DISCONNECT itself. One such DISCONNECT is answered, and the next only after another
  /// message came from there, because the source may be a gateway that answers in the same way.
  [[nodiscard]] bool may_answer(const client_address& address, bool by_disconnect,
                                std::uint64_t now_tsc) noexcept {
    entry& e =
        entries_[hash_bytes(std::as_bytes(std::span(address.words)), seed_) % entries_.size()];
    if (by_disconnect && e.answered_disconnect && e.address == address) return false;
    e.answered_disconnect = by_disconnect;
    e.address = address;
    if (now_tsc - e.since_tsc >= tsc_hz_) e = {now_tsc, address, 0, by_disconnect};
    if (e.answered >= per_second_) return false;
    ++e.answered;
    return true;
  }

 private:
  struct entry {
    std::uint64_t since_tsc = 0;
    client_address address; ///< the address that sent last
    std::uint32_t answered = 0;
    bool answered_disconnect = false;
  };
  std::uint64_t seed_, tsc_hz_;
  std::uint32_t per_second_;
  std::vector<entry> entries_;
};

} // namespace chainring::mqttsn
