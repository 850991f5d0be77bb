// SPDX-License-Identifier: BSD-3-Clause
/// Gives tests and benchmarks the broker's durable state, which broker.h hides. Not installed.
#pragma once
#include "broker/shared.h"

namespace chainring {

struct broker_access {
  [[nodiscard]] static store& state(broker& b) noexcept { return *b.shared_->state; }
};

} // namespace chainring
