// SPDX-License-Identifier: BSD-3-Clause
/// The ledger's file: replaced as a whole, durably, now and then by a thread of its own so that the
/// clients need not wait for the disk.
#pragma once
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/error.h"

namespace chainring::gen {

[[nodiscard]] result<std::string> read_file(const std::string& path);
/// Writes a temporary beside it, syncs it, renames it, syncs the directory.
[[nodiscard]] result<void> replace_file(const std::string& path, const std::string& text);

class ledger_file {
 public:
  explicit ledger_file(std::string path);
  ~ledger_file();
  ledger_file(const ledger_file&) = delete;
  ledger_file& operator=(const ledger_file&) = delete;

  /// True: nothing is being written.
  [[nodiscard]] bool idle();
  /// Replaces the file behind the caller's back; while idle() only.
  void write_later(std::string text);
  /// Waits for what is being written, then replaces the file. Any error since the last call.
  [[nodiscard]] result<void> write_now(const std::string& text);

 private:
  void run();

  std::string path_;
  std::mutex lock_; // guards all below
  std::condition_variable changed_;
  std::optional<std::string> waiting_;
  bool writing_ = false, ending_ = false;
  result<void> outcome_;
  std::thread thread_;
};

} // namespace chainring::gen
