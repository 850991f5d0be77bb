// SPDX-License-Identifier: BSD-3-Clause
/// The groups of figures. Each function prints the rows of its group. It returns false when
/// something went wrong, after it has printed what.
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
  cpu_set_t all_cpus; ///< the CPUs that this thread could use before EAL pinned it

  [[nodiscard]] budget time() const { return o.quick ? budget{0, 3} : budget{o.seconds, 7}; }
};

bool ring_figures(bench_context& c);
bool chain_figures(bench_context& c);
bool map_figures(bench_context& c);
bool seqlock_figures(bench_context& c);
bool match_figures(bench_context& c);
bool journal_figures(bench_context& c);
bool broker_emulated_figures(bench_context& c);
bool broker_file_figures(bench_context& c);
bool received_figures(bench_context& c);
bool workers_figures(bench_context& c);
bool recovery_figures(bench_context& c);
bool idle_figures(bench_context& c);
bool million_figures(bench_context& c);
bool fan_out_figures(bench_context& c);
bool overload_figures(bench_context& c);
bool tcp_figures(bench_context& c);

/// The process that million_figures() starts and that dies. Returns only where something failed.
int fill_sessions(const options& o);

/// Asks the kernel for hugepages below the medium, which a region on a device or in hugetlbfs has,
/// and goes on without them where the kernel has none.
void use_hugepages(media& m);

/// A new directory below `where`, which the destructor removes with all that is in it.
class scratch_directory {
 public:
  explicit scratch_directory(const std::string& where);
  ~scratch_directory();
  scratch_directory(const scratch_directory&) = delete;
  scratch_directory& operator=(const scratch_directory&) = delete;
  /// The path, or empty when the directory could not be made; errno then says why.
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A file of class `file` in the directory that the options name, which the destructor removes. The
/// threads of its medium may use every CPU, because they inherit the CPU set of create()'s thread.
class file_region {
 public:
  /// `journal_cpu`: media_options::journal_cpu.
  static result<std::unique_ptr<file_region>> create(const bench_context& c, std::uint64_t size,
                                                     int journal_cpu = -1);
  /// Hands out the medium. It may be called once.
  [[nodiscard]] std::unique_ptr<media> take() { return std::move(media_); }
  [[nodiscard]] const std::string& directory() const { return directory_.path(); }

 private:
  explicit file_region(const std::string& where) : directory_(where) {}
  scratch_directory directory_;
  std::unique_ptr<media> media_;
};

} // namespace chainring::bench
