// SPDX-License-Identifier: BSD-3-Clause
/// The prompt on standard input, in testpmd's manner, and the wait for the end.
#pragma once
#include "service.h"

namespace chainring::app {

/// Returns when a signal arrives at `signal_fd`, or at "quit". The end of standard input ends the
/// prompt, not the broker.
void wait_for_end(service& s, int signal_fd, bool interactive);

} // namespace chainring::app
