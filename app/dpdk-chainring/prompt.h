// SPDX-License-Identifier: BSD-3-Clause
/// The prompt on standard input, which resembles testpmd's, and the wait for the end.
#pragma once
#include <functional>

#include "service.h"

namespace chainring::app {

/// Serves the prompt until a signal other than SIGHUP arrives at `signal_fd` or the user types
/// "quit". It calls hangup() at SIGHUP. The end of standard input ends the prompt, not the broker.
void wait_for_end(service& s, int signal_fd, bool interactive, const std::function<void()>& hangup);

} // namespace chainring::app
