// SPDX-License-Identifier: BSD-3-Clause
// The watch: a signal handler, and the table of pages that it and the owners share.
//
// Ordering labels:
//   [failure-offset-set]  The handler stores the offset of the failure with release before it puts
//     the page of zeros in place; pairs with [failure-offset-read].
//   [failure-offset-read]  A thread loads that offset with acquire before it takes a mark; pairs
//     with [failure-offset-set].
//   [watch-listed]  begin() fills the watch and then lists it in a slot with release; end() takes
//     it out; pairs with [watch-found].
//   [watch-found]  The handler loads the slot with acquire and reads the watch through it; pairs
//     with [watch-listed].
//   [loss-counted]  The handler marks the page as lost and then increments losses() with release
//     before it puts the page of zeros in place; pairs with [losses-read] and [losses-read-behind].
//   [tolerated-set]  tolerate_loss() stores the end of the tolerated range with release, behind its
//     beginning and behind the requirements made before; pairs with [tolerated-read].
//   [tolerated-read]  The handler loads the end of the range with acquire and then its beginning;
//     pairs with [tolerated-set].
//   [page-state]  Owners and the handler change the state of a page by exchange, so that it becomes
//     required or lost, whichever comes first; pairs with [page-state].
//   [loss-noted]  The handler counts a loss and notes its offset with release; pairs with
//     [loss-note-read].
//   [loss-note-read]  lost_pages() and lost_page() load the count and the offsets with acquire;
//     pairs with [loss-noted]. An offset may appear a moment after its count.
#include "media/memory_fault.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/cacheline.h"

namespace chainring::detail {

namespace {

constexpr std::size_t watches_max = 64;
std::array<std::atomic<memory_watch*>, watches_max> watches;
struct sigaction before;

void on_bus_error(int signal, siginfo_t* info, void* context) {
  if (memory_watch::handle(info->si_addr)) return;
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr)
    return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
    return before.sa_handler(signal);
  // The memory is not ours: restore the default action, so that the access is made again and ends
  // the process.
  struct sigaction end {};
  end.sa_handler = SIG_DFL;
  (void)sigaction(signal, &end, nullptr);
  // a signal that was sent, not caused by an access, arrives again when this returns
  (void)raise(signal);
}

void install() noexcept {
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&ours.sa_mask);
  (void)sigaction(SIGBUS, &ours, &before);
}

} // namespace

bool memory_watch::handle(void* address) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  for (auto& slot : watches) {
    // [watch-found] Without it the handler could read a watch that is not filled yet.
    memory_watch* w = slot.load(std::memory_order_acquire);
    if (w == nullptr) continue;
    const auto base = reinterpret_cast<std::uintptr_t>(w->base_);
    if (at < base || at - base >= w->size_) continue;
    if (!w->tolerated(at - base)) {
      std::uint64_t first = none;
      // [failure-offset-set] Without it another thread could read the zeros put in place below and
      // send what it made of them.
      // [failure-offset-set]
      (void)w->first_.compare_exchange_strong(first, at - base, std::memory_order_acq_rel,
                                              std::memory_order_acquire);
      expect_broken_invariants();
    }
    const int kept = errno;
    void* page = w->base_ + (at - base) / w->unit_ * w->unit_;
    const bool mapped = mmap(page, w->unit_, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    errno = kept;
    return mapped;
  }
  return false;
}

// Called in the handler. Returns true if the page may be lost; it counts as lost before this
// returns. Two threads may meet the same page. Each puts zeros there and increments losses()
// before, so that no thread takes stores which the later zeros replace for stores that were kept.
bool memory_watch::tolerated(std::uint64_t offset) noexcept {
  if (pages_.data() == nullptr) return false;
  const std::uint64_t page = offset / unit_;
  // [tolerated-read] Without it the handler could tolerate the loss of a page that was required
  // before.
  if (page >= tolerated_to_.load(std::memory_order_acquire) ||
      page < tolerated_from_.load(std::memory_order_relaxed)) // [tolerated-read]
    return false;
  std::uint8_t state = 0;
  // [page-state] Without it a page could count as lost and be required at once.
  if (pages_[page].compare_exchange_strong(state, is_lost, std::memory_order_acq_rel,
                                           std::memory_order_acquire)) {
    // [loss-noted] Without it an operator could be shown a wrong offset.
    const std::uint64_t n = lost_count_.fetch_add(1, std::memory_order_acq_rel);
    // [loss-noted]
    if (n < lost_at_.size()) lost_at_[n].store(offset + 1, std::memory_order_release);
  } else if (state != is_lost) {
    return false;
  }
  // [loss-counted] Without it a message that was stored into the zeros could be acknowledged.
  losses_->fetch_add(1, std::memory_order_release);
  return true;
}

// --- the calls of owners -------------------------------------------------------------------------

memory_watch::page_range memory_watch::pages_of(const void* from, std::uint64_t n) const noexcept {
  const auto at = static_cast<std::uint64_t>(static_cast<const std::byte*>(from) - base_);
  return {at / unit_, (at + n + unit_ - 1) / unit_};
}

void memory_watch::tolerate_loss(const void* from, std::uint64_t n) noexcept {
  if (!begun_) return;
  const auto at = static_cast<std::uint64_t>(static_cast<const std::byte*>(from) - base_);
  tolerated_from_.store(align_up(at, unit_) / unit_, std::memory_order_relaxed); // [tolerated-set]
  // [tolerated-set] Without it the handler could see the new end with an old beginning.
  tolerated_to_.store((at + n) / unit_, std::memory_order_release);
}

// Reads a byte of the page, one that belongs to the caller. Returns true if the page is lost.
bool memory_watch::look(std::uint64_t page, const void* from) noexcept {
  page_state& state = pages_[page];
  if (state.load(std::memory_order_acquire) == is_lost) return true; // [page-state]
  const std::byte* own =
      std::max<const std::byte*>(base_ + page * unit_, static_cast<const std::byte*>(from));
  (void)*static_cast<const volatile std::byte*>(own);
  return state.load(std::memory_order_acquire) == is_lost; // [page-state]
}

bool memory_watch::lost(const void* from, std::uint64_t n) noexcept {
  if (!begun_ || pages_.data() == nullptr || n == 0) return false;
  const page_range r = pages_of(from, n);
  bool any = false;
  for (std::uint64_t page = r.first; page < r.end; ++page)
    any |= look(page, from);
  return any;
}

bool memory_watch::require(const void* from, std::uint64_t n) noexcept {
  if (!begun_ || pages_.data() == nullptr || n == 0) return true;
  const page_range r = pages_of(from, n);
  for (std::uint64_t page = r.first; page < r.end; ++page) {
    std::uint8_t now =
        look(page, from) ? is_lost : pages_[page].load(std::memory_order_acquire); // [page-state]
    while (now < required_max &&
           !pages_[page].compare_exchange_weak(now, static_cast<std::uint8_t>(now + 1),
                                               std::memory_order_acq_rel,    // [page-state]
                                               std::memory_order_acquire)) { // [page-state]
    }
    if (now != is_lost) continue;
    while (page-- > r.first)
      unrequire_page(page);
    return false;
  }
  return true;
}

void memory_watch::unrequire_page(std::uint64_t page) noexcept {
  std::uint8_t now = pages_[page].load(std::memory_order_acquire); // [page-state]
  while (now != 0 && now < required_max &&
         !pages_[page].compare_exchange_weak(now, static_cast<std::uint8_t>(now - 1),
                                             std::memory_order_acq_rel,    // [page-state]
                                             std::memory_order_acquire)) { // [page-state]
  }
}

void memory_watch::unrequire(const void* from, std::uint64_t n) noexcept {
  if (!begun_ || pages_.data() == nullptr || n == 0) return;
  const page_range r = pages_of(from, n);
  for (std::uint64_t page = r.first; page < r.end; ++page)
    unrequire_page(page);
}

std::uint64_t memory_watch::lost_pages() const noexcept {
  // [loss-note-read] Without it an operator could be shown an offset that is not stored yet.
  return lost_count_.load(std::memory_order_acquire);
}

std::uint64_t memory_watch::lost_page(std::uint64_t n) const noexcept {
  // An offset that is not stored yet gives `none`.
  // [loss-note-read]
  return n < lost_at_.size() ? lost_at_[n].load(std::memory_order_acquire) - 1 : none;
}

result<void> memory_watch::status(const std::string& path) const {
  const std::uint64_t at = first_offset();
  if (at == none) return {};
  return error{errc::io, "region file " + path + ": its memory at offset " + std::to_string(at) +
                             " is gone: the file was cut short, or the memory is damaged; nothing "
                             "more is acknowledged or delivered from it, restore it and open it "
                             "again"};
}

bool memory_watch::begin(std::byte* base, std::uint64_t size, std::uint64_t unit,
                         std::atomic<std::uint64_t>& losses) noexcept {
  static const bool installed = (install(), true);
  (void)installed;
  base_ = base;
  size_ = size;
  unit_ = unit;
  losses_ = &losses;
  (void)pages_.make((size + unit - 1) / unit); // if this fails, nothing is tolerated
  begun_ = true;
  for (auto& slot : watches) {
    memory_watch* empty = nullptr;
    // [watch-listed] Without it the handler could read a watch that is not filled yet.
    if (slot.compare_exchange_strong(empty, this, std::memory_order_acq_rel,
                                     std::memory_order_acquire))
      return true;
  }
  return false;
}

void memory_watch::end() noexcept {
  begun_ = false;
  for (auto& slot : watches) {
    memory_watch* mine = this;
    (void)slot.compare_exchange_strong(mine, nullptr, std::memory_order_acq_rel, // [watch-listed]
                                       std::memory_order_acquire);
  }
}

} // namespace chainring::detail
