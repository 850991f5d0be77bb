// SPDX-License-Identifier: BSD-3-Clause
#include "ledger_file.h"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace chainring::gen {

namespace {

/// Owns a file descriptor and closes it.
struct descriptor {
  int fd;
  ~descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

} // namespace

result<std::string> read_file(const std::string& path) {
  const descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  const auto failed = [&] {
    return system_error(errno == ENOENT ? errc::not_found : errc::io, "ledger " + path, errno);
  };
  if (file.fd < 0) return failed();
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(file.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed();
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

result<void> replace_file(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  const auto failed = [&](const char* what) {
    return system_error(errc::io, "ledger " + path + ": cannot " + what, errno);
  };
  {
    const descriptor file{
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    if (file.fd < 0) return failed("create a file beside it");
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t n = ::write(file.fd, text.data() + done, text.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failed("write it");
      done += static_cast<std::size_t>(n);
    }
    if (::fsync(file.fd) != 0) return failed("sync it");
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed("replace it");
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const descriptor parent{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (parent.fd < 0 || ::fsync(parent.fd) != 0) return failed("sync its directory");
  return {};
}

ledger_file::ledger_file(std::string path) : path_(std::move(path)), thread_([this] { run(); }) {}

ledger_file::~ledger_file() {
  {
    const std::lock_guard guard(lock_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool ledger_file::idle() {
  const std::lock_guard guard(lock_);
  return !waiting_ && !writing_;
}

void ledger_file::write_later(std::string text) {
  {
    const std::lock_guard guard(lock_);
    waiting_ = std::move(text);
  }
  changed_.notify_all();
}

result<void> ledger_file::write_now(const std::string& text) {
  std::unique_lock guard(lock_);
  changed_.wait(guard, [this] { return !waiting_ && !writing_; });
  if (!outcome_) return std::exchange(outcome_, {});
  guard.unlock();
  return replace_file(path_, text);
}

void ledger_file::run() {
  std::unique_lock guard(lock_);
  for (;;) {
    changed_.wait(guard, [this] { return waiting_ || ending_; });
    if (!waiting_) return;
    const std::string text = std::move(*waiting_);
    waiting_.reset();
    writing_ = true;
    guard.unlock();
    result<void> done = replace_file(path_, text);
    guard.lock();
    writing_ = false;
    if (!done && outcome_) outcome_ = done;
    changed_.notify_all();
  }
}

} // namespace chainring::gen
