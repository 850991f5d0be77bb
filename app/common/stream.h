// SPDX-License-Identifier: BSD-3-Clause
/// Where the log goes, EAL's and ours: standard error or a file, each line with the wall-clock
/// time.
#pragma once
#include <string>
#include <vector>

#include "base/error.h"

namespace chainring::app {

struct log_level {
  std::string pattern; ///< of log types, as rte_log_set_level_pattern() has them
  unsigned level;
};

/// "debug", which is for all types, or "chainring.*:debug". Errors name the levels there are.
[[nodiscard]] result<log_level> parse_log_level(const std::string& text);
void apply(const std::vector<log_level>& levels);

/// Sends the log of this process to `path`, appended, or to standard error where that is empty.
/// Before rte_eal_init(), so that EAL's own lines go there too. Call it once.
[[nodiscard]] result<void> open_log(const std::string& path, bool with_times = true);
/// Opens the file at the same path anew, after it was moved away. On an error the log stays where
/// it is. Any thread.
[[nodiscard]] result<void> reopen_log();

/// Errors that were logged up to now, without times, oldest first; at most 16.
[[nodiscard]] std::vector<std::string> logged_errors();

} // namespace chainring::app
