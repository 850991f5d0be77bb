// SPDX-License-Identifier: BSD-3-Clause
// The driver finds, creates, locks and opens the file; file_media does everything else.
#include <cerrno>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file_media.h"
#include "media/drivers.h"
#include "media/mapping.h"

namespace chainring {

namespace {

using detail::file_system;
using detail::open_mode;

std::uint64_t random_salt() {
  std::uint64_t salt = 0;
  while (salt == 0)
    if (getrandom(&salt, sizeof salt, 0) != static_cast<ssize_t>(sizeof salt)) salt = 0;
  return salt;
}

result<void> checked_place(const media_options& options) {
  auto place = detail::place_of(options.path);
  if (!place) return place.error();
  if (place->kind == file_system::disk) return {};
  return error{errc::unsupported,
               "region file " + options.path + ": a sync has no effect on " +
                   (place->kind == file_system::tmpfs ? "tmpfs" : "hugetlbfs") +
                   ", so class file is not possible there; name a file on a disk, or ask for class "
                   "process, which survives the death of the process and no power loss"};
}

/// One drain may cover a quarter of the journal. A smaller journal could not hold a busy burst.
constexpr std::uint64_t journal_size_min = 1u << 20;

result<media_options> with_journal_size(media_options options) {
  if (options.journal_size == 0) return options;
  if (options.journal_size < journal_size_min ||
      options.journal_size > file_format::journal_size_max)
    return error{errc::invalid_argument, "region file " + options.path + ": journal_size " +
                                             std::to_string(options.journal_size) +
                                             ": expected between " +
                                             std::to_string(journal_size_min) + " and " +
                                             std::to_string(file_format::journal_size_max) +
                                             " bytes, of which one drain may take a quarter"};
  options.journal_size = align_up(options.journal_size, file_format::journal_size_unit);
  return options;
}

result<file_parts> open_parts(const media_options& options, open_mode mode) {
  auto locked = detail::open_locked(options.path, mode);
  if (!locked) return locked.error();
  auto bytes = detail::file_size(locked->get(), options.path);
  if (!bytes) return bytes.error();
  struct stat mine {
  }, other{};
  const int flags = (detail::only_reads(mode) ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  detail::file_descriptor second(::open(options.path.c_str(), flags));
  if (second.get() < 0) {
    const int e = errno;
    // it is empty, and this call created it
    if (mode == open_mode::create) (void)unlink(options.path.c_str());
    return system_error(errc::io, "region file " + options.path, e);
  }
  if (fstat(locked->get(), &mine) != 0 || fstat(second.get(), &other) != 0 ||
      mine.st_ino != other.st_ino || mine.st_dev != other.st_dev)
    return error{errc::busy,
                 "region file " + options.path + ": it was replaced while being opened"};
  file_parts parts;
  parts.journal = posix_block_file(std::move(*locked));
  parts.image = posix_block_file(std::move(second));
  parts.file_bytes = *bytes;
  parts.draw_salt = random_salt;
  return parts;
}

result<std::unique_ptr<media>> attach(file_parts parts, const media_options& options) {
  auto m = file_media::attach(std::move(parts), options);
  if (!m) return m.error();
  return std::unique_ptr<media>(std::move(*m));
}

/// Copies the region beside its owner, again and again until the owner has not moved the beginning
/// of the journal meanwhile. Then the copy is the region as some drain left it.
result<std::unique_ptr<media>> look(const media_options& options) {
  constexpr int attempts_max = 16;
  error last;
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    auto parts = open_parts(options, open_mode::beside_owner);
    if (!parts) return parts.error();
    auto m = file_media::attach(std::move(*parts), options);
    if (m && (*m)->is_one_state()) return std::unique_ptr<media>(std::move(*m));
    // A header that is being written may have been read in part.
    if (!m && m.error().code != errc::corrupt) return m.error();
    last = m ? error{errc::busy, "region file " + options.path +
                                     ": it changes faster than it can be copied; look again when "
                                     "less is written to it"}
             : m.error();
  }
  return last;
}

bool suits(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) return false;
  auto place = detail::place_of(path);
  return place && place->kind == file_system::disk;
}

result<std::unique_ptr<media>> create(const media_options& options) {
  if (options.read_only)
    return error{errc::invalid_argument,
                 "region file " + options.path + ": cannot create it read-only"};
  if (auto ok = checked_place(options); !ok) return ok.error();
  auto checked = with_journal_size(options);
  if (!checked) return checked.error();
  if (auto ok = detail::checked_sizes(options, 0, file_format::image_size_unit); !ok)
    return ok.error();
  auto parts = open_parts(options, open_mode::create);
  if (!parts) return parts.error();
  const auto give_up = [&](error e) {
    (void)unlink(options.path.c_str());
    return e;
  };
  if (auto done = file_media::format(*parts, *checked); !done) return give_up(done.error());
  if (auto done = detail::sync_directory_of(options.path); !done) return give_up(done.error());
  media_options opening = *checked;
  opening.size = 0;
  auto m = attach(std::move(*parts), opening);
  if (!m) return give_up(m.error());
  return m;
}

result<std::unique_ptr<media>> open(const media_options& options) {
  if (!options.read_only)
    if (auto ok = checked_place(options); !ok) return ok.error();
  auto checked = with_journal_size(options);
  if (!checked) return checked.error();
  if (options.read_only && options.beside_owner) return look(*checked);
  auto parts = open_parts(options, detail::mode_of(options));
  if (!parts) return parts.error();
  // Sync the name too: the process that created the file may have died before it synced the
  // directory.
  if (!options.read_only)
    if (auto done = detail::sync_directory_of(options.path); !done) return done.error();
  return attach(std::move(*parts), *checked);
}

constexpr durability_class given[] = {durability_class::file};

} // namespace

const media_driver file_driver = {
    "file", "a regular file behind a redo journal; survives power loss", given, suits, create,
    open};

} // namespace chainring
