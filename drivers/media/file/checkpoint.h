// SPDX-License-Identifier: BSD-3-Clause
/// Moves durable journal records into the image, so that their space can be reused.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "failure_latch.h"
#include "journal.h"
#include "media/block_file.h"
#include "media/container.h"

namespace chainring {

/// One thread at a time. Allocates, and is on no data path.
class checkpoint {
 public:
  /// `image` must be another description of the file than the journal's: the kernel reports a
  /// failed write-back once a description, and the journal's sync would swallow the image's. While
  /// a step runs nobody else syncs `image`, for the same reason.
  checkpoint(journal& j, container& c, block_file& image, failure_latch& failure)
      : journal_(j), container_(c), image_(image), failure_(failure) {}

  /// The newest copy of each line in the durable records goes to the image and is synced, the
  /// header says so and is synced, and only then is the space released. False: there was nothing,
  /// or it failed. With `salt` not 0, the header takes it as the salt of the records to come.
  bool step(std::uint64_t salt = 0) noexcept;

  /// Where the seeded bug "file_checkpoint_working_lines" finds them. Nothing else reads them here.
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
