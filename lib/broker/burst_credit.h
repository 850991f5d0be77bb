// SPDX-License-Identifier: BSD-3-Clause
/// The credit of a burst's deliveries. Internal to the broker.
#pragma once
#include <cstdint>

#include "broker/front_end.h"

namespace chainring {

/// The credit that is left of what a front end has said it has for any session.
struct credit_of_burst {
  const front_end* of = nullptr;
  std::uint32_t left = 0;
  [[nodiscard]] bool take(const front_end& server, std::uint32_t n) noexcept {
    if (of != &server) [[unlikely]] {
      of = &server;
      left = server.credit_of_any();
    }
    if (left == 0) [[unlikely]]
      return server.credit(n) != 0;
    --left;
    return true;
  }
};

} // namespace chainring
