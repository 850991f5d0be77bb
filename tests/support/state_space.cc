// SPDX-License-Identifier: BSD-3-Clause
/// Enumerates what a power loss may leave. Each line has a list of choices with distinct contents,
/// and with the first of them nothing persisted. A state is one choice for each line.
#include <algorithm>
#include <functional>
#include <random>
#include <set>
#include <unordered_set>

#include "support/crash_model.h"

namespace chainring::test {

namespace {

constexpr std::uint64_t saturated = ~0ull;
constexpr std::uint8_t versions_max = 35; // so that a version is one digit of a replay string

std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r;
  return __builtin_mul_overflow(a, b, &r) ? saturated : r;
}

/// How many combinations of a line's unordered words are tried.
enum detail_level : int { every_subset, each_alone, halves };

} // namespace

void state_space::add_line(const crash_model& model, std::uint64_t offset, int detail) {
  line l;
  l.offset = offset;
  const line_choice all = model.everything(offset);
  const line_bytes durable = model.durable_line(offset);
  const std::uint64_t base = line_hash(offset, durable);
  std::set<line_bytes> seen;
  const auto add = [&](const line_choice& c) {
    const line_bytes bytes = model.content(offset, c);
    if (!seen.insert(bytes).second) return;
    l.choices.push_back(c);
    l.hashes.push_back(line_hash(offset, bytes) - base);
  };
  // Versions: none or the n-th of each word, counted up like digits, as far as `detail` asks for.
  std::vector<std::array<std::uint8_t, 8>> versions;
  std::uint64_t subsets = 1;
  for (std::uint8_t v : all.version) {
    subsets *= std::min<std::uint64_t>(v, versions_max) + 1;
    if (v > versions_max) complete_ = false;
  }
  if (detail == every_subset && times(subsets, all.stores + 1) <= 16 * states_max_) {
    std::array<std::uint8_t, 8> v{};
    for (std::uint64_t i = 0; i < subsets; ++i) {
      versions.push_back(v);
      for (std::size_t w = 0; w < 8; ++w) {
        if (v[w] < std::min(all.version[w], versions_max)) {
          ++v[w];
          break;
        }
        v[w] = 0;
      }
    }
  } else {
    versions.push_back({});
    versions.push_back(all.version);
    if (subsets > 2) complete_ = false;
    for (std::size_t w = 0; w < 8 && detail <= each_alone; ++w) {
      if (all.version[w] == 0) continue;
      std::array<std::uint8_t, 8> one{};
      one[w] = all.version[w];
      versions.push_back(one);
      one = all.version;
      one[w] = 0;
      versions.push_back(one);
    }
    if (detail == halves) {
      std::array<std::uint8_t, 8> half = all.version;
      std::fill(half.begin() + 4, half.end(), 0);
      versions.push_back(half);
      half = all.version;
      for (std::size_t w = 0; w < 8; w += 2)
        half[w] = 0;
      versions.push_back(half);
    }
  }
  add({}); // the choice with which nothing persisted comes first
  for (std::uint32_t stores = 0; stores <= all.stores; ++stores)
    for (const auto& v : versions)
      add({stores, v});
  const std::uint64_t whole = line_hash(offset, model.content(offset, all)) - base;
  l.everything = static_cast<std::uint32_t>(std::find(l.hashes.begin(), l.hashes.end(), whole) -
                                            l.hashes.begin());
  if (l.choices.size() < 2) return;
  product_ = times(product_, l.choices.size());
  lines_.push_back(std::move(l));
}

state_space::state_space(const crash_model& model, std::uint64_t states_max)
    : states_max_(states_max) {
  for (int detail : {every_subset, each_alone, halves}) {
    lines_.clear();
    product_ = 1;
    complete_ = true;
    for (const auto& [offset, words] : model.pending()) {
      add_line(model, offset, detail);
      if (product_ > states_max) break;
    }
    if (product_ <= states_max) return;
  }
  // The selection is bounded in any case, so make it of the finer choices.
  lines_.clear();
  product_ = 1;
  for (const auto& [offset, words] : model.pending())
    add_line(model, offset, each_alone);
}

std::uint64_t state_space::hash(std::span<const std::uint32_t> state) const {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < state.size(); ++i)
    sum += lines_[i].hashes[state[i]];
  return sum;
}

bool state_space::for_each(std::uint64_t seed,
                           const std::function<bool(std::span<const std::uint32_t>)>& visit,
                           bool sample) const {
  const std::size_t n = lines_.size();
  std::vector<std::uint32_t> state(n, 0);
  if (product_ <= states_max_) {
    for (;;) {
      if (!visit(state)) return false;
      std::size_t i = 0;
      for (; i < n && ++state[i] == lines_[i].choices.size(); ++i)
        state[i] = 0;
      if (i == n) return true;
    }
  }

  std::unordered_set<std::uint64_t> seen;
  const auto once = [&] { return !seen.insert(hash(state)).second || visit(state); };
  const auto last = [&](std::size_t i) {
    return static_cast<std::uint32_t>(lines_[i].choices.size() - 1);
  };
  const auto fill = [&](bool kept) {
    for (std::size_t i = 0; i < n; ++i)
      state[i] = kept ? lines_[i].everything : 0;
  };
  std::mt19937_64 random(seed);
  if (sample) {
    std::vector<std::pair<std::size_t, bool>> alone; // the line, and whether the others are kept
    for (std::size_t i = 0; i < n; ++i)
      for (bool kept : {false, true})
        alone.emplace_back(i, kept);
    std::shuffle(alone.begin(), alone.end(), random);
    for (bool kept : {false, true}) {
      fill(kept);
      if (!once()) return false;
    }
    for (const auto& [i, kept] : alone) {
      if (seen.size() >= states_max_) return true;
      fill(kept);
      state[i] = kept ? 0 : lines_[i].everything;
      if (!once()) return false;
    }
  }
  // First the states with nothing and with everything, then each line alone in each of its
  // contents. These are cut short only for a sample, because their number grows with the lines and not
  // with the product.
  for (bool kept : {false, true}) {
    fill(kept);
    if (!once()) return false;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint32_t was = state[i];
      for (state[i] = 0; state[i] <= last(i); ++state[i]) {
        if (sample && seen.size() >= states_max_) return true;
        if (!once()) return false;
      }
      state[i] = was;
    }
  }
  // Pairs in a shuffled order, up to three quarters of the states. The rest is random.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
  const std::size_t pairs_max = 4 * states_max_;
  if (n * (n - 1) / 2 <= pairs_max) {
    for (std::uint32_t i = 0; i < n; ++i)
      for (std::uint32_t j = i + 1; j < n; ++j)
        pairs.emplace_back(i, j);
    std::shuffle(pairs.begin(), pairs.end(), random);
  } else {
    for (std::size_t k = 0; k < pairs_max; ++k) {
      const auto i = static_cast<std::uint32_t>(random() % n);
      const auto j = static_cast<std::uint32_t>(random() % n);
      if (i != j) pairs.emplace_back(i, j);
    }
  }
  for (const auto& [i, j] : pairs) {
    for (bool kept : {false, true}) {
      fill(kept);
      for (state[i] = 0; state[i] <= last(i); ++state[i])
        for (state[j] = 0; state[j] <= last(j); ++state[j]) {
          if (sample && seen.size() >= states_max_) return true;
          if (!once()) return false;
        }
    }
    if (seen.size() >= states_max_ / 4 * 3) break;
  }
  // Random states: each line may have any choice. Each state has a bias towards nothing or
  // everything.
  for (std::uint64_t tries = 0; seen.size() < states_max_ && tries < 2 * states_max_; ++tries) {
    const std::uint64_t bias = random() % 5;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint64_t r = random();
      state[i] = r % 4 < bias ? lines_[i].everything
                              : static_cast<std::uint32_t>((r >> 8) % (last(i) + 1));
      if (bias == 0 && r % 4 != 0) state[i] = 0;
    }
    if (!once()) return false;
  }
  return true;
}

} // namespace chainring::test
