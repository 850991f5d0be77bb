// SPDX-License-Identifier: BSD-3-Clause
#include "common/start.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>

namespace chainring::app {

void start_process() noexcept {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // open() returns the lowest free number. That is `fd`, because all numbers below it are open.
    (void)open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
  }
  (void)std::signal(SIGXFSZ, SIG_IGN);
}

void ignore_hangups() noexcept {
  (void)std::signal(SIGPIPE, SIG_IGN);
  (void)std::signal(SIGHUP, SIG_IGN);
}

} // namespace chainring::app
