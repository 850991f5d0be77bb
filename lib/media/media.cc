// SPDX-License-Identifier: BSD-3-Clause
// The choice of a driver, and the parts of the persist seam that are not inline. The labels of the
// seam are in media.h.
//
// Ordering labels:
//   [piece-before-name]  persist_range() drains each piece before its caller stores whatever names
//     the bytes.
#include "media/media.h"

#include <algorithm>
#include <libpmem.h>
#include <mutex>
#include <new>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/idle.h"
#include "media/drivers.h"
#include "media/mapping.h"

namespace chainring {

const char* to_string(durability_class c) noexcept {
  switch (c) {
  case durability_class::power:
    return "power";
  case durability_class::file:
    return "file";
  case durability_class::process:
    return "process";
  case durability_class::emulated:
    return "emulated";
  }
  return "unknown";
}

result<durability_class> parse_durability_class(std::string_view text) {
  for (auto c : {durability_class::power, durability_class::file, durability_class::process,
                 durability_class::emulated})
    if (text == to_string(c)) return c;
  return error{errc::invalid_argument, "durability class '" + std::string(text) +
                                           "': expected power, file, process or emulated"};
}

result<std::optional<durability_class>> parse_durability_choice(std::string_view text) {
  if (text == durability_choices[0]) return std::optional<durability_class>{};
  auto c = parse_durability_class(text);
  if (c) return std::optional{*c};
  return error{errc::invalid_argument, "durability class '" + std::string(text) +
                                           "': expected auto, power, file, process or emulated"};
}

void media::instruction_flush(const void* from, std::size_t n) noexcept {
  pmem_flush(from, n);
}
[[gnu::noinline, gnu::cold]] void media::observed_run(std::uint64_t* words,
                                                      const std::uint64_t* values, std::size_t n,
                                                      const site& s) noexcept {
  for (std::size_t i = 0; i < n; ++i)
    store(&words[i], values[i], s); // [seam-store]
}
void media::instruction_drain() noexcept {
  pmem_drain();
}

bool persist_observer::on_exchange(std::uint64_t* word, std::uint64_t& expected,
                                   std::uint64_t value, const site& s) noexcept {
  // [seam-commit-read] Without it a thread could exchange a word and miss what the word makes
  // valid. Threads run one at a time here, so the comparison still holds at the exchange.
  if (std::uint64_t now = std::atomic_ref(*word).load(std::memory_order_acquire); now != expected) {
    expected = now;
    return false;
  }
  on_store(word, value, s);
  // [seam-commit] [seam-commit-read]
  const bool done = std::atomic_ref(*word).compare_exchange_strong(
      expected, value, std::memory_order_acq_rel, std::memory_order_acquire);
  CHAINRING_ASSERT(done);
  return done;
}

bool media::wait(mark_t mark) noexcept {
  idle_policy policy;
  while (!durable(mark)) {
    if (failed()) return false;
    policy.idle();
  }
  return true;
}

void persist_range(media& m, const void* from, std::uint64_t n, site s) noexcept {
  // A piece is half of what a drain can cover, because the caller may have flushed something else
  // before.
  const std::uint64_t piece = m.drain_bytes_max() / 2 / cacheline_size * cacheline_size;
  const auto* at = static_cast<const std::byte*>(from);
  while (n > 0) {
    const std::uint64_t now = n < piece ? n : piece;
    // [piece-before-name] Crash between: nothing names the bytes yet, so nobody reads them.
    m.flush(at, now, s);
    m.drain(s); // [piece-before-name]
    at += now;
    n -= now;
  }
}

namespace {

struct driver_table {
  std::mutex lock;
  // Naming each driver here keeps it in a program that is linked with the archive.
  std::vector<const media_driver*> drivers{&dax_driver, &hugetlb_driver, &file_driver};
};

driver_table& table() {
  static driver_table t;
  return t;
}

bool gives(const media_driver& d, durability_class c) {
  return std::find(d.classes.begin(), d.classes.end(), c) != d.classes.end();
}

result<const media_driver*> choose(const media_options& options) {
  if (options.path.empty())
    return error{errc::invalid_argument, "region path: it is empty; name a file or device"};
  if (auto usable = detail::usable_path(options.path); !usable) return usable.error();
  const std::vector<const media_driver*> drivers = media_drivers();
  const std::string name = "region path " + options.path + ": ";
  if (!options.driver.empty()) {
    std::string names;
    for (const media_driver* d : drivers) {
      names += names.empty() ? d->name : std::string(", ") + d->name;
      if (options.driver != d->name) continue;
      if (!options.durability || gives(*d, *options.durability)) return d;
      std::string classes;
      for (const durability_class c : d->classes)
        classes += (classes.empty() ? "" : " and ") + std::string(to_string(c));
      return error{errc::invalid_argument, name + "driver " + d->name + " gives class " + classes +
                                               ", not " + to_string(*options.durability) +
                                               "; name the class or the driver, not both"};
    }
    return error{errc::invalid_argument,
                 "media driver '" + options.driver + "': expected one of " + names};
  }
  const auto may = [&](const media_driver& d) {
    return !options.durability || gives(d, *options.durability);
  };
  for (const media_driver* d : drivers)
    if (may(*d) && d->suits(options.path)) return d;
  // The class that was asked for is not the natural one of the place. The built-in driver of that
  // class stands behind the added ones, and says whether the place can have it.
  if (options.durability)
    for (auto d = drivers.rbegin(); d != drivers.rend(); ++d)
      if (may(**d)) return *d;
  // there may be no such directory
  if (auto place = detail::place_of(options.path); !place) return place.error();
  return error{errc::unsupported, name + "no media driver suits it"};
}

class anonymous_media final : public media {
 public:
  anonymous_media(std::uint64_t size, durability_class c) {
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(at);
    size_ = size;
    path_ = "(memory)";
    class_ = c;
    kind_ = c == durability_class::emulated ? kind::instructions : kind::visible;
  }
  ~anonymous_media() override { munmap(base_, size_); }
  const char* driver_name() const noexcept override { return "memory"; }
  result<void> grow(std::uint64_t) override {
    return error{errc::unsupported, "grow: anonymous memory has a fixed size"};
  }
  result<void> close() override { return {}; }
};

} // namespace

std::vector<const media_driver*> media_drivers() {
  driver_table& t = table();
  const std::lock_guard guard(t.lock);
  return t.drivers;
}

void add_media_driver(const media_driver& driver) {
  driver_table& t = table();
  const std::lock_guard guard(t.lock);
  for (const media_driver* d : t.drivers)
    CHAINRING_ASSERT(std::string_view(d->name) != driver.name);
  t.drivers.insert(t.drivers.begin(), &driver);
}

result<std::unique_ptr<media>> create_media(const media_options& options) {
  auto driver = choose(options);
  if (!driver) return driver.error();
  const detail::file_limit_guard guard;
  return (*driver)->create(options);
}

result<std::unique_ptr<media>> open_media(const media_options& options) {
  auto driver = choose(options);
  if (!driver) return driver.error();
  const detail::file_limit_guard guard;
  return (*driver)->open(options);
}

std::unique_ptr<media> memory_media(std::uint64_t size, durability_class c) {
  CHAINRING_ASSERT(c == durability_class::process || c == durability_class::emulated);
  return std::make_unique<anonymous_media>(align_up(size, 4096), c);
}

} // namespace chainring
