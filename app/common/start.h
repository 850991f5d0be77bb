// SPDX-License-Identifier: BSD-3-Clause
/// What every program of this project does before anything else.
#pragma once

namespace chainring::app {

/// Prepares the process; main() calls it first. It opens /dev/null for each of the descriptors 0 to
/// 2 that is closed. Otherwise the next file, such as EAL's shared memory or a region, would get
/// that number, and output on standard error would overwrite it. From then on a write beyond a file
/// size limit fails instead of ending the process (SIGXFSZ).
void start_process() noexcept;

/// For a server: the process goes on when the reader of its output has gone away (SIGPIPE) or when
/// its terminal is closed (SIGHUP).
void ignore_hangups() noexcept;

} // namespace chainring::app
