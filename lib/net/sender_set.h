// SPDX-License-Identifier: BSD-3-Clause
/// Which senders of a burst were seen already. Thread-safety: none.
#pragma once
#include <cstdint>

#include "../base/client_address.h"

namespace chainring::net {

/// Some senders of a burst, by one bit of 64 each. Two senders may have the same bit.
class sender_set {
 public:
  [[nodiscard]] bool empty() const noexcept { return bits_ == 0; }
  /// False: neither this sender nor one with its bit was added.
  [[nodiscard]] bool may_have(const client_address& a) const noexcept {
    return (bits_ & bit_of(a)) != 0;
  }
  void add(const client_address& a) noexcept { bits_ |= bit_of(a); }

 private:
  [[nodiscard]] static std::uint64_t bit_of(const client_address& a) noexcept {
    constexpr std::uint64_t golden = 0x9E37'79B9'7F4A'7C15;
    return std::uint64_t{1} << ((a.words[0] ^ a.words[1] ^ a.words[2]) * golden >> 58);
  }
  std::uint64_t bits_ = 0;
};

} // namespace chainring::net
