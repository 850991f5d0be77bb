// SPDX-License-Identifier: BSD-3-Clause
// Appending to the journal, committing it, and replaying it at an open.
//
// The lock orders what append() writes: only its holder changes `appended`, the sequence and the
// mirror behind them (base/spin_lock.h).
//
// Ordering labels:
//   [record-appended]  append() stores `appended` with release once the record is whole in the
//     mirror; pairs with [appended-read].
//   [append-seen]  append() stores `appended` sequentially consistent, before its thread looks
//     whether the committer sleeps; pairs with [sleep-or-wake].
//   [appended-read]  The committer loads `appended` with acquire; pairs with [record-appended].
//   [prefix-durable]  The committer stores `durable` with release once the prefix is on disk; pairs
//     with [durable-read].
//   [durable-read]  Marks and the checkpoint load `durable` with acquire; pairs with
//     [prefix-durable].
//   [tail-moved]  The checkpoint stores `tail` with release once the header on disk names it; pairs
//     with [tail-read].
//   [tail-read]  append() loads `tail` with acquire before it overwrites the mirror; pairs with
//     [tail-moved].
//   [waiter-counted]  A thread counts itself as waiting, with release, before it looks for room
//     again; pairs with [waiters-read].
//   [waiters-read]  The committer loads the number of waiters with acquire; pairs with
//     [waiter-counted].
//   [journal-alone]  replay() sets the positions while no other thread has seen the journal; the
//     stores order nothing.
//   [appended-locked]  The holder of the lock reads `appended`, which changes only under the lock;
//     the load orders nothing.
//   [file-length-set]  The expected length is stored with release after the file has grown; pairs
//     with [file-length-read].
//   [file-length-read]  A commit and a checkpoint load the expected length with acquire; pairs with
//     [file-length-set].
//   [record-before-mark]  Records are written and synced before `durable` moves past them.
//   [replay-before-change]  The replayed records are written again and synced before the image, the
//     headers or the journal change. The header needs no such care: the checkpoint of an open
//     writes both copies before anything is shown, and until then the copies on disk find every
//     record that they need.
#include "journal.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <rte_cycles.h>

#include "base/crc32c.h"
#include "base/hook.h"
#include "base/idle.h"
#include "media/line_copy.h"

namespace chainring {

using file_format::extent;
using file_format::record;

result<void> journal::allocate(const std::string& path) {
  auto range = detail::address_range::reserve(size_, detail::hugepage_size, path);
  if (!range) return range.error();
  mirror_ = std::move(*range);
  return mirror_.commit_memory(0, size_);
}

// --- opening ---------------------------------------------------------------------------------

int journal::load(std::uint64_t position, std::uint64_t n) noexcept {
  constexpr std::uint64_t read_ahead = 1u << 20;
  while (loaded_ < position + n) {
    const std::uint64_t at = loaded_ % size_;
    std::uint64_t now = std::min(read_ahead, size_ - at);
    now = std::min(now, tail_point_.position + size_ - loaded_);
    if (now == 0) return 0;
    if (int e = read_all(file_, file_format::journal_offset + at, mirror_.base() + at, now); e != 0)
      return e;
    loaded_ += now;
  }
  return 0;
}

bool journal::valid_at(const journal_point& at, std::uint64_t salt,
                       std::uint64_t image_size) const noexcept {
  const std::uint64_t left = size_ - at.position % size_;
  const std::byte* bytes = mirror_.base() + at.position % size_;
  record r;
  std::memcpy(&r, bytes, sizeof r);
  if (r.position != at.position || r.sequence != at.sequence || r.salt != salt || r.reserved != 0 ||
      r.reserved_word != 0)
    return false;
  std::uint64_t checked = r.bytes;
  if (r.lines == 0) {
    if (r.extents != 0 || r.bytes != left) return false;
    checked = sizeof r;
  } else {
    const std::uint64_t bound = file_format::record_bytes_max(size_);
    if (r.bytes > bound || r.bytes > left || r.extents == 0 || r.extents > r.lines ||
        r.lines > bound / cacheline_size ||
        r.bytes != file_format::record_bytes(r.extents, r.lines))
      return false;
  }
  constexpr std::size_t covered = offsetof(record, reserved_word);
  if (crc32c(at.crc, bytes + covered, checked - covered) != r.crc) return false;
  std::uint64_t lines = 0;
  const auto* extents = reinterpret_cast<const extent*>(bytes + sizeof r);
  const std::uint64_t image_lines = image_size / cacheline_size;
  for (std::uint64_t i = 0; i < r.extents; ++i) {
    const std::uint64_t first = file_format::first_line(extents[i]);
    const std::uint64_t n = file_format::lines_of(extents[i]);
    if (n > image_lines || first > image_lines - n) return false;
    lines += n;
  }
  return lines == r.lines;
}

result<void> journal::replay(const journal_point& tail, std::uint64_t salt, std::byte* image,
                             std::uint64_t image_size, const std::string& path) {
  const auto failed = [&](int e) {
    return system_error(errc::io, "region file " + path + ": cannot read its journal", e);
  };
  tail_point_ = tail;
  loaded_ = tail.position;
  journal_point at = tail;
  while (at.position - tail.position < size_) {
    if (int e = load(at.position, sizeof(record)); e != 0) return failed(e);
    const auto* r = reinterpret_cast<const record*>(mirror_.base() + at.position % size_);
    // Bound the record by what a record may have before anything in it is believed.
    const std::uint64_t bytes = r->lines == 0 ? sizeof *r : r->bytes;
    if (bytes > size_ - at.position % size_ || bytes < sizeof *r) break;
    if (int e = load(at.position, bytes); e != 0) return failed(e);
    if (r->bytes > tail.position + size_ - at.position || !valid_at(at, salt, image_size)) break;
    const std::byte* lines =
        reinterpret_cast<const std::byte*>(r) + sizeof *r + file_format::table_bytes(r->extents);
    const auto* extents = reinterpret_cast<const extent*>(r + 1);
    for (std::uint64_t i = 0; i < r->extents; ++i) {
      const std::uint64_t n = file_format::lines_of(extents[i]) * cacheline_size;
      std::memcpy(image + file_format::first_line(extents[i]) * cacheline_size, lines, n);
      lines += n;
    }
    at = {at.position + r->bytes, at.sequence + 1, r->crc};
  }
  next_sequence_ = at.sequence;
  sealed_crc_ = at.crc;
  // [journal-alone]
  constexpr auto alone = std::memory_order_relaxed;
  tail_.store(tail.position, alone);
  durable_.store(at.position, alone);
  appended_.store(at.position, alone);
  return {};
}

template <class Write> int journal::for_range(std::uint64_t from, std::uint64_t to, Write write) {
  while (from < to) {
    const std::uint64_t at = from % size_;
    const std::uint64_t n = std::min(to - from, size_ - at);
    if (int e = write(file_format::journal_offset + at, mirror_.base() + at, n); e != 0) return e;
    from += n;
  }
  return 0;
}

int journal::rewrite() noexcept {
  return for_range(tail(), durable(), [this](std::uint64_t at, const void* bytes, std::uint64_t n) {
    return write_all(file_, at, bytes, n);
  });
}

// --- appending -------------------------------------------------------------------------------

bool journal::append(std::span<const extent> extents, std::uint64_t lines,
                     const std::byte* image) noexcept {
  const std::uint64_t bytes = file_format::record_bytes(extents.size(), lines);
  idle_policy policy;
  bool waiting = false, appended = false;
  while (!failure_.failed()) {
    lock_.lock();
    // [appended-locked]
    std::uint64_t at = appended_.load(std::memory_order_relaxed);
    const std::uint64_t left = size_ - at % size_;
    const std::uint64_t filler = bytes <= left ? 0 : left;
    if (at + filler + bytes - tail() > size_) {
      lock_.unlock();
      // [waiter-counted] Without it the committer could see no waiter while this thread waits.
      if (!waiting) waiters_.fetch_add(1, std::memory_order_release);
      waiting = true;
      hook_point("journal_full");
      policy.idle();
      continue;
    }
    if (filler > 0) {
      new (mirror_.base() + at % size_) record{0, 0, salt_, at, next_sequence_++, filler, 0, 0, 0};
      at += filler;
    }
    std::byte* to = mirror_.base() + at % size_;
    new (to) record{0, 0, salt_, at, next_sequence_++, bytes, extents.size(), lines, 0};
    to += sizeof(record);
    std::memcpy(to, extents.data(), extents.size_bytes());
    const std::uint64_t table = file_format::table_bytes(extents.size());
    std::memset(to + extents.size_bytes(), 0, table - extents.size_bytes());
    to += table;
    const bool early = seeded_bug("file_lines_copied_after_lock");
    if (early) {
      appended_.store(at + bytes, std::memory_order_release); // [record-appended] is too early here
      lock_.unlock();
      hook_point("journal_position_taken");
    }
    for (const extent e : extents) {
      const std::byte* from = image + file_format::first_line(e) * cacheline_size;
      for (std::uint64_t n = file_format::lines_of(e); n > 0; --n) {
        (void)copy_line(to, from); // the first of its properties is enough here
        to += cacheline_size;
        from += cacheline_size;
      }
    }
    if (!early) {
      // [record-appended] Without it the committer could write a record that is not whole yet.
      // [append-seen] Without it the committer could sleep on, and this thread not wake it.
      appended_.store(at + bytes, std::memory_order_seq_cst);
      lock_.unlock();
    }
    appended = true;
    break;
  }
  if (waiting) waiters_.fetch_sub(1, std::memory_order_release); // [waiter-counted]
  return appended;
}

// --- committing ------------------------------------------------------------------------------

void journal::seal(std::uint64_t to) noexcept {
  constexpr std::size_t covered = offsetof(record, reserved_word);
  for (std::uint64_t at = durable(); at < to;) {
    std::byte* bytes = mirror_.base() + at % size_;
    auto* r = reinterpret_cast<record*>(bytes);
    const std::uint64_t checked = r->lines == 0 ? sizeof *r : r->bytes;
    r->crc = sealed_crc_ = crc32c(sealed_crc_, bytes + covered, checked - covered);
    at += r->bytes;
  }
}

bool journal::commit_step() noexcept {
  if (failure_.failed()) return false;
  const std::uint64_t from = durable(), to = appended();
  if (from == to) return false;
  const std::uint64_t began = rte_rdtsc();
  seal(to);
  const std::uint64_t sealed = rte_rdtsc();
  seal_tsc_ += sealed - began;
  hook_point("journal_sealed");
  const bool unsynced = seeded_bug("file_commit_not_synced");
  // [record-before-mark] Crash between: no mark is true yet for what the crash takes back. Every
  // write here has returned durable before `durable` moves. A prefix that wraps takes two writes,
  // in order, so a crash between them leaves a prefix too.
  const int e = for_range(from, to, [&](std::uint64_t at, const void* bytes, std::uint64_t n) {
    return unsynced ? write_all(file_, at, bytes, n) : file_.write_durably(at, bytes, n);
  });
  if (e != 0) {
    failure_.fail("a commit of the journal", e);
    return false;
  }
  if (!file_whole()) {
    failure_.fail("a commit to a file that somebody deleted or cut short", ESTALE);
    return false;
  }
  write_tsc_ += rte_rdtsc() - sealed;
  bytes_ += to - from;
  ++commits_;
  // [prefix-durable] Without it a mark could be true before its records are on disk.
  durable_.store(to, std::memory_order_release);
  return true;
}

void journal::release(const journal_point& to) noexcept {
  tail_point_ = to;
  // [tail-moved] Without it a drain could overwrite records that a crash still needs.
  tail_.store(to.position, std::memory_order_release);
}

} // namespace chainring
