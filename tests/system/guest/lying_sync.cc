// SPDX-License-Identifier: BSD-3-Clause
// The seeded defect of the power cut tests. Preloaded into a broker, it makes every sync succeed
// without doing anything while /tmp/lie exists. The messages that the broker then acknowledges are
// in the page cache only, and the generator must find them lost after a power cut.
#include <cstddef>
#include <dlfcn.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

bool lies() {
  return access("/tmp/lie", F_OK) == 0;
}

template <class F> F* next(F*, const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

} // namespace

EXPORTED int fdatasync(int fd) {
  static const auto real = next(&::fdatasync, "fdatasync");
  return lies() ? 0 : real(fd);
}

EXPORTED int fsync(int fd) {
  static const auto real = next(&::fsync, "fsync");
  return lies() ? 0 : real(fd);
}

EXPORTED ssize_t pwritev64v2(int fd, const iovec* parts, int count, off64_t offset, int flags) {
  static const auto real = next(&::pwritev64v2, "pwritev64v2");
  return real(fd, parts, count, offset, lies() ? flags & ~RWF_DSYNC : flags);
}
