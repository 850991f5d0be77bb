// SPDX-License-Identifier: BSD-3-Clause
/// Recording one life of a simulated disk.
///
/// Each seam call is recorded under one lock, just before it takes effect on the calling thread; an
/// exchange takes effect under the lock too. The trace's order is therefore an order in which the
/// stores of one word became visible, and a store that was made because another was seen comes
/// after it.
#include "sim_life.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

#include "base/hook.h"

namespace chainring::detail {

namespace {

constexpr std::uint64_t page_size = 4096;
constexpr std::uint16_t nobody = 0xffff;

// Words that other threads may be storing.
std::uint64_t peek(const std::byte* at) noexcept {
  auto* word = const_cast<std::uint64_t*>(reinterpret_cast<const std::uint64_t*>(at));
  return std::atomic_ref(*word).load();
}

std::byte* map_file(int fd, std::uint64_t size, int flags) {
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(at);
}

int pagemap_fd() noexcept {
  // Opened once a process: a forked child must not read its parent's.
  static std::mutex lock;
  static pid_t owner = 0;
  static int fd = -1;
  const std::lock_guard guard(lock);
  if (owner != getpid()) {
    if (fd >= 0) close(fd);
    fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    owner = getpid();
  }
  return fd;
}

} // namespace

template <class F> void for_each_touched_page(const std::byte* base, std::uint64_t size, F page) {
  constexpr std::uint64_t present = 1ull << 63, swapped = 1ull << 62, of_file = 1ull << 61;
  constexpr std::uint64_t chunk = 512;
  std::uint64_t bits[chunk];
  const int fd = pagemap_fd();
  for (std::uint64_t at = 0; at < size; at += chunk * page_size) {
    const std::uint64_t pages = std::min(chunk, (size - at + page_size - 1) / page_size);
    const auto first = reinterpret_cast<std::uintptr_t>(base + at) / page_size;
    const ssize_t got = fd < 0 ? -1 : pread(fd, bits, pages * 8, static_cast<off_t>(first * 8));
    const bool known = got == static_cast<ssize_t>(pages * 8);
    for (std::uint64_t i = 0; i < pages; ++i)
      if (!known || ((bits[i] & (present | swapped)) != 0 && (bits[i] & of_file) == 0))
        page(at + i * page_size);
  }
}

sim_store::sim_store(std::uint64_t size_in, std::uint64_t size_max_in, std::string path_in)
    : size(size_in), size_max(size_max_in), path(std::move(path_in)) {
  fd = memfd_create("chainring-sim", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(size_max)) != 0) throw std::bad_alloc();
  shared = map_file(fd, size_max, MAP_SHARED);
}

sim_store::~sim_store() {
  for (const auto& [at, changed] : mappings)
    munmap(at, size_max);
  munmap(shared, size_max);
  ::close(fd);
}

std::byte* sim_store::take_mapping() {
  constexpr std::size_t mappings_min = 5; // three lives' worth of addresses, each with a shadow
  const std::lock_guard guard(lock);
  std::byte* m = nullptr;
  if (mappings.size() < mappings_min || idle.empty()) {
    m = map_file(fd, size_max, MAP_PRIVATE | MAP_NORESERVE);
    mappings.emplace(m, 0);
  } else {
    m = idle.front();
    idle.pop_front();
    if (const std::uint64_t changed = mappings[m]; changed != 0)
      std::memcpy(m, shared, std::max(changed, size));
  }
  return m;
}

void sim_store::give_back(std::byte* mapping, std::uint64_t changed) noexcept {
  // Copying a small disk takes a fraction of the time that the kernel takes to drop its pages and
  // to copy each of them again when it is written.
  constexpr std::uint64_t copied_max = 512 << 10;
  const bool copied = changed <= copied_max;
  if (!copied) madvise(mapping, size_max, MADV_DONTNEED);
  const std::lock_guard guard(lock);
  mappings[mapping] = copied ? changed : 0;
  idle.push_back(mapping);
}

sim_life::sim_life(std::shared_ptr<sim_disk> disk_in, bool recorded_in, bool settle_in)
    : disk(std::move(disk_in)), store(*disk->store_), recorded(recorded_in),
      settle_at_end(settle_in), size(store.size) {
  static std::atomic<std::uint64_t> ids{0};
  id_ = ids.fetch_add(1) + 1;
  base = store.take_mapping();
  if (recorded) shadow_ = store.take_mapping();
}

sim_life::~sim_life() {
  if (settle_at_end) settle();
  store.give_back(base, size);
  if (shadow_ != nullptr) store.give_back(shadow_, size);
}

unsigned sim_life::thread_index() noexcept {
  thread_local std::uint64_t life = 0;
  thread_local unsigned index = 0;
  if (life != id_) {
    life = id_;
    const auto [at, added] = threads_.try_emplace(std::this_thread::get_id(), threads_.size());
    index = at->second;
    if (added) in_flight_.emplace_back();
  }
  in_flight_[index] = {}; // its last call has taken effect by now
  return index;
}

void sim_life::violation(const char* what, std::uint64_t offset, const site& s) {
  char text[512];
  std::snprintf(text, sizeof text, "%s at offset 0x%llx, from %s:%u", what,
                static_cast<unsigned long long>(offset), s.file_name(), s.line());
  if (violations.size() < 16) violations.emplace_back(text);
}

bool sim_life::inside(const void* at, std::size_t n, const char* what, const site& s) {
  const auto* from = static_cast<const std::byte*>(at);
  if (from >= base && n <= size && from <= base + size - n) return true;
  violation(what, static_cast<std::uint64_t>(from - base), s);
  return false;
}

bool sim_life::is_scratch(std::uint64_t offset) const noexcept {
  auto after = scratch_.upper_bound(offset);
  return after != scratch_.begin() && std::prev(after)->second > offset;
}

bool sim_life::in_flight(std::uint64_t offset) const noexcept {
  for (const span_of& f : in_flight_)
    if (f.offset <= offset && offset < f.end) return true;
  return false;
}

void sim_life::record(sim_call call, unsigned thread, std::uint64_t offset, std::uint64_t count,
                      const site& s) {
  trace.events.push_back(
      {call, static_cast<std::uint16_t>(thread), offset, count, trace.values.size(), s});
}

void sim_life::record_words(sim_call call, unsigned thread, std::uint64_t offset,
                            const std::uint64_t* values, std::uint64_t n, const site& s) {
  record(call, thread, offset, n, s);
  trace.values.insert(trace.values.end(), values, values + n);
  std::memcpy(shadow_ + offset, values, n * 8);
}

void sim_life::find_direct(std::uint64_t offset, std::uint64_t end, unsigned thread,
                           const site& s) {
  std::uint64_t changed[page_size / 8];
  std::uint64_t n = 0;
  std::uint64_t first = offset;
  for (std::uint64_t at = offset; at < end; at += 8) {
    std::uint64_t then;
    std::memcpy(&then, shadow_ + at, 8);
    const std::uint64_t now = peek(base + at);
    if (now != then && !is_scratch(at) && !in_flight(at)) {
      if (n == 0) first = at;
      changed[n++] = now;
      if (n < page_size / 8) continue;
    }
    if (n > 0) record_words(sim_call::direct, thread, first, changed, n, s);
    n = 0;
  }
  if (n > 0) record_words(sim_call::direct, thread, first, changed, n, s);
}

void sim_life::find_direct_everywhere(const site& s) {
  for_each_touched_page(base, size, [&](std::uint64_t page) {
    find_direct(page, std::min(page + page_size, size), nobody, s);
  });
}

void sim_life::on_store(const std::uint64_t* word, std::uint64_t value, const site& s) noexcept {
  hook_point("seam.store");
  if (user != nullptr) user->on_store(word, value, s);
  const std::lock_guard guard(lock);
  const unsigned thread = thread_index();
  if (!inside(word, 8, "a store outside the region", s)) return;
  const auto offset = static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(word) - base);
  if (offset % 8 != 0) return violation("a store that is not 8-byte aligned", offset, s);
  record_words(sim_call::store, thread, offset, &value, 1, s);
  in_flight_[thread] = {offset, offset + 8};
}

bool sim_life::on_exchange(std::uint64_t* word, std::uint64_t& expected, std::uint64_t value,
                           const site& s) noexcept {
  hook_point("seam.exchange");
  const std::lock_guard guard(lock);
  const unsigned thread = thread_index();
  const auto offset = static_cast<std::uint64_t>(reinterpret_cast<std::byte*>(word) - base);
  const bool in = inside(word, 8, "a compare_exchange outside the region", s);
  if (in && offset % 8 != 0) violation("a compare_exchange that is not 8-byte aligned", offset, s);
  if (!std::atomic_ref(*word).compare_exchange_strong(expected, value)) return false;
  if (user != nullptr) user->on_store(word, value, s);
  if (in && offset % 8 == 0) record_words(sim_call::store, thread, offset, &value, 1, s);
  return true;
}

void sim_life::on_write(const void* to, const void* from, std::size_t n, const site& s) noexcept {
  hook_point("seam.write");
  if (user != nullptr) user->on_write(to, from, n, s);
  const std::lock_guard guard(lock);
  const unsigned thread = thread_index();
  if (n == 0 || !inside(to, n, "a write outside the region", s)) return;
  const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(to) - base);
  const std::uint64_t first = offset / 8 * 8, end = align_up(offset + n, 8);
  find_direct(first, end, nobody, s); // or the write's first and last word would hide a change
  std::vector<std::uint64_t> words((end - first) / 8);
  std::memcpy(words.data(), shadow_ + first, end - first);
  std::memcpy(reinterpret_cast<std::byte*>(words.data()) + (offset - first), from, n);
  record_words(sim_call::write, thread, first, words.data(), words.size(), s);
  in_flight_[thread] = {first, end};
}

bool sim_life::on_flush(const void* from, std::size_t n, const site& s) noexcept {
  hook_point("seam.flush");
  if (user != nullptr && !user->on_flush(from, n, s)) return false;
  const std::lock_guard guard(lock);
  const unsigned thread = thread_index();
  if (n == 0 || !inside(from, n, "a flush outside the region", s)) return true;
  auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(from) - base);
  const std::uint64_t end = align_up(offset + n, cacheline_size);
  offset = offset / cacheline_size * cacheline_size;
  for (std::uint64_t line = offset; line < end; line += cacheline_size)
    if (is_scratch(line)) {
      violation("a flush of scratch", line, s);
      break;
    }
  find_direct(offset, end, thread, s);
  record(sim_call::flush, thread, offset, end - offset, s);
  return true;
}

bool sim_life::on_drain(const site& s) noexcept {
  hook_point("seam.drain");
  if (user != nullptr && !user->on_drain(s)) return false;
  const std::lock_guard guard(lock);
  const unsigned thread = thread_index();
  find_direct_everywhere(s);
  record(sim_call::drain, thread, 0, 0, s);
  return true;
}

void sim_life::note(std::uint64_t value, const site& s) noexcept {
  const std::lock_guard guard(lock);
  const unsigned thread = thread_index();
  if (!recorded) return;
  find_direct_everywhere(s);
  record(sim_call::note, thread, value, 0, s);
}

mark_t sim_life::mark() noexcept {
  const std::lock_guard guard(lock);
  const mark_t taken = ++marks_;
  if (holding_) held_.push_back({taken, trace.events.size()});
  return taken;
}

bool sim_life::durable(mark_t mark) noexcept {
  const std::lock_guard guard(lock);
  return !holding_ || mark <= reached_;
}

void sim_life::hold_marks(const site& s) {
  const std::lock_guard guard(lock);
  holding_ = true;
  reached_ = marks_;
  if (recorded) record(sim_call::hold, thread_index(), 0, 0, s);
}

void sim_life::reach_marks(mark_t through, bool holding, const site& s) {
  const std::lock_guard guard(lock);
  std::uint64_t covered = 0;
  for (const held_mark& h : held_)
    if (h.mark <= through) covered = std::max(covered, h.events);
  std::erase_if(held_, [&](const held_mark& h) { return h.mark <= through; });
  reached_ = std::max(reached_, std::min<mark_t>(through, marks_));
  if (holding_ && !holding) covered = trace.events.size();
  holding_ = holding_ && holding;
  if (recorded) record(sim_call::reach, thread_index(), covered, holding_ ? 0 : 1, s);
}

void sim_life::scratch(const void* from, std::size_t n, bool declared) noexcept {
  const std::lock_guard guard(lock);
  const site s = site::current();
  const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(from) - base);
  if (!inside(from, n, "scratch outside the region", s)) return;
  if (offset % cacheline_size != 0 || n % cacheline_size != 0)
    return violation("scratch that shares a line with durable bytes", offset, s);
  if (!recorded || n == 0) return;
  const unsigned thread = thread_index();
  const std::uint64_t end = offset + n;
  // Cut the range out of what is declared, then add it where it is declared now.
  auto at = scratch_.upper_bound(offset);
  if (at != scratch_.begin()) --at;
  while (at != scratch_.end() && at->first < end) {
    const auto [start, stop] = *at;
    if (stop <= offset) {
      ++at;
      continue;
    }
    at = scratch_.erase(at);
    if (start < offset) scratch_.emplace(start, offset);
    if (stop > end) at = scratch_.emplace(end, stop).first;
  }
  if (declared) scratch_.emplace(offset, end);
  record(declared ? sim_call::scratch : sim_call::retract, thread, offset, n, s);
  if (declared) return;
  std::vector<std::uint64_t> words(n / 8);
  for (std::size_t i = 0; i < words.size(); ++i)
    words[i] = peek(base + offset + 8 * i);
  record_words(sim_call::direct, nobody, offset, words.data(), words.size(), s);
}

void sim_life::settle() noexcept {
  const std::lock_guard guard(lock);
  for_each_touched_page(base, store.size_max, [&](std::uint64_t page) {
    if (page < size) std::memcpy(store.shared + page, base + page, page_size);
  });
  store.size = size;
  madvise(base, store.size_max, MADV_DONTNEED);
  if (shadow_ != nullptr) madvise(shadow_, store.size_max, MADV_DONTNEED);
  trace = {};
  for (span_of& f : in_flight_)
    f = {};
}

void sim_life::poke(std::uint64_t offset, const void* from, std::size_t n) noexcept {
  std::memcpy(base + offset, from, n);
  if (shadow_ != nullptr) std::memcpy(shadow_ + offset, from, n);
}

result<void> sim_life::grow(std::uint64_t to) {
  const std::lock_guard guard(lock);
  to = align_up(to, page_size);
  if (to < size) return error{errc::invalid_argument, "grow: a region never gets shorter"};
  if (to > store.size_max)
    return error{errc::no_space, "grow: past the " + std::to_string(store.size_max) +
                                     " bytes reserved when " + store.path + " was opened"};
  const unsigned thread = thread_index();
  if (recorded) record(sim_call::grow, thread, to, 0, site::current());
  size = to;
  return {};
}

} // namespace chainring::detail
