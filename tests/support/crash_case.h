// SPDX-License-Identifier: BSD-3-Clause
/// A crash as something to print and to replay: where it struck, and what persisted.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/crash_model.h"
#include "support/explorer.h"

namespace chainring::test {

/// What persisted of the pending lines, by line offset; a line not named lost all that was pending.
using kept_lines = std::vector<std::pair<std::uint64_t, line_choice>>;

/// One crash: after `position` events of its life.
struct crash_step {
  crash_kind kind = crash_kind::power_loss;
  std::uint64_t position = 0;
  kept_lines kept;
  /// Marks were held: the crash struck after so many events, and only what was drained before
  /// `position` had become durable. 0: it struck at `position`.
  std::uint64_t struck = 0;
};

/// Everything a run needs to strike the same crashes again.
struct crash_case {
  std::uint64_t seed = 1;
  std::string schedule_text = "0";
  std::vector<crash_step> steps;
  std::string scenario_name;

  [[nodiscard]] std::string text() const;
  static std::optional<crash_case> from_text(const std::string& text);
};

/// `lib/ring/ring.cc:120 [R4]`: a seam call's place, with the label its comment carries in the
/// source.
[[nodiscard]] std::string place(const site& s);
/// The label of the comment on a line of source, or in the comment lines above it; empty without
/// one.
[[nodiscard]] std::string label_of(const std::string& path, unsigned line);
/// Path of a site below the source root: `lib/ring/ring.cc`.
[[nodiscard]] std::string source_path(const char* file_name);
/// Text of a line of a source file, by source_path() and number; empty where it cannot be read.
[[nodiscard]] const std::string& source_line(const std::string& path, unsigned line);

/// Lists kept and dropped lines with their stores. `matter`: the lines that the failure needs
/// dropped.
[[nodiscard]] std::string describe(const crash_model& model, const kept_lines& kept,
                                   const std::vector<std::uint64_t>& must_drop);

} // namespace chainring::test
