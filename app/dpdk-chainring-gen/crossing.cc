// SPDX-License-Identifier: BSD-3-Clause
#include "crossing.h"

#include <cmath>
#include <string>

#include "broker/broker.h"

namespace chainring::gen {

namespace {

constexpr unsigned alphabet = 26;

/// Two letters with which `id` has a home that `fits`. With 64 workers one of 676 ids has a given
/// home, but for one case in 40,000; then the client keeps its home.
template <class Fits> std::array<char, 2> choose(std::string id, Fits fits) {
  if (fits(id)) return {};
  const std::size_t end = id.size();
  for (unsigned i = 0; i < alphabet * alphabet; ++i) {
    const std::array<char, 2> letters{static_cast<char>('a' + i / alphabet),
                                      static_cast<char>('a' + i % alphabet)};
    id.resize(end);
    id.append(letters.data(), letters.size());
    if (fits(id)) return letters;
  }
  return {};
}

} // namespace

crossing::crossing(const shape& s, const crossing_options& o) {
  if (o.share < 0) return;
  const auto home_of = [&](std::string_view id) {
    return broker::home_of(id, o.home_seed, o.workers);
  };
  letters_.resize(s.publishers + s.subscribers);
  std::vector<unsigned> home_of_topic(s.topics);
  for (std::uint32_t p = 0; p < s.publishers; ++p) {
    const std::string id = s.prefix + "-pub-" + std::to_string(p);
    unsigned& home = home_of_topic[p % s.topics];
    if (p < s.topics)
      home = home_of(id);
    else
      letters_[p] = choose(id, [&](std::string_view other) { return home_of(other) == home; });
  }
  for (std::uint32_t i = 0; i < s.subscribers; ++i) {
    // The subscribers that cross are spread evenly.
    const bool crosses = std::floor((i + 1) * o.share) > std::floor(i * o.share);
    const unsigned home = home_of_topic[i % s.topics];
    const std::string id = s.prefix + "-sub-" + std::to_string(i);
    auto& letters = letters_[s.publishers + i];
    letters =
        choose(id, [&](std::string_view other) { return (home_of(other) != home) == crosses; });
    const std::string whole = id + (letters[0] != 0 ? std::string(letters.data(), 2) : "");
    crossing_ += home_of(whole) != home;
  }
}

} // namespace chainring::gen
