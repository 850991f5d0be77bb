// SPDX-License-Identifier: BSD-3-Clause
// Reads, checks and writes the header copies of a container.
//
// Ordering labels:
//   [header-copy-before-other]  A header copy is synced before the other copy is written, and both
//     before update() returns.
#include "media/container.h"

#include <cstring>
#include <sys/random.h>
#include <unistd.h>

#include "base/crc32c.h"

namespace chainring {

using file_format::header;

namespace {

std::uint32_t header_crc(const header& h) noexcept {
  return crc32c(0, &h, offsetof(header, crc));
}

enum class verdict { valid, damaged, other_version, foreign };

verdict check(const header& h) noexcept {
  if (h.magic != file_format::container_magic) return verdict::foreign;
  if (h.crc != header_crc(h)) return verdict::damaged;
  if (h.version != file_format::container_version) return verdict::other_version;
  return file_format::expected_geometry(h) && file_format::numbers_below_limit(h)
             ? verdict::valid
             : verdict::damaged;
}

} // namespace

container::container(std::uint64_t journal_size, std::uint64_t image_size, std::uint64_t salt) {
  header_.magic = file_format::container_magic;
  header_.version = file_format::container_version;
  header_.header_bytes = sizeof(header);
  (void)getrandom(header_.uuid, sizeof header_.uuid, 0);
  header_.journal_offset = file_format::journal_offset;
  header_.journal_size = journal_size;
  header_.image_offset = file_format::image_offset(journal_size);
  header_.image_size = image_size;
  header_.salt = salt;
  header_.tail_sequence = 1;
}

result<header> container::load(block_file& file, const std::string& path,
                               std::uint64_t file_bytes) {
  const std::string name = "region file " + path + ": ";
  if (file_bytes < file_format::journal_offset)
    return error{errc::corrupt, name + "it is " + std::to_string(file_bytes) +
                                    " bytes long, too short for a region of class file"};
  std::optional<header> best;
  bool other_version = false, ours = false;
  std::uint32_t version = 0;
  for (std::uint64_t place = 0; place < 2; ++place) {
    header h{};
    if (int e = read_all(file, place * file_format::header_spacing, &h, sizeof h); e != 0)
      return system_error(errc::io, name + "cannot read its header", e);
    const verdict v = check(h);
    ours |= v != verdict::foreign;
    if (v == verdict::other_version) {
      other_version = true;
      version = h.version;
    }
    if (v != verdict::valid || h.sequence % 2 != place) continue;
    if (!best || h.sequence > best->sequence) best = h;
  }
  if (other_version)
    return error{errc::version, name + "its format is version " + std::to_string(version) +
                                    " and this build knows version " +
                                    std::to_string(file_format::container_version) +
                                    "; open it with the release that wrote it"};
  if (!best)
    return error{errc::corrupt,
                 name + (ours
                             ? "both header copies are damaged; restore it from a copy"
                             : "it is not a region of class file, or its creation did not finish")};
  if (file_bytes < best->image_offset + best->image_size)
    return error{errc::corrupt, name + "it is " + std::to_string(file_bytes) +
                                    " bytes long and its header says " +
                                    std::to_string(best->image_offset + best->image_size) +
                                    "; it was cut short, restore it from a copy"};
  return *best;
}

header container::now() const {
  const std::lock_guard guard(lock_);
  return header_;
}

// [header-copy-before-other] Crash between: at any moment at least one place holds a whole copy,
// the older or the newer.
int container::write_copy(block_file& file) {
  header_.crc = header_crc(header_);
  return write_all(file, header_.sequence % 2 * file_format::header_spacing, &header_,
                   sizeof header_);
}

bool is_container(int fd) noexcept {
  std::uint64_t first[2] = {};
  for (off_t place = 0; place < 2; ++place)
    if (pread(fd, &first[place], sizeof first[place],
              place * static_cast<off_t>(file_format::header_spacing)) ==
            static_cast<ssize_t>(sizeof first[place]) &&
        first[place] == file_format::container_magic)
      return true;
  return false;
}

} // namespace chainring
