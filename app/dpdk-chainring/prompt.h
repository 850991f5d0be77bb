// SPDX-License-Identifier: BSD-3-Clause
/// The prompt on standard input, in testpmd's manner, and the wait for the end.
#pragma once
#include <functional>

#include "service.h"

namespace chainring::app {

/// Returns when a signal other than SIGHUP arrives at `signal_fd`, or at "quit"; calls hangup() at
/// SIGHUP. The end of standard input ends the prompt, not the broker.
void wait_for_end(service& s, int signal_fd, bool interactive, const std::function<void()>& hangup);

} // namespace chainring::app
