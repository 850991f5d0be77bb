// SPDX-License-Identifier: BSD-3-Clause
// Ordering labels:
//   [image-before-tail]  The image is synced before the header's tail moves past the records that
//     it was written from.
//   [header-before-reuse]  Both header copies are synced before the journal space is released.
//
// A crash before [header-before-reuse] replays the same records over an image that holds some of
// them already. The newest durable copy of each line wins either way.
#include "checkpoint.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/hook.h"

namespace chainring {

namespace {

constexpr std::uint64_t lines_per_page = detail::page_size / cacheline_size;
constexpr std::size_t window_pages = 64;
/// Pages written before the image is synced. This bounds what a commit finds in the queue of the
/// disk.
constexpr std::size_t pages_per_sync = 256;

} // namespace

void checkpoint::collect(std::uint64_t line, std::uint64_t lines, const std::byte* bytes) {
  if (seeded_bug("file_checkpoint_working_lines")) bytes = working_ + line * cacheline_size;
  for (std::uint64_t i = 0; i < lines; ++i)
    copies_.push_back({line + i, bytes + i * cacheline_size});
}

/// Sorts the copies by line, stably, and keeps the last copy of each line. It is a radix sort,
/// because a checkpoint may hold half a million copies and shares its core.
void checkpoint::keep_newest() {
  constexpr unsigned bits = 11;
  constexpr std::size_t buckets = std::size_t{1} << bits;
  std::uint64_t highest = 0;
  for (const copy& c : copies_)
    highest = std::max(highest, c.line);
  scratch_.resize(copies_.size());
  for (unsigned shift = 0; shift < 64 && highest >> shift != 0; shift += bits) {
    std::array<std::size_t, buckets> start{};
    for (const copy& c : copies_)
      ++start[c.line >> shift & (buckets - 1)];
    std::size_t sum = 0;
    for (std::size_t& s : start)
      sum += std::exchange(s, sum);
    for (const copy& c : copies_)
      scratch_[start[c.line >> shift & (buckets - 1)]++] = c;
    copies_.swap(scratch_);
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < copies_.size(); ++i)
    if (i + 1 == copies_.size() || copies_[i + 1].line != copies_[i].line)
      copies_[kept++] = copies_[i];
  copies_.resize(kept);
}

/// Writes adjoining lines with one write.
int checkpoint::write_runs(std::size_t from, std::size_t to) noexcept {
  while (from < to) {
    std::size_t end = from + 1;
    while (end < to && copies_[end].line == copies_[end - 1].line + 1)
      ++end;
    for (std::size_t i = from; i < end; ++i)
      std::memcpy(window_.data() + (i - from) * cacheline_size, copies_[i].bytes, cacheline_size);
    if (int e = write_all(image_, image_offset_ + copies_[from].line * cacheline_size,
                          window_.data(), (end - from) * cacheline_size);
        e != 0)
      return e;
    from = end;
  }
  return 0;
}

/// Writes the copies [from, to), which lie in neighbouring pages. If they are scattered, it reads
/// the pages, puts the copies in and writes the pages back: two calls instead of one for each line.
/// That is safe because only the checkpoint writes the image.
int checkpoint::write_window(std::size_t from, std::size_t to) noexcept {
  std::size_t runs = 1;
  for (std::size_t i = from + 1; i < to; ++i)
    runs += copies_[i].line != copies_[i - 1].line + 1;
  constexpr std::size_t runs_max = 3;
  if (runs <= runs_max) return write_runs(from, to);
  const std::uint64_t first = copies_[from].line / lines_per_page * lines_per_page;
  const std::uint64_t last = copies_[to - 1].line / lines_per_page * lines_per_page;
  const std::uint64_t at = image_offset_ + first * cacheline_size;
  const std::uint64_t n = (last - first) * cacheline_size + detail::page_size;
  if (int e = read_all(image_, at, window_.data(), n); e != 0) return e;
  for (std::size_t i = from; i < to; ++i)
    std::memcpy(window_.data() + (copies_[i].line - first) * cacheline_size, copies_[i].bytes,
                cacheline_size);
  return write_all(image_, at, window_.data(), n);
}

int checkpoint::write_image() noexcept {
  std::size_t dirty_pages = 0;
  for (std::size_t from = 0; from < copies_.size();) {
    const std::uint64_t first_page = copies_[from].line / lines_per_page;
    std::uint64_t page = first_page;
    std::size_t to = from + 1;
    for (; to < copies_.size(); ++to) {
      const std::uint64_t next = copies_[to].line / lines_per_page;
      if (next > page + 1 || next >= first_page + window_pages) break;
      page = next;
    }
    if (int e = write_window(from, to); e != 0) return e;
    hook_point("checkpoint_window");
    dirty_pages += page - first_page + 1;
    from = to;
    if (dirty_pages < pages_per_sync || from == copies_.size()) continue;
    if (int e = image_.sync(); e != 0) return e;
    dirty_pages = 0;
  }
  return seeded_bug("file_image_not_synced") ? 0 : image_.sync();
}

bool checkpoint::step(std::uint64_t salt) noexcept {
  if (failure_.failed()) return false;
  if (journal_.tail() == journal_.durable() && salt == 0) return false;
  if (!journal_.file_whole()) {
    failure_.fail("a checkpoint of a file that somebody deleted or cut short", ESTALE);
    return false;
  }
  image_offset_ = file_format::image_offset(journal_.size());
  copies_.clear();
  window_.resize(window_pages * detail::page_size);
  const journal_point end =
      journal_.walk_durable([this](std::uint64_t line, std::uint64_t lines,
                                   const std::byte* bytes) { collect(line, lines, bytes); });
  keep_newest();
  if (!copies_.empty()) {
    // [image-before-tail] Crash between: the header still names the records, and they are replayed.
    if (int e = write_image(); e != 0) {
      failure_.fail("a checkpoint of the image", e);
      return false;
    }
  }
  hook_point("checkpoint_image_synced");
  if (seeded_bug("file_space_reused_early")) {
    journal_.release(end);
    return true;
  }
  // [header-before-reuse] Crash between: either header copy still finds every record that it needs.
  const int e = container_.update(image_, [&](file_format::header& h) {
    h.tail = end.position;
    h.tail_sequence = end.sequence;
    h.tail_crc = end.crc;
    if (salt != 0 && !seeded_bug("file_salt_kept")) h.salt = salt;
  });
  if (e != 0) {
    failure_.fail("a write of the header", e);
    return false;
  }
  journal_.release(end); // [header-before-reuse]
  return true;
}

} // namespace chainring
