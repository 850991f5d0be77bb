// SPDX-License-Identifier: BSD-3-Clause
/// Gives tests and benchmarks the broker's durable state, which broker.h hides. Not installed.
#pragma once
#include "broker/common_state.h"

namespace chainring {

struct broker_access {
  [[nodiscard]] static store& state(broker& b) noexcept { return *b.common_->state; }
  [[nodiscard]] static filter_index& filters(broker& b) noexcept { return *b.common_->filters; }
  [[nodiscard]] static retained_table& retained(broker& b) noexcept { return *b.common_->retained; }
};

} // namespace chainring
