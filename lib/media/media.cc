// SPDX-License-Identifier: BSD-3-Clause
// Edges: [M5], [M6] as in media.h; [M2] before [M3], in persist_range().
#include "media/media.h"

#include <libpmem.h>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/idle.h"
#include "media/drivers.h"
#include "media/mapping.h"

namespace chainring {

const char* to_string(durability_class c) noexcept {
  switch (c) {
  case durability_class::power: return "power";
  case durability_class::file: return "file";
  case durability_class::process: return "process";
  case durability_class::emulated: return "emulated";
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

void media::instruction_flush(const void* from, std::size_t n) noexcept { pmem_flush(from, n); }
void media::instruction_drain() noexcept { pmem_drain(); }

bool persist_observer::on_exchange(std::uint64_t* word, std::uint64_t& expected,
                                   std::uint64_t value, const site& s) noexcept {
  // [M6] Threads run one at a time here, so the comparison holds until the exchange.
  if (std::uint64_t now = std::atomic_ref(*word).load(std::memory_order_acquire); now != expected) {
    expected = now;
    return false;
  }
  on_store(word, value, s);
  const bool done = std::atomic_ref(*word).compare_exchange_strong( // [M5], [M6]
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
  // Half: the caller may have flushed something else before.
  const std::uint64_t piece = m.drain_bytes_max() / 2 / cacheline_size * cacheline_size;
  const auto* at = static_cast<const std::byte*>(from);
  while (n > 0) {
    const std::uint64_t now = n < piece ? n : piece;
    m.flush(at, now, s); // [M2] the caller stored these bytes; nothing names them before [M3]
    m.drain(s);          // [M3] pairs with [M2]; whatever names the bytes is stored after it
    at += now;
    n -= now;
  }
}

namespace {

const media_driver* const drivers[] = {&sim_driver, &dax_driver, &hugetlb_driver, &file_driver};

result<const media_driver*> choose(const media_options& options) {
  if (options.path.empty())
    return error{errc::invalid_argument, "region path: it is empty; name a file or device"};
  struct stat info {};
  if (stat(options.path.c_str(), &info) == 0 && S_ISDIR(info.st_mode))
    return error{errc::unsupported, "region path " + options.path +
                                        ": it is a directory; name a file in it, or a DAX device"};
  std::string names;
  // The natural class of an ordinary file is `file`; only the shared mapping can emulate on it.
  if (options.emulated && options.driver.empty()) return &hugetlb_driver;
  for (const media_driver* d : drivers) {
    if (options.driver.empty() ? d->suits(options.path) : options.driver == d->name) return d;
    names += names.empty() ? d->name : std::string(", ") + d->name;
  }
  if (auto place = detail::place_of(options.path); !place) return place.error(); // no such directory
  if (options.driver.empty())
    return error{errc::unsupported, "region path " + options.path + ": no media driver suits it"};
  return error{errc::invalid_argument,
               "media driver '" + options.driver + "': expected one of " + names};
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

std::span<const media_driver* const> media_drivers() noexcept { return drivers; }

result<std::unique_ptr<media>> create_media(const media_options& options) {
  auto driver = choose(options);
  if (!driver) return driver.error();
  return (*driver)->create(options);
}

result<std::unique_ptr<media>> open_media(const media_options& options) {
  auto driver = choose(options);
  if (!driver) return driver.error();
  return (*driver)->open(options);
}

std::unique_ptr<media> memory_media(std::uint64_t size, durability_class c) {
  CHAINRING_ASSERT(c == durability_class::process || c == durability_class::emulated);
  return std::make_unique<anonymous_media>(align_up(size, 4096), c);
}

} // namespace chainring
