// SPDX-License-Identifier: BSD-3-Clause
#include "ring/overflow.h"

#include <string>

namespace chainring {

result<overflow_policy> parse_overflow_policy(std::string_view text) {
  for (auto p :
       {overflow_policy::reject, overflow_policy::drop_newest, overflow_policy::drop_oldest})
    if (text == to_string(p)) return p;
  return error{errc::invalid_argument, "overflow policy '" + std::string(text) +
                                           "': expected reject, drop-newest or drop-oldest"};
}

const char* to_string(overflow_policy p) noexcept {
  switch (p) {
  case overflow_policy::reject:
    return "reject";
  case overflow_policy::drop_newest:
    return "drop-newest";
  case overflow_policy::drop_oldest:
    return "drop-oldest";
  }
  return "unknown";
}

} // namespace chainring
