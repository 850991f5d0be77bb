// SPDX-License-Identifier: BSD-3-Clause
/// The broker's durable state, for tests and benchmarks that look behind broker.h. Not installed.
#pragma once
#include "broker/shared.h"

namespace chainring {

struct broker_access {
  [[nodiscard]] static store& state(broker& b) noexcept { return *b.shared_->state; }
};

} // namespace chainring
