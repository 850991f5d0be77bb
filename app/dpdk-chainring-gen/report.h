// SPDX-License-Identifier: BSD-3-Clause
/// The final report and its meaning.
#pragma once
#include "generator.h"

namespace chainring::gen {

enum exit_status { exit_held = 0, exit_broken = 1, exit_unusable = 2, exit_unknown = 3 };

/// Prints the report in words and, if asked for, as one line of JSON at the end. Returns the exit
/// status.
[[nodiscard]] int report(const options& o, const ledger& book, const generator& g,
                         const outcome& how);

} // namespace chainring::gen
