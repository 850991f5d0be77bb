// SPDX-License-Identifier: BSD-3-Clause
// This benchmark matches topic names against filters. Half of the filters are exact, a quarter
// contain +, and a quarter contain #. Each topic matches its own exact filter; every second topic
// also matches one filter with +, and the others match one filter with #.
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "figures.h"
#include "topic/filter_index.h"

namespace chainring::bench {

bool match_figures(bench_context& c) {
  c.out.heading("match: topic name to subscribers, half of the filters exact, half with + or #");
  bool good = true;
  for (const std::uint32_t filters : {10u, 1000u, 100'000u}) {
    filter_index_options o;
    o.filters_max = filters + 8;
    o.subscriptions_max = filters + 8;
    o.levels_max = 2 * filters + 8;
    o.sessions_max = filters;
    filter_index index(o);
    std::vector<std::string> topics;
    for (std::uint32_t i = 0; i < filters; ++i) {
      const std::string site = "site/" + std::to_string(i / 2);
      const std::string filter = i % 2 == 0   ? site + "/temperature"
                                 : i % 4 == 1 ? site + "/+"
                                              : site + "/#";
      good &= index.add(filter, i, 1) == filter_index::status::added;
      if (i % 2 == 0) topics.push_back(filter);
    }
    std::mt19937_64 random(1);
    std::ranges::shuffle(topics, random);
    std::size_t at = 0;
    std::uint64_t asked = 0, matched = 0;
    const pairs p = alternate(c.time(), timed([&] {
                                at = at + 1 == topics.size() ? 0 : at + 1;
                                index.match(0, topics[at], [&](const subscriber&) { ++matched; });
                                ++asked;
                              }));
    good &= matched >= asked && matched <= 2 * asked;
    c.out.add(figure("match among " + std::to_string(filters) + " filters", "ns/match", p.own));
  }
  if (!good)
    std::fprintf(
        stderr,
        "match: the index refused a filter, or a topic matched a wrong number of filters\n");
  return good;
}

} // namespace chainring::bench
