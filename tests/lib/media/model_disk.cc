// SPDX-License-Identifier: BSD-3-Clause
#include "model_disk.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace chainring::test {

struct model_disk::view final : block_file {
  explicit view(model_disk& d) : disk(d) {}

  ssize_t do_write_at(std::uint64_t offset, const void* from, std::size_t n) noexcept override {
    if (disk.allows && !disk.allows()) return static_cast<ssize_t>(n);
    if (!disk.fails()) {
      disk.put(offset, from, n);
      return static_cast<ssize_t>(n);
    }
    switch (disk.how) {
    case fault::enospc:
      return -ENOSPC;
    case fault::nothing_moves:
      return 0;
    case fault::short_then_eio:
      disk.fail_at = disk.changes; // and the second call, for the rest, fails too
      disk.how = fault::eio;
      disk.put(offset, from, n / 2);
      return static_cast<ssize_t>(n / 2);
    default:
      return -EIO;
    }
  }
  ssize_t read_at(std::uint64_t offset, void* to, std::size_t n) noexcept override {
    if (disk.fail_reads) return -EIO;
    if (offset >= disk.visible_.size()) return 0;
    n = std::min<std::uint64_t>(n, disk.visible_.size() - offset);
    std::memcpy(to, disk.visible_.data() + offset, n);
    return static_cast<ssize_t>(n);
  }
  int do_write_durably(std::uint64_t offset, const void* from, std::uint64_t n) noexcept override {
    if (disk.allows && !disk.allows()) return 0;
    if (int e = write_all(*this, offset, from, n); e != 0) return e;
    if (disk.after_journal_write) disk.after_journal_write();
    if (disk.before_sync) disk.before_sync();
    const auto [first, last] = sectors(offset, n);
    const bool failed = disk.fails();
    // Only these bytes become durable. Other pending bytes stay pending, or are lost by their own
    // sync.
    for (std::uint64_t s = first; s <= last; ++s) {
      const auto at = disk.pending_.find(s);
      if (at == disk.pending_.end()) continue;
      if (!failed) disk.harden(s, at->second.back());
      disk.pending_.erase(at);
    }
    return failed ? (disk.how == fault::enospc ? ENOSPC : EIO) : 0;
  }
  int do_sync() noexcept override {
    if (disk.allows && !disk.allows()) return 0;
    if (disk.before_sync) disk.before_sync();
    if (disk.fails()) {
      // the page cache is clean now, although the disk does not have its content
      disk.pending_.clear();
      return disk.how == fault::enospc ? ENOSPC : EIO;
    }
    disk.settle();
    return 0;
  }
  int do_allocate(std::uint64_t from, std::uint64_t to) noexcept override {
    if (disk.allows && !disk.allows()) return 0;
    if (disk.fails()) return disk.how == fault::enospc ? ENOSPC : EIO;
    disk.resize(from, to);
    return 0;
  }

  static std::pair<std::uint64_t, std::uint64_t> sectors(std::uint64_t offset, std::uint64_t n) {
    return {offset / sector_size, (offset + n - 1) / sector_size};
  }

  model_disk& disk;
};

std::unique_ptr<block_file> model_disk::open() {
  return std::make_unique<view>(*this);
}

void model_disk::remember(std::uint64_t index) {
  sector now{};
  const std::uint64_t at = index * sector_size;
  if (at < visible_.size())
    std::memcpy(now.data(), visible_.data() + at,
                std::min<std::uint64_t>(sector_size, visible_.size() - at));
  pending_[index].push_back(now);
}

void model_disk::put(std::uint64_t offset, const void* from, std::size_t n) {
  if (n == 0) return;
  if (visible_.size() < offset + n) visible_.resize(offset + n);
  std::memcpy(visible_.data() + offset, from, n);
  for (std::uint64_t s = offset / sector_size; s <= (offset + n - 1) / sector_size; ++s)
    remember(s);
}

void model_disk::resize(std::uint64_t from, std::uint64_t to) {
  visible_.resize(from);
  visible_.resize(to);
  for (std::uint64_t s = from / sector_size; s < to / sector_size; ++s)
    remember(s);
}

void model_disk::harden(std::uint64_t index, const sector& content) {
  if (durable_.size() < (index + 1) * sector_size) durable_.resize((index + 1) * sector_size);
  std::memcpy(durable_.data() + index * sector_size, content.data(), sector_size);
}

void model_disk::settle() {
  durable_.resize(visible_.size());
  for (const auto& [index, versions] : pending_)
    harden(index, versions.back());
  pending_.clear();
}

file_bytes model_disk::state(const std::vector<std::size_t>& choice) const {
  file_bytes bytes = durable_;
  std::size_t i = 0;
  for (const auto& [index, versions] : pending_) {
    if (const std::size_t version = choice[i++]; version != 0) {
      const std::uint64_t end = (index + 1) * sector_size;
      if (bytes.size() < end) bytes.resize(end);
      std::memcpy(bytes.data() + index * sector_size, versions[version - 1].data(), sector_size);
    }
  }
  return bytes;
}

void model_disk::each_crash(std::uint64_t seed, std::size_t exhaustive_max, std::size_t random,
                            const std::function<void(const file_bytes&)>& check) const {
  std::vector<std::size_t> versions;
  std::size_t states = 1;
  for (const auto& [index, list] : pending_) {
    versions.push_back(list.size());
    if (states <= exhaustive_max) states *= list.size() + 1;
  }
  const std::size_t n = versions.size();
  if (states <= exhaustive_max) {
    std::vector<std::size_t> choice(n, 0);
    for (;;) {
      check(state(choice));
      std::size_t i = 0;
      while (i < n && choice[i] == versions[i])
        choice[i++] = 0;
      if (i == n) return;
      ++choice[i];
    }
  }
  const std::vector<std::size_t> none(n, 0);
  check(state(none));
  check(state(versions));
  for (std::size_t i = 0; i < n; ++i) {
    auto alone = none, missing = versions;
    alone[i] = versions[i];
    missing[i] = 0;
    check(state(alone));
    check(state(missing));
  }
  std::mt19937_64 draw(seed);
  for (std::size_t r = 0; r < random; ++r) {
    auto choice = none;
    // Sectors are mostly written, mostly not, or evenly: a torn tail needs nearly everything before
    // it.
    const std::size_t odds = std::array<std::size_t, 3>{2, 8, 32}[draw() % 3];
    const bool mostly = draw() % 2 == 0;
    for (std::size_t i = 0; i < n; ++i) {
      const bool rare = draw() % odds == 0;
      choice[i] = rare == mostly ? draw() % (versions[i] + 1) : mostly ? versions[i] : 0;
    }
    check(state(choice));
  }
}

} // namespace chainring::test
