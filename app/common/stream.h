// SPDX-License-Identifier: BSD-3-Clause
/// Where the log lines of EAL and of this project go: to standard error or to a file, each with the
/// wall-clock time.
#pragma once
#include <string>
#include <vector>

#include "base/error.h"

namespace chainring::app {

struct log_level {
  std::string pattern; ///< a pattern of log types for rte_log_set_level_pattern()
  unsigned level;
};

/// Parses "debug", which stands for all types, or "chainring.*:debug". Errors list the levels.
[[nodiscard]] result<log_level> parse_log_level(const std::string& text);
/// Sets the levels in their order.
void apply(const std::vector<log_level>& levels);

/// Sends the log of this process to the end of the file `path`, or to standard error when `path` is
/// empty. Call it once, before rte_eal_init(), so that the lines of EAL go there too.
[[nodiscard]] result<void> open_log(const std::string& path, bool with_times = true);
/// Opens the file at the same path again, after it was moved away. On an error the log stays where
/// it is. Any thread may call it.
[[nodiscard]] result<void> reopen_log();

/// Returns the errors that were logged so far, without times, oldest first and at most 16.
[[nodiscard]] std::vector<std::string> logged_errors();

} // namespace chainring::app
