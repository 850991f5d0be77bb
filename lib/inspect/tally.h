// SPDX-License-Identifier: BSD-3-Clause
/// Counts readings and keeps the sentences about damage. Internal to lib/inspect.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "inspect/record_reader.h"

namespace chainring::detail {

struct tally {
  explicit tally(std::vector<std::string>& sentences) noexcept : damage(sentences) {}
  /// Returns true for a valid record. say() makes the sentence about a damaged one.
  template <class Say> bool add(reading r, Say&& say) {
    switch (r) {
    case reading::done:
      ++counts.whole;
      return true;
    case reading::changing:
      ++counts.changing;
      return false;
    case reading::damaged:
      ++counts.damaged;
      if (damage.size() < inspection::damage_max) damage.push_back(std::forward<Say>(say)());
      return false;
    }
    return false;
  }

  look_counts counts;
  std::vector<std::string>& damage;
};

} // namespace chainring::detail
