// SPDX-License-Identifier: BSD-3-Clause
/// What every program here does before anything else.
#pragma once

namespace chainring::app {

/// First in main(). Opens those of descriptors 0 to 2 that are missing on /dev/null: else the next
/// file that is opened, EAL's shared memory or a region, would get the number, and what is written
/// to standard error would overwrite it. A write past a file size limit fails from then on, and
/// does not end the process (SIGXFSZ).
void start_process() noexcept;

/// For a program that serves: a reader that went away (SIGPIPE) or a terminal that was closed
/// (SIGHUP) is no reason to end.
void ignore_hangups() noexcept;

} // namespace chainring::app
