// SPDX-License-Identifier: BSD-3-Clause
// The parts of lib/base that need no file of their own: assertions, CRC-32C, errors, waiting,
// thread slots, and rows of grace periods that threads share.
//
// Ordering labels:
//   [loss-announced]  expect_broken_invariants() stores memory_lost with release before zeros
//     replace the lost page; pairs with [loss-noticed].
//   [loss-noticed]  assert_failed() loads memory_lost with acquire; pairs with [loss-announced].
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <pthread.h>
#include <rte_hash_crc.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#include <utility>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/grace.h"
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

void misused(const char* sentence, const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "chainring: wrong use: %s\n", sentence);
  assert_failed(expression, file, line);
}

void value_of_error(const error& why) noexcept {
  std::fprintf(stderr,
               "chainring: wrong use: the value of a result that has an error; ask ok() first. The "
               "error: %s\n",
               why.message.c_str());
  assert_failed("ok()", __FILE__, __LINE__);
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

/// Linux has at most 2^22 threads at one time, so numbers never run out. The bits take memory where
/// they are touched.
constexpr std::size_t numbers_max = 1u << 22;
constexpr unsigned word_bits = 64;
std::mutex numbers_lock;
std::array<std::uint64_t, numbers_max / word_bits> numbers_used{};

/// This thread's number plus one; 0: it has none.
constinit thread_local unsigned number_plus_one = 0;

void give_number_back(void* number) noexcept {
  const std::size_t n = reinterpret_cast<std::uintptr_t>(number) - 1;
  number_plus_one = 0;
  detail::slot_plus_one = 0;
  const std::lock_guard guard(numbers_lock);
  numbers_used[n / word_bits] &= ~(std::uint64_t{1} << n % word_bits);
}

[[gnu::noinline]] unsigned take_number() noexcept {
  // Values of a key are destroyed after all thread_local objects of a thread. So the destructors of
  // these may still use a structure, with the number that the thread had before.
  static const struct at_end_of_threads {
    pthread_key_t key = 0;
    const bool made = pthread_key_create(&key, give_number_back) == 0;
  } at_end;
  const std::lock_guard guard(numbers_lock);
  std::size_t i = 0;
  while (~numbers_used[i] == 0)
    CHAINRING_ASSERT(++i < numbers_used.size()); // Linux has fewer threads
  const auto bit = static_cast<unsigned>(std::countr_one(numbers_used[i]));
  numbers_used[i] |= std::uint64_t{1} << bit;
  number_plus_one = static_cast<unsigned>(i) * word_bits + bit + 1;
  // Where the system has no room for this value, the number is not given back, which costs a bit.
  if (at_end.made)
    (void)pthread_setspecific(at_end.key, reinterpret_cast<void*>(std::uintptr_t{number_plus_one}));
  return number_plus_one;
}

} // namespace

unsigned thread_slot() noexcept {
  const unsigned mine = number_plus_one;
  return (mine != 0 ? mine : take_number()) - 1;
}

unsigned detail::first_row() noexcept {
  const unsigned slot = thread_slot();
  if (slot >= max_thread_slots) return 0;
  unsigned seen = slots_seen.load(std::memory_order_relaxed); // [thread-slot-counted]
  while (seen <= slot &&
         // [thread-slot-counted] Without it a thread that looks at every row could overlook this
         // one.
         !slots_seen.compare_exchange_weak(seen, slot + 1,
                                           std::memory_order_seq_cst,    // [thread-slot-counted]
                                           std::memory_order_relaxed)) { // [thread-slot-counted]
  }
  return slot_plus_one = slot + 1;
}

// --- grace periods ------------------------------------------------------------------------------

detail::grace_periods::~grace_periods() {
  shared_rows* rows = shared_.load(std::memory_order_acquire); // [shared-rows-added]
  while (rows != nullptr)
    delete std::exchange(rows, rows->next);
}

std::atomic<std::uint64_t>& detail::grace_periods::enter_shared_row() noexcept {
  for (idle_policy wait;; wait.idle()) {
    shared_rows* newest = shared_.load(std::memory_order_acquire); // [shared-rows-added]
    for (shared_rows* rows = newest; rows != nullptr; rows = rows->next)
      for (thread& row : rows->rows) {
        if (row.inside.load(std::memory_order_relaxed) != 0) continue; // [inside-announced]
        std::uint64_t free = 0;
        const std::uint64_t now = epoch_.load(std::memory_order_acquire); // [epoch-read]

        // The exchange also makes the row this thread's, and continues the release of the thread
        // that had the row before.
        if (!row.inside.compare_exchange_strong(free, now,
                                                std::memory_order_acq_rel,  // [inside-announced]
                                                std::memory_order_relaxed)) // [inside-announced]
          continue;
        fence_.often();
        return row.inside;
      }
    auto* more = new (std::nothrow) shared_rows;
    if (more == nullptr) continue; // a thread that is inside comes out soon
    more->next = newest;
    // [shared-rows-added] Without it a thread could use rows that are not zero yet, or the
    // reclaimer could overlook a thread in them.
    while (!shared_.compare_exchange_weak(more->next, more, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) { // [shared-rows-added]
    }
  }
}

} // namespace chainring
