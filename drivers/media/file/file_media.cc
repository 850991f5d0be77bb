// SPDX-License-Identifier: BSD-3-Clause
// The driver's media: creating, opening, growing and closing the file, and its two threads.
//
// Ordering labels:
//   [stop-set]  stop_threads() stores `stop` with release; pairs with [stop-read].
//   [stop-read]  The threads load `stop` with acquire and end after their present step; pairs with
//     [stop-set].
//   [checkpoint-wanted]  The committer asks for a checkpoint by an exchange with acquire and
//     release; pairs with [checkpoint-taken].
//   [checkpoint-taken]  The checkpointer loads the request with acquire, and takes it back with
//     release; pairs with [checkpoint-wanted].
//   [sleep-or-wake]  The committer stores that it sleeps and then loads `appended`, and a drain looks
//     whether it sleeps, all sequentially consistent, so that one of the two sees the other; pairs
//     with [append-seen].
//   [salt-before-append]  The image has the replayed records and both header copies have the new
//     salt, before a record is appended.
//   [space-with-header]  The sync of the first header copy of a new file makes its space and the
//     zeros of its journal durable too. A crash before that leaves no valid header, or a file that
//     is shorter than its header says, and an open refuses both; or it leaves the whole length, and
//     what was not written reads as zeros.
//   [growth-before-header]  A grown file has its new space, synced, before a header names it; the
//     header is synced before a byte of the space can be flushed.
#include "file_media.h"

#include <cerrno>
#include <cstring>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <vector>

#include "base/hook.h"
#include "base/idle.h"

namespace chainring {

using file_format::extent;

namespace {

/// The processors on which this process was started. EAL pins the thread that initialises it to one
/// lcore. The threads here would inherit that, and take turns with a polling loop.
const cpu_set_t processors = [] {
  cpu_set_t set;
  CPU_ZERO(&set);
  (void)sched_getaffinity(0, sizeof set, &set);
  return set;
}();

/// The sleeps of the committer grow up to this length. After that it sleeps until a drain wakes it,
/// so that an idle process has one thread less that wakes up. The system call of the wake is made
/// once in such a pause.
constexpr std::uint32_t committer_sleep_us_max = 1000;

error sized(const media_options& options, const std::string& text) {
  return {errc::invalid_argument, "region file " + options.path + ": " + text};
}

} // namespace

// --- creating and opening --------------------------------------------------------------------

result<void> file_media::format(file_parts& parts, const media_options& options) {
  auto sizes = detail::checked_sizes(options, 0, file_format::image_size_unit);
  if (!sizes) return sizes.error();
  const std::uint64_t journal_size =
      options.journal_size == 0 ? file_format::journal_size_for(sizes->size) : options.journal_size;
  CHAINRING_ASSERT(journal_size >= file_format::journal_size_min &&
                   journal_size <= file_format::journal_size_max &&
                   journal_size % file_format::journal_size_unit == 0);
  const std::string name = "region file " + options.path + ": ";
  const auto failed = [&](const char* what, int e) { return detail::file_error(name + what, e); };
  const std::uint64_t end = file_format::image_offset(journal_size) + sizes->size;
  if (int e = parts.image->allocate(0, end); e != 0)
    return failed(("cannot allocate " + std::to_string(end) + " bytes").c_str(), e);
  // Every block is written once now. Otherwise a commit would have to convert a fresh extent, which
  // costs a journal commit of the file system.
  const std::vector<std::byte> zeros(1u << 20);
  for (std::uint64_t at = 0; at < journal_size; at += zeros.size()) {
    const std::uint64_t n = std::min<std::uint64_t>(zeros.size(), journal_size - at);
    if (int e = write_all(*parts.image, file_format::journal_offset + at, zeros.data(), n); e != 0)
      return failed("cannot write its journal", e);
  }
  container fresh(journal_size, sizes->size, parts.draw_salt());
  // [space-with-header] Crash before its first sync: the file is refused, or reads as empty.
  if (int e = fresh.update(*parts.image, [](file_format::header&) {}); e != 0)
    return failed("cannot write its header", e);
  parts.file_bytes = end;
  return {};
}

file_media::file_media(file_parts parts, const file_format::header& h)
    : parts_(std::move(parts)), container_(h), journal_(*parts_.journal, failure_, h.journal_size),
      checkpoint_(journal_, container_, *parts_.image, failure_),
      lines_max_(file_format::record_lines_max(h.journal_size)) {
  class_ = durability_class::file;
}

result<std::unique_ptr<file_media>> file_media::attach(file_parts parts,
                                                       const media_options& options) {
  auto h = container::load(*parts.journal, options.path, parts.file_bytes);
  if (!h) return h.error();
  if (options.journal_size != 0 && options.journal_size != h->journal_size)
    return sized(options, "journal_size " + std::to_string(options.journal_size) +
                              ": it was created with " + std::to_string(h->journal_size) +
                              ", which cannot be changed; open it with journal_size 0");
  std::unique_ptr<file_media> m(new file_media(std::move(parts), *h));
  m->path_ = options.path;
  if (auto filled = m->fill(options); !filled) return filled.error();
  return m;
}

bool file_media::is_one_state() {
  const auto now = container::load(*parts_.journal, path_, parts_.file_bytes);
  const file_format::header then = container_.now();
  if (seeded_bug("file_look_mixed")) return true;
  return now && now->tail == then.tail && now->salt == then.salt &&
         now->image_size == then.image_size && now->sequence == then.sequence;
}

result<void> file_media::read_image(std::uint64_t size) {
  const std::uint64_t start = container_.now().image_offset, end = start + size;
  constexpr std::uint64_t piece = 1u << 20; // an owner may store between two of them
  for (std::uint64_t from = start; from < end;) {
    std::uint64_t to = end;
    parts_.image->find_data(from, to, end);
    to = std::min(to, from + piece);
    hook_point("file_image_piece");
    if (int e = read_all(*parts_.image, from, memory_.base() + (from - start), to - from); e != 0)
      return system_error(errc::io, "region file " + path_ + ": cannot read its image", e);
    from = to;
  }
  return {};
}

result<void> file_media::fill(const media_options& options) {
  const file_format::header h = container_.now();
  auto sizes = detail::checked_sizes(options, h.image_size, file_format::image_size_unit);
  if (!sizes) return sizes.error();
  const std::uint64_t reserved = align_up(sizes->size_max, detail::page_size);
  auto range = detail::address_range::reserve(reserved, detail::hugepage_size, path_);
  if (!range) return range.error();
  memory_ = std::move(*range);
  if (auto done = memory_.commit_memory(0, h.image_size); !done) return done.error();
  if (auto done = journal_.allocate(path_); !done) return done.error();
  if (auto done = read_image(h.image_size); !done) return done.error();
  const journal_point tail{h.tail, h.tail_sequence, h.tail_crc};
  if (auto done = journal_.replay(tail, h.salt, memory_.base(), h.image_size, path_); !done)
    return done.error();
  base_ = memory_.base();
  size_ = h.image_size;
  if (options.read_only) { // kind_ stays `visible`: stores change only this memory
    if (options.beside_owner && mprotect(base_, h.image_size, PROT_READ) != 0)
      return system_error(errc::io, "region file " + path_ + ": cannot protect its copy", errno);
    return {};
  }

  const std::uint64_t salt = parts_.draw_salt();
  int e = 0;
  if (!seeded_bug("file_replay_not_rewritten")) e = journal_.rewrite();
  // [replay-before-change] Crash between: the next open replays the same records. Without it a
  // power cut could lose records that were read from the page cache alone.
  if (e == 0) e = parts_.journal->sync();
  if (e != 0)
    return system_error(errc::io, "region file " + path_ + ": cannot write its journal again", e);
  hook_point("replay_rewritten");
  // [replay-before-change] [salt-before-append]
  checkpoint_.seed_bugs_on(memory_.base());
  if (!checkpoint_.step(salt)) return status();
  // [salt-before-append] Crash between: a record left behind a torn one has the old salt.
  journal_.set_salt(container_.now().salt);
  journal_.expect_file_bytes(h.image_offset + h.image_size);
  kind_ = kind::driver;
  return parts_.threads ? start_threads(options.journal_cpu) : result<void>{};
}

// --- the seam --------------------------------------------------------------------------------

[[gnu::noinline]] file_media::pending& file_media::pending_without_row() noexcept {
  const std::lock_guard guard(further_lock_);
  return further_[thread_slot()]; // stays in its place while others are added
}

file_media::pending& file_media::my_pending() noexcept {
  unsigned row = 0;
  return detail::own_row(row) ? pending_[row] : pending_without_row();
}

void file_media::driver_flush(const void* from, std::size_t n) noexcept {
  if (n == 0) return;
  const auto at = static_cast<std::uint64_t>(static_cast<const std::byte*>(from) - base_);
  CHAINRING_ASSERT(at < size() && n <= size() - at);
  std::uint64_t first = at / cacheline_size;
  const std::uint64_t end = (at + n - 1) / cacheline_size + 1;
  pending& p = my_pending();
  if (p.extents == nullptr) [[unlikely]]
    p.extents = std::make_unique_for_overwrite<extent[]>(lines_max_);
  if (p.count > 0) {
    // A range that adjoins or repeats the last one extends its extent.
    extent& last = p.extents[p.count - 1];
    const std::uint64_t last_first = file_format::first_line(last);
    const std::uint64_t last_lines = file_format::lines_of(last);
    const std::uint64_t last_end = last_first + last_lines;
    if (first >= last_first && first <= last_end) {
      if (end <= last_end) return;
      if (end - last_first <= file_format::extent_lines_max) {
        last = file_format::make_extent(last_first, end - last_first);
        p.lines += end - last_end;
        first = end;
      }
    }
  }
  while (first < end) {
    const std::uint64_t n_lines = std::min(end - first, file_format::extent_lines_max);
    p.lines += n_lines;
    if (p.lines > lines_max_) break;
    p.extents[p.count++] = file_format::make_extent(first, n_lines);
    first += n_lines;
  }
  if (p.lines > lines_max_) [[unlikely]]
    detail::assert_failed("one drain covers more than a quarter of the journal; persist less at a "
                          "time (drain_bytes_max, persist_range) or create the region with a "
                          "larger journal_size",
                          __FILE__, __LINE__);
}

void file_media::driver_drain() noexcept {
  pending& p = my_pending();
  if (p.count == 0) return;
  (void)journal_.append({p.extents.get(), p.count}, p.lines, base_);
  p.count = p.lines = 0;
  if (committer_sleeps() && !seeded_bug("file_committer_not_woken")) [[unlikely]]
    wake_committer();
}

bool file_media::checkpoint_step() noexcept {
  const std::lock_guard guard(image_lock_);
  return checkpoint_.step();
}

mark_t file_media::mark() noexcept {
  // A drain that failed has appended nothing, so the end of the journal would be a mark without it.
  return failed() ? UINT64_MAX : journal_.appended();
}

bool file_media::has_room() const noexcept {
  // There must be room for the largest record and a filler before it.
  const std::uint64_t used = journal_.appended() - journal_.tail();
  return journal_.size() - used >= 2 * file_format::record_bytes_max(journal_.size());
}

// --- growing and closing ---------------------------------------------------------------------

result<void> file_media::grow(std::uint64_t size) {
  if (kind_ != kind::driver)
    return error{errc::unsupported, "region file " + path_ + ": it is not open for writing"};
  hook_point("file_grow");
  const std::lock_guard guard(image_lock_);
  if (auto now = status(); !now) return now.error();
  const std::uint64_t old = this->size();
  auto grown =
      detail::checked_growth(size, old, memory_.size(), file_format::image_size_unit, path_);
  if (!grown) return grown.error();
  if (*grown == old) return {};
  if (auto done = memory_.commit_memory(old, *grown); !done) return done.error();
  const std::uint64_t offset = container_.now().image_offset;
  const auto failed = [&](const char* what, int e) {
    failure_.fail(what, e);
    return status();
  };
  if (int e = parts_.image->allocate(offset + old, offset + *grown); e != 0)
    return detail::file_error(
        "region file " + path_ + ": cannot grow it to " + std::to_string(*grown) + " bytes", e);
  if (int e = parts_.image->sync(); e != 0)
    // [growth-before-header] Crash between: the file is longer than its header says.
    return failed("a sync of the grown file", e);
  const int e =
      container_.update(*parts_.image, [&](file_format::header& h) { h.image_size = *grown; });
  if (e != 0) return failed("a write of the header", e); // [growth-before-header]
  journal_.expect_file_bytes(offset + *grown);
  size_ = *grown;
  return {};
}

result<void> file_media::close() {
  if (base_ == nullptr) return {};
  stop_threads();
  if (kind_ == kind::driver) {
    while (commit_step()) {
    }
    while (checkpoint_step()) {
    }
  }
  const result<void> ended = status();
  kind_ = kind::visible;
  base_ = nullptr;
  size_ = 0;
  memory_ = detail::address_range();
  parts_.image.reset();
  parts_.journal.reset();
  return ended;
}

file_media::~file_media() {
  stop_threads();
}

// --- threads ---------------------------------------------------------------------------------

result<void> file_media::start_threads(int cpu) {
  cpus_ = processors;
  if (cpu >= 0) {
    const bool allowed = cpu < CPU_SETSIZE && CPU_ISSET(static_cast<std::size_t>(cpu), &processors);
    if (!allowed)
      return error{errc::invalid_argument, "region file " + path_ + ": journal_cpu " +
                                               std::to_string(cpu) +
                                               ": this process was started without that CPU; "
                                               "expected one that `taskset -cp` of it lists"};
    CPU_ZERO(&cpus_);
    CPU_SET(static_cast<std::size_t>(cpu), &cpus_);
  }
  // Signals belong to the application, on threads that it knows.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  committer_ = std::thread([this] { commit_loop(); });
  checkpointer_ = std::thread([this] { checkpoint_loop(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {};
}

void file_media::enter_background_thread(const char* name) const noexcept {
  (void)pthread_setaffinity_np(pthread_self(), sizeof cpus_, &cpus_);
  (void)pthread_setname_np(pthread_self(), name);
}

void file_media::stop_threads() noexcept {
  {
    const std::lock_guard guard(wake_lock_);
    // [stop-set] Without it a thread could miss what the stopping thread stored before.
    stop_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
  drained_.notify_one();
  if (committer_.joinable()) committer_.join();
  if (checkpointer_.joinable()) checkpointer_.join();
}

void file_media::commit_loop() noexcept {
  enter_background_thread("cr-commit");
  idle_policy policy(idle_mode::yield, committer_sleep_us_max);
  // [stop-read] Without it this thread could miss what the stopping thread stored before.
  while (!stop_.load(std::memory_order_acquire)) {
    if (journal_.commit_step())
      policy.busy();
    else
      policy.idle();
    const std::uint64_t used = journal_.durable() - journal_.tail();
    if (used < journal_.size() / 4 && !(used > 0 && journal_.awaited())) {
      if (policy.sleep_us() == committer_sleep_us_max) sleep_until_drain();
      continue;
    }
    // [checkpoint-wanted] Without it the request for this checkpoint could be lost or doubled.
    if (wanted_.exchange(true, std::memory_order_acq_rel)) continue;
    { const std::lock_guard guard(wake_lock_); }
    wake_.notify_one();
  }
}

// While the committer sleeps here, no thread waits for room: the journal is at most a quarter full,
// and what would fill it is a drain.
void file_media::sleep_until_drain() noexcept {
  std::unique_lock guard(wake_lock_);
  // [sleep-or-wake] Without it the committer could miss a drain whose thread misses its sleep.
  committer_sleeps_.store(true, std::memory_order_seq_cst);
  drained_.wait(guard, [this] {
    // [stop-read]
    return stop_.load(std::memory_order_acquire) || !journal_.all_committed();
  });
  committer_sleeps_.store(false, std::memory_order_seq_cst); // [sleep-or-wake]
}

void file_media::wake_committer() noexcept {
  // The committer holds the lock from before it looks until it sleeps, so the wake comes after.
  { const std::lock_guard guard(wake_lock_); }
  drained_.notify_one();
}

void file_media::checkpoint_loop() noexcept {
  enter_background_thread("cr-checkpoint");
  std::unique_lock guard(wake_lock_);
  for (;;) {
    wake_.wait(guard, [this] {
      // [stop-read] [checkpoint-taken]
      return stop_.load(std::memory_order_acquire) || wanted_.load(std::memory_order_acquire);
    });
    if (stop_.load(std::memory_order_acquire)) return; // [stop-read]
    guard.unlock();
    (void)checkpoint_step();
    // [checkpoint-taken] Without it the committer could ask again before this checkpoint is
    // visible.
    wanted_.store(false, std::memory_order_release);
    guard.lock();
  }
}

} // namespace chainring
