// SPDX-License-Identifier: BSD-3-Clause
// Chains and timers of the C binding.
//
// Ordering labels:
//   [chain-persisted]  chainring_chain_persist() flushes the bytes of the chains and drains before
//     it returns.
#include "c/handles.h"

using namespace chainring;
using namespace chainring::binding;

namespace {

chain from_c(chainring_chain c) noexcept {
  return {c.first, c.blocks};
}

} // namespace

chainring_status chainring_chain_allocate(chainring_region* region, uint64_t size,
                                          chainring_chain* out, size_t chains_max, size_t* chains) {
  if (region == nullptr || out == nullptr || chains_max == 0 || size == 0) return CHAINRING_INVALID;
  constexpr std::size_t most = 64;
  block_store& blocks = region->all->blocks();
  const std::uint64_t wanted = size > UINT64_MAX / 2 ? UINT64_MAX : blocks.blocks_for(size);
  chain got[most];
  if (wanted > block_store::blocks_max) return CHAINRING_FULL;
  const unsigned n = blocks.allocate(static_cast<std::uint32_t>(wanted),
                                     std::span(got).first(std::min(chains_max, most)));
  if (n == 0) return CHAINRING_FULL;
  for (unsigned i = 0; i < n; ++i)
    out[i] = {got[i].first, got[i].blocks};
  if (chains != nullptr) *chains = n;
  return CHAINRING_DONE;
}

chainring_status chainring_chain_release(chainring_region* region, const chainring_chain* chains,
                                         size_t count) {
  if (region == nullptr || (chains == nullptr && count != 0)) return CHAINRING_INVALID;
  block_store& blocks = region->all->blocks();
  for (const chainring_chain& c : std::span(chains, count))
    if (!blocks.valid(from_c(c))) return CHAINRING_INVALID;
  for (const chainring_chain& c : std::span(chains, count))
    blocks.release(from_c(c));
  return CHAINRING_DONE;
}

chainring_status chainring_chain_resize(chainring_region* region, chainring_chain* c,
                                        uint64_t size) {
  if (region == nullptr || c == nullptr || size == 0) return CHAINRING_INVALID;
  block_store& blocks = region->all->blocks();
  chain now = from_c(*c);
  if (!blocks.valid(now)) return CHAINRING_INVALID;
  const std::uint64_t wanted = size > UINT64_MAX / 2 ? UINT64_MAX : blocks.blocks_for(size);
  if (wanted > block_store::blocks_max || !blocks.resize(now, static_cast<std::uint32_t>(wanted)))
    return CHAINRING_FULL;
  *c = {now.first, now.blocks};
  return CHAINRING_DONE;
}

void* chainring_chain_address(chainring_region* region, chainring_chain c) {
  if (region == nullptr || !region->all->blocks().valid(from_c(c))) return nullptr;
  return region->all->blocks().address(from_c(c));
}

uint64_t chainring_chain_bytes(const chainring_region* region, chainring_chain c) {
  if (region == nullptr || !region->all->blocks().valid(from_c(c))) return 0;
  return region->all->blocks().size_of(from_c(c));
}

chainring_status chainring_chain_persist(chainring_region* region, const chainring_chain* chains,
                                         size_t count) {
  if (region == nullptr || (chains == nullptr && count != 0)) return CHAINRING_INVALID;
  block_store& blocks = region->all->blocks();
  for (const chainring_chain& c : std::span(chains, count))
    if (!blocks.valid(from_c(c))) return CHAINRING_INVALID;
  media& m = blocks.medium();
  // A drain covers so much of some media only.
  std::uint64_t undrained = 0;
  const std::uint64_t most = m.drain_bytes_max() / 2;
  for (const chainring_chain& c : std::span(chains, count)) {
    std::uint64_t left = blocks.size_of(from_c(c));
    for (const std::byte* at = blocks.address(from_c(c)); left != 0;) {
      const std::uint64_t n = std::min(left, most - undrained);
      // [chain-persisted] Without it a program could say that its bytes are safe when a crash takes
      // them.
      m.flush(at, n); // [chain-persisted]
      at += n;
      left -= n;
      undrained += n;
      if (undrained != most) continue;
      m.drain(); // in pieces [chain-persisted]
      undrained = 0;
    }
  }
  if (undrained != 0) m.drain(); // [chain-persisted]
  return m.failed() ? CHAINRING_FAILED : CHAINRING_DONE;
}

// --- timers -------------------------------------------------------------------------------------

chainring_timers* chainring_timers_create(uint32_t timers_max, chainring_error* error) {
  return handle_or_null<chainring_timers>(error, [&]() -> chainring_timers* {
    auto made = timer_set::create(timers_max);
    if (!made) {
      say(error, made.error().message);
      return nullptr;
    }
    return new chainring_timers{std::move(made).value()};
  });
}

void chainring_timers_destroy(chainring_timers* timers) {
  delete timers;
}

chainring_status chainring_timers_arm(chainring_timers* timers, uint64_t deadline_tsc,
                                      chainring_timer_function function, void* context,
                                      uint64_t argument, chainring_timer* out) {
  if (timers == nullptr || function == nullptr) return CHAINRING_INVALID;
  // The type says that the function does not throw, which no function of C does.
  const timer_handle h = timers->set->arm(
      deadline_tsc, reinterpret_cast<timer_set::callback>(function), context, argument);
  if (h == timer_handle{}) return CHAINRING_FULL;
  if (out != nullptr) *out = {h.index, h.generation};
  return CHAINRING_DONE;
}

chainring_status chainring_timers_cancel(chainring_timers* timers, chainring_timer timer) {
  if (timers == nullptr) return CHAINRING_INVALID;
  return timers->set->cancel({timer.index, timer.generation}) ? CHAINRING_DONE : CHAINRING_MISSING;
}

uint32_t chainring_timers_manage(chainring_timers* timers) {
  return timers == nullptr ? 0 : timers->set->manage();
}

uint32_t chainring_timers_armed(const chainring_timers* timers) {
  return timers == nullptr ? 0 : timers->set->armed();
}
