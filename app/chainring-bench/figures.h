// SPDX-License-Identifier: BSD-3-Clause
/// The groups of figures. Each prints its rows; false: something went wrong, and was printed.
#pragma once
#include <functional>
#include <memory>
#include <sched.h>
#include <string>

#include "media/media.h"
#include "options.h"
#include "report.h"

namespace chainring::bench {

struct bench_context {
  const options& o;
  report& out;
  cpu_set_t all_cpus; ///< before EAL pinned this thread

  [[nodiscard]] budget time() const { return o.quick ? budget{0, 3} : budget{o.seconds, 7}; }
};

bool ring_figures(bench_context& c);
bool chain_figures(bench_context& c);
bool map_figures(bench_context& c);
bool match_figures(bench_context& c);
bool journal_figures(bench_context& c);
bool broker_emulated_figures(bench_context& c);
bool broker_file_figures(bench_context& c);
bool recovery_figures(bench_context& c);
bool idle_figures(bench_context& c);

/// As a region on a device or in hugetlbfs has them: asks for hugepages, and takes what there is.
void use_hugepages(media& m);

/// A new directory below `where`, gone with all that is in it when this is destroyed.
class scratch_directory {
 public:
  explicit scratch_directory(const std::string& where);
  ~scratch_directory();
  scratch_directory(const scratch_directory&) = delete;
  scratch_directory& operator=(const scratch_directory&) = delete;
  /// Empty: it could not be made, and errno says why.
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A file of class `file` in the directory of the options, gone when this is destroyed. Its threads
/// may use every CPU: they inherit from the one that makes them.
class file_region {
 public:
  static result<std::unique_ptr<file_region>> create(const bench_context& c, std::uint64_t size);
  /// The medium, once.
  [[nodiscard]] std::unique_ptr<media> take() { return std::move(media_); }
  [[nodiscard]] const std::string& directory() const { return directory_.path(); }

 private:
  explicit file_region(const std::string& where) : directory_(where) {}
  scratch_directory directory_;
  std::unique_ptr<media> media_;
};

} // namespace chainring::bench
