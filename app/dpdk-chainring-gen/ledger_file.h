// SPDX-License-Identifier: BSD-3-Clause
/// The ledger's file, which is always replaced as a whole and durably. A thread of its own writes
/// it now and then, so that the clients need not wait for the disk.
#pragma once
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/error.h"

namespace chainring::gen {

/// Reads the whole file. Errors name it.
[[nodiscard]] result<std::string> read_file(const std::string& path);
/// Replaces the file: it writes a temporary file beside it, syncs that, renames it over the old
/// file and syncs the directory.
[[nodiscard]] result<void> replace_file(const std::string& path, const std::string& text);

class ledger_file {
 public:
  explicit ledger_file(std::string path);
  ~ledger_file();
  ledger_file(const ledger_file&) = delete;
  ledger_file& operator=(const ledger_file&) = delete;

  /// True while nothing is being written.
  [[nodiscard]] bool idle();
  /// Replaces the file in the background. Call it only while idle().
  void write_later(std::string text);
  /// Waits until the background write is done, then replaces the file. Returns any error since the
  /// last call.
  [[nodiscard]] result<void> write_now(const std::string& text);

 private:
  void run();

  std::string path_;
  std::mutex lock_; // guards all members below
  std::condition_variable changed_;
  std::optional<std::string> waiting_;
  bool writing_ = false, ending_ = false;
  result<void> outcome_;
  std::thread thread_;
};

} // namespace chainring::gen
