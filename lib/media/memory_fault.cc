// SPDX-License-Identifier: BSD-3-Clause
//
// Edges
//   N1 -> N2   the offset of the failure, before the page of zeros: who reads the zeros, on any
//              thread, finds the medium failed before it takes a mark
//   N3 -> N4   a watch whole before its slot names it; the handler reads it through the slot
#include "media/memory_fault.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <sys/mman.h>

#include "base/assert.h"

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
    std::uint64_t first = none;
    // [N1] release: pairs with [N2]. Without it another thread could read the zeros put below and
    //      send what it made of them.
    (void)w->first_.compare_exchange_strong(first, at - base, std::memory_order_acq_rel, // [N1]
                                            std::memory_order_acquire);
    expect_broken_invariants();
    const int kept = errno;
    void* page = w->base_ + (at - base) / w->unit_ * w->unit_;
    const bool mapped = mmap(page, w->unit_, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    errno = kept;
    return mapped;
  }
  return false;
}

result<void> memory_watch::status(const std::string& path) const {
  const std::uint64_t at = first_offset();
  if (at == none) return {};
  return error{errc::io, "region file " + path + ": its memory at offset " + std::to_string(at) +
                             " is gone: the file was cut short, or the memory is damaged; nothing "
                             "more is acknowledged or delivered from it, restore it and open it "
                             "again"};
}

bool memory_watch::begin(std::byte* base, std::uint64_t size, std::uint64_t unit) noexcept {
  static const bool installed = (install(), true);
  (void)installed;
  end();
  base_ = base;
  size_ = size;
  unit_ = unit;
  for (auto& slot : watches) {
    memory_watch* empty = nullptr;
    if (slot.compare_exchange_strong(empty, this, std::memory_order_acq_rel, // [N3] pairs with [N4]
                                     std::memory_order_acquire))
      return true;
  }
  return false;
}

void memory_watch::end() noexcept {
  for (auto& slot : watches) {
    memory_watch* mine = this;
    (void)slot.compare_exchange_strong(mine, nullptr, std::memory_order_acq_rel, // [N3]
                                       std::memory_order_acquire);
  }
}

} // namespace chainring::detail
