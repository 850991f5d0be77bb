// SPDX-License-Identifier: BSD-3-Clause
//
// Edges
//   N1 -> N2   the offset of the failure, before the page of zeros: who reads the zeros, on any
//              thread, finds the medium failed before it takes a mark
//   N3 -> N4   a watch whole before its slot names it; the handler reads it through the slot
//   N5 -> M8   a page lost and losses() counted up, before the page of zeros: who reads the zeros,
//              or what was stored over them, on any thread, finds losses() changed and then the
//              page lost (M8 and M9: media.h)
//   N6 -> N7   the tolerated range's end behind its beginning and behind the requirements made
//              before
//   N8         a page's state, changed by exchange: required or lost, whichever came first
//   N9 -> N10  a loss noted, before whoever has counted it asks where it was; it may be a moment
//              late
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
  // As if nobody had looked: the access is made again and ends the process.
  struct sigaction end {};
  end.sa_handler = SIG_DFL;
  (void)sigaction(signal, &end, nullptr);
  (void)raise(signal); // one that was sent comes again when this returns
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
    memory_watch* w = slot.load(std::memory_order_acquire); // [N4] pairs with [N3]
    if (w == nullptr) continue;
    const auto base = reinterpret_cast<std::uintptr_t>(w->base_);
    if (at < base || at - base >= w->size_) continue;
    if (!w->tolerated(at - base)) {
      std::uint64_t first = none;
      // [N1] release: pairs with [N2]. Without it another thread could read the zeros put below and
      //      send what it made of them.
      (void)w->first_.compare_exchange_strong(first, at - base, std::memory_order_acq_rel, // [N1]
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

// In the handler. True: the page may be lost, and counts as such before this returns. Two threads
// may come upon one page: each puts zeros there, and counts losses() up before, so that nobody
// takes what the later zeros replace for what it has seen.
bool memory_watch::tolerated(std::uint64_t offset) noexcept {
  if (pages_.data() == nullptr) return false;
  const std::uint64_t page = offset / unit_;
  if (page >= tolerated_to_.load(std::memory_order_acquire) || // [N7] pairs with [N6]
      page < tolerated_from_.load(std::memory_order_relaxed))  // [N7] behind the end's
    return false;
  std::uint8_t state = 0;
  if (pages_[page].compare_exchange_strong(state, is_lost, std::memory_order_acq_rel,  // [N8]
                                           std::memory_order_acquire)) {               // [N8]
    const std::uint64_t n = lost_count_.fetch_add(1, std::memory_order_acq_rel);       // [N9]
    if (n < lost_at_.size()) lost_at_[n].store(offset + 1, std::memory_order_release); // [N9]
  } else if (state != is_lost) {
    return false;
  }
  // [N5] release: pairs with [M8]. Without it a message that was stored to the zeros is
  // acknowledged.
  losses_->fetch_add(1, std::memory_order_release);
  return true;
}

// --- the owner's part ----------------------------------------------------------------------------

memory_watch::page_range memory_watch::pages_of(const void* from, std::uint64_t n) const noexcept {
  const auto at = static_cast<std::uint64_t>(static_cast<const std::byte*>(from) - base_);
  return {at / unit_, (at + n + unit_ - 1) / unit_};
}

void memory_watch::tolerate_loss(const void* from, std::uint64_t n) noexcept {
  if (!begun_) return;
  const auto at = static_cast<std::uint64_t>(static_cast<const std::byte*>(from) - base_);
  tolerated_from_.store(align_up(at, unit_) / unit_, std::memory_order_relaxed); // [N6] as its end
  tolerated_to_.store((at + n) / unit_, std::memory_order_release); // [N6] pairs with [N7]
}

// Reads a byte of the page, one of the caller's own. True: the page is lost.
bool memory_watch::look(std::uint64_t page, const void* from) noexcept {
  page_state& state = pages_[page];
  if (state.load(std::memory_order_acquire) == is_lost) return true; // [N8]
  const std::byte* own =
      std::max<const std::byte*>(base_ + page * unit_, static_cast<const std::byte*>(from));
  (void)*static_cast<const volatile std::byte*>(own);
  return state.load(std::memory_order_acquire) == is_lost; // [N8]
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
        look(page, from) ? is_lost : pages_[page].load(std::memory_order_acquire); // [N8]
    while (now < required_max &&
           !pages_[page].compare_exchange_weak(now, static_cast<std::uint8_t>(now + 1),
                                               std::memory_order_acq_rel,    // [N8]
                                               std::memory_order_acquire)) { // [N8]
    }
    if (now != is_lost) continue;
    while (page-- > r.first)
      unrequire_page(page);
    return false;
  }
  return true;
}

void memory_watch::unrequire_page(std::uint64_t page) noexcept {
  std::uint8_t now = pages_[page].load(std::memory_order_acquire); // [N8]
  while (now != 0 && now < required_max &&
         !pages_[page].compare_exchange_weak(now, static_cast<std::uint8_t>(now - 1),
                                             std::memory_order_acq_rel,    // [N8]
                                             std::memory_order_acquire)) { // [N8]
  }
}

void memory_watch::unrequire(const void* from, std::uint64_t n) noexcept {
  if (!begun_ || pages_.data() == nullptr || n == 0) return;
  const page_range r = pages_of(from, n);
  for (std::uint64_t page = r.first; page < r.end; ++page)
    unrequire_page(page);
}

std::uint64_t memory_watch::lost_pages() const noexcept {
  return lost_count_.load(std::memory_order_acquire); // [N10] pairs with [N9]
}

std::uint64_t memory_watch::lost_page(std::uint64_t n) const noexcept {
  // [N10] pairs with [N9]; none while it is not there
  return n < lost_at_.size() ? lost_at_[n].load(std::memory_order_acquire) - 1 : none; // [N10]
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
  (void)pages_.make((size + unit - 1) / unit); // without: as if nothing were tolerated
  begun_ = true;
  for (auto& slot : watches) {
    memory_watch* empty = nullptr;
    if (slot.compare_exchange_strong(empty, this, std::memory_order_acq_rel, // [N3] pairs with [N4]
                                     std::memory_order_acquire))
      return true;
  }
  return false;
}

void memory_watch::end() noexcept {
  begun_ = false;
  for (auto& slot : watches) {
    memory_watch* mine = this;
    (void)slot.compare_exchange_strong(mine, nullptr, std::memory_order_acq_rel, // [N3]
                                       std::memory_order_acquire);
  }
}

} // namespace chainring::detail
