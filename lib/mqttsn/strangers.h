// SPDX-License-Identifier: BSD-3-Clause
/// Limits how often senders without a session are answered: each source a few times a second, and
/// never in an exchange that two gateways could keep up with each other. Internal to lib/mqttsn.
///
/// The limits are a fixed table of counts, indexed by a hash of the address with a seed of this
/// process. Sources that share an entry share its allowance.
#pragma once
#include <algorithm>
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
  /// sent DISCONNECT itself: it is a client that repeats it because the answer was lost, or a
  /// gateway that answers in the same way. So a DISCONNECT is answered at the earliest a tenth of a
  /// second after the last one, eight times in a row and once more for each two seconds since. An
  /// exchange between two gateways ends by that, and a client on a bad network gets its answer.
  [[nodiscard]] bool may_answer(const client_address& address, bool by_disconnect,
                                std::uint64_t now_tsc) noexcept {
    entry& e =
        entries_[hash_bytes(std::as_bytes(std::span(address.words)), seed_) % entries_.size()];
    const std::uint64_t pause = now_tsc - e.disconnect_tsc;
    const std::uint64_t in_row =
        e.in_row - std::min<std::uint64_t>(e.in_row, pause / (2 * tsc_hz_));
    if (by_disconnect && (in_row == row_max || (in_row != 0 && pause < tsc_hz_ / 10))) return false;
    if (now_tsc - e.since_tsc >= tsc_hz_) {
      e.since_tsc = now_tsc;
      e.answered = 0;
    }
    if (e.answered >= per_second_) return false;
    ++e.answered;
    if (by_disconnect) {
      e.in_row = static_cast<std::uint32_t>(in_row + 1);
      e.disconnect_tsc = now_tsc;
    }
    return true;
  }

 private:
  static constexpr std::uint32_t row_max = 8;
  struct entry {
    std::uint64_t since_tsc = 0;      ///< the second of `answered` began here
    std::uint64_t disconnect_tsc = 0; ///< a DISCONNECT was answered last
    std::uint32_t answered = 0;
    std::uint32_t in_row = 0; ///< DISCONNECTs answered in a row, as of disconnect_tsc
  };
  std::uint64_t seed_, tsc_hz_;
  std::uint32_t per_second_;
  std::vector<entry> entries_;
};

} // namespace chainring::mqttsn
