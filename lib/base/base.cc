// SPDX-License-Identifier: BSD-3-Clause
// The parts of lib/base that need no file of their own: assertions, CRC-32C, errors, waiting,
// thread slots.
//
// Ordering labels:
//   [loss-announced]  expect_broken_invariants() stores memory_lost with release before zeros
//     replace the lost page; pairs with [loss-noticed].
//   [loss-noticed]  assert_failed() loads memory_lost with acquire; pairs with [loss-announced].
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <rte_hash_crc.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/hook.h"
#include "base/idle.h"
#include "base/thread_slot.h"

namespace chainring {

namespace detail {

namespace {
std::atomic<bool> memory_lost{false};
}

void expect_broken_invariants() noexcept {
  // [loss-announced] Without it a thread that asserts because of the zeros could end the process.
  memory_lost.store(true, std::memory_order_release);
}

void assert_failed(const char* expression, const char* file, int line) noexcept {
  // [loss-noticed] Without it this thread could miss the loss that broke the invariant.
  if (memory_lost.load(std::memory_order_acquire)) {
    std::fprintf(stderr, "%s:%d: this thread stops, because memory was lost and with it: %s\n",
                 file, line, expression);
    for (;;)
      (void)pause();
  }
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expression);
  std::abort();
}

} // namespace detail

std::uint32_t detail::crc32c_any(std::uint32_t crc, const void* data, std::size_t n) noexcept {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint32_t state = ~crc;
  // rte_hash_crc() wants aligned words; take() copies them from any address.
  const auto take = [&]<class Word>(Word word) {
    std::memcpy(&word, at, sizeof word);
    at += sizeof word;
    return word;
  };
  for (; n >= sizeof(std::uint64_t); n -= sizeof(std::uint64_t))
    state = rte_hash_crc_8byte(take(std::uint64_t{}), state);
  if ((n & 4) != 0) state = rte_hash_crc_4byte(take(std::uint32_t{}), state);
  if ((n & 2) != 0) state = rte_hash_crc_2byte(take(std::uint16_t{}), state);
  if ((n & 1) != 0) state = rte_hash_crc_1byte(*at, state);
  return ~state;
}

const char* to_string(errc code) noexcept {
  switch (code) {
  case errc::invalid_argument:
    return "invalid argument";
  case errc::not_found:
    return "not found";
  case errc::exists:
    return "exists";
  case errc::busy:
    return "busy";
  case errc::io:
    return "input/output error";
  case errc::corrupt:
    return "corrupt";
  case errc::version:
    return "version";
  case errc::no_space:
    return "no space";
  case errc::unsupported:
    return "unsupported";
  case errc::read_only:
    return "read only";
  }
  return "unknown";
}

error system_error(errc code, std::string message, int errno_value) {
  message += ": ";
  message += std::strerror(errno_value);
  return {code, std::move(message)};
}

result<idle_mode> parse_idle_mode(std::string_view text) {
  if (text == "poll") return idle_mode::poll;
  if (text == "yield") return idle_mode::yield;
  if (text == "sleep") return idle_mode::sleep;
  return error{errc::invalid_argument,
               "idle mode '" + std::string(text) + "': expected poll, yield or sleep"};
}

namespace {
constexpr std::uint32_t idle_rounds_each = 64;
}

std::uint32_t idle_policy::sleep_us() const noexcept {
  std::uint32_t us = sleep_us_least;
  // In mode `yield` the first rounds yield the CPU and do not sleep.
  std::uint32_t slept = rounds_;
  if (mode_ == idle_mode::yield) slept -= std::min(slept, idle_rounds_each);
  for (; slept >= idle_rounds_each && us < sleep_us_max_; slept -= idle_rounds_each)
    us *= 2;
  return std::min(us, sleep_us_max_);
}

void idle_policy::idle() noexcept {
  hook_point("idle"); // a test's schedule may let another thread run here
  if (mode_ == idle_mode::poll) return;
  if (mode_ == idle_mode::yield && rounds_ < idle_rounds_each) {
    ++rounds_; // after so many rounds nothing is likely to come soon, so sleep from then on
    sched_yield();
    return;
  }
  const std::uint32_t us = sleep_us();
  if (us < sleep_us_max_) ++rounds_;
  // The kernel adds its timer slack, which is 50 us unless it was changed.
  const timespec t{0, static_cast<long>(us - sleep_us_least / 2) * 1000};
  nanosleep(&t, nullptr);
}

namespace {

std::mutex slots_lock;
std::array<bool, max_thread_slots> slots_used{};

struct slot_holder {
  unsigned slot;
  slot_holder() noexcept {
    const std::lock_guard guard(slots_lock);
    for (slot = 0; slot < max_thread_slots && slots_used[slot]; ++slot) {
    }
    CHAINRING_ASSERT(slot < max_thread_slots);
    slots_used[slot] = true;
  }
  ~slot_holder() {
    const std::lock_guard guard(slots_lock);
    slots_used[slot] = false;
  }
};

} // namespace

unsigned thread_slot() noexcept {
  thread_local const slot_holder holder;
  return holder.slot;
}

} // namespace chainring
