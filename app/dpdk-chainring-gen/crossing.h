// SPDX-License-Identifier: BSD-3-Clause
/// The share of subscribers that another worker of the broker serves than their publishers.
///
/// The broker spreads its clients over its workers by a hash of their ids (broker::home_of), so a
/// client id that is chosen well has the home that a measurement needs. Two letters behind the
/// number of a client choose it. The seed of the hash is the broker's `--home-seed`; without that
/// the seed is a secret, and homes are as chance has it.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ledger.h"

namespace chainring::gen {

struct crossing_options {
  double share = -1; ///< of the subscribers, 0 to 1; less than 0 means that ids are not chosen
  unsigned workers = 0;
  std::uint64_t home_seed = 0;
};

class crossing {
 public:
  /// Chooses the letters of all clients. All publishers of a topic get the home of its first one.
  crossing(const shape& shape, const crossing_options& options);
  /// What stands behind the number in the id of a client: two letters, or nothing.
  [[nodiscard]] std::string_view letters(std::uint32_t client) const noexcept {
    if (letters_.empty() || letters_[client][0] == 0) return {};
    return {letters_[client].data(), letters_[client].size()};
  }
  /// How many subscribers have another home than their publishers.
  [[nodiscard]] std::uint32_t crossing_subscribers() const noexcept { return crossing_; }

 private:
  std::vector<std::array<char, 2>> letters_; ///< publishers first; empty if ids are not chosen
  std::uint32_t crossing_ = 0;
};

} // namespace chainring::gen
