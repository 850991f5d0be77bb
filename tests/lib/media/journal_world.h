// SPDX-License-Identifier: BSD-3-Clause
/// Class `file` on a model disk, with one thread and a ledger of what each drain left.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/hook.h"
#include "media/file/file_media.h"
#include "model_disk.h"
#include "support/seed.h"

namespace chainring::test {

/// The contents of a region after each drain of a workload that is the same in every life: drain
/// number k stores k to line 0, and words of its own to some other lines.
class workload {
 public:
  static constexpr std::uint64_t image_size = 16u << 10;
  static constexpr std::uint64_t lines = image_size / cacheline_size;

  explicit workload(std::uint64_t seed, std::uint64_t lines_max) : seed_(seed), max_(lines_max) {
    states_.emplace_back(image_size);
  }
  struct range {
    std::uint64_t first, count;
  };
  [[nodiscard]] std::vector<range> ranges(std::uint64_t drain) const {
    std::mt19937_64 draw(seed_ * 1'000'003 + drain);
    std::vector<range> out{{0, 1}};
    const std::uint64_t total = 1 + draw() % max_;
    for (std::uint64_t n = 0; n < total;) {
      const std::uint64_t count = std::min<std::uint64_t>(1 + draw() % 6, total - n);
      out.push_back({1 + draw() % (lines - 1 - count), count});
      n += count;
    }
    return out;
  }
  static std::uint64_t word(std::uint64_t drain, std::uint64_t line, std::uint64_t i) {
    return drain << 32 | line << 8 | i | 0x80;
  }
  /// The region after `drain` drains.
  const file_bytes& state(std::uint64_t drain) {
    while (states_.size() <= drain) {
      file_bytes next = states_.back();
      const std::uint64_t k = states_.size();
      for (const range& r : ranges(k))
        for (std::uint64_t line = r.first; line < r.first + r.count; ++line)
          for (std::uint64_t i = 0; i < 8; ++i) {
            const std::uint64_t value = line == 0 ? (i == 0 ? k : 0) : word(k, line, i);
            std::memcpy(next.data() + line * cacheline_size + i * 8, &value, 8);
          }
      states_.push_back(std::move(next));
    }
    return states_[drain];
  }
  /// Makes drain number `drain` through the seam.
  void run(media& m, std::uint64_t drain) const {
    auto* words = reinterpret_cast<std::uint64_t*>(m.base());
    m.store(&words[0], drain);
    for (const range& r : ranges(drain))
      for (std::uint64_t line = std::max<std::uint64_t>(r.first, 1); line < r.first + r.count;
           ++line)
        for (std::uint64_t i = 0; i < 8; ++i)
          m.store(&words[line * 8 + i], word(drain, line, i));
    for (const range& r : ranges(drain))
      m.flush(m.base() + r.first * cacheline_size, r.count * cacheline_size);
    m.drain();
  }

 private:
  std::uint64_t seed_, max_;
  std::vector<file_bytes> states_;
};

/// One life of a file_media on a model disk.
struct life {
  static media_options options() {
    media_options o;
    o.path = "model";
    o.size = workload::image_size;
    o.journal_size = file_format::journal_size_min;
    return o;
  }
  static result<void> format(model_disk& disk) {
    auto p = parts_on(disk);
    return file_media::format(p, options());
  }
  static result<std::unique_ptr<file_media>> open(model_disk& disk, bool read_only = false) {
    media_options o = options();
    o.size = o.journal_size = 0;
    o.read_only = read_only;
    return file_media::attach(parts_on(disk), o);
  }
  static std::uint64_t drains_in(const media& m) {
    std::uint64_t k = 0;
    std::memcpy(&k, m.base(), sizeof k);
    return k;
  }
};

/// A marked point of the workload: drain `drain` is durable once durable(mark).
struct promise {
  std::uint64_t drain;
  mark_t mark;
};

/// Runs the workload in one life, and knows which drains were reported durable.
class runner {
 public:
  runner(workload& w, file_media& m, std::uint64_t from) : work_(w), media_(m), done_(from) {
    acked_ = from;
  }
  void drain() {
    if (media_.failed()) return;
    work_.run(media_, done_ + 1);
    ++done_;
    promises_.push_back({done_, media_.mark()});
  }
  /// The highest drain that was reported durable so far.
  std::uint64_t acked() {
    for (const promise& p : promises_)
      if (media_.durable(p.mark)) acked_ = std::max(acked_, p.drain);
    return acked_;
  }
  [[nodiscard]] std::uint64_t done() const { return done_; }
  void make_room() {
    if (media_.has_room()) return;
    (void)media_.commit_step();
    (void)media_.checkpoint_step();
  }

 private:
  workload& work_;
  file_media& media_;
  std::uint64_t done_, acked_ = 0;
  std::vector<promise> promises_;
};

/// Opens a crashed file and says what is wrong with it, if anything. Sets `k` to the number of
/// drains found.
inline std::optional<std::string> verdict(model_disk& disk, workload& w, std::uint64_t acked,
                                          std::uint64_t done, std::uint64_t* k = nullptr,
                                          std::unique_ptr<file_media>* keep = nullptr) {
  auto m = life::open(disk);
  if (!m) return "does not open: " + m.error().message;
  const std::uint64_t found = life::drains_in(**m);
  if (k != nullptr) *k = found;
  if (found < acked)
    return "drain " + std::to_string(acked) + " was durable, " + std::to_string(found) +
           " is there";
  if (found > done)
    return "drain " + std::to_string(found) + " is there, only " + std::to_string(done) +
           " were made";
  if (std::memcmp((*m)->base(), w.state(found).data(), workload::image_size) != 0)
    return "the bytes are not those of drain " + std::to_string(found);
  if (keep != nullptr) *keep = std::move(*m);
  return std::nullopt;
}

} // namespace chainring::test
