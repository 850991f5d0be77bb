// SPDX-License-Identifier: BSD-3-Clause
/// The checkpoint moves durable journal records into the image, so that their space can be reused.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "failure_latch.h"
#include "journal.h"
#include "media/block_file.h"
#include "media/container.h"

namespace chainring {

/// Only one thread at a time may use it. It allocates memory, and no data path calls it.
class checkpoint {
 public:
  /// `image` and the journal must be two open descriptions of the file. The kernel reports a failed
  /// write-back once for each description, so the journal's sync would take away a failure that
  /// concerns the image. For the same reason no other thread may sync `image` while a step runs.
  checkpoint(journal& j, container& c, block_file& image, failure_latch& failure)
      : journal_(j), container_(c), image_(image), failure_(failure) {}

  /// Writes the newest copy of each line of the durable records to the image and syncs, then writes
  /// the header and syncs, and only then releases the journal space. Returns false if there was
  /// nothing to do, or if a step failed. If `salt` is not 0, the header takes it as the salt of the
  /// records to come.
  bool step(std::uint64_t salt = 0) noexcept;

  /// Sets the working copy that the seeded bug "file_checkpoint_working_lines" reads. Nothing else
  /// here reads it.
  void seed_bugs_on(const std::byte* working) noexcept { working_ = working; }

 private:
  struct copy {
    std::uint64_t line;
    const std::byte* bytes;
  };
  void collect(std::uint64_t line, std::uint64_t lines, const std::byte* bytes);
  void keep_newest();
  [[nodiscard]] int write_image() noexcept;
  [[nodiscard]] int write_window(std::size_t from, std::size_t to) noexcept;
  [[nodiscard]] int write_runs(std::size_t from, std::size_t to) noexcept;

  journal& journal_;
  container& container_;
  block_file& image_;
  failure_latch& failure_;
  std::uint64_t image_offset_ = 0;
  const std::byte* working_ = nullptr;
  std::vector<copy> copies_, scratch_;
  std::vector<std::byte> window_;
};

} // namespace chainring
