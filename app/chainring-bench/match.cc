// SPDX-License-Identifier: BSD-3-Clause
// This benchmark matches topic names against filters. In the first set half of the filters are
// exact, a quarter contain +, and a quarter contain #. Each topic matches its own exact filter;
// every second topic also matches one filter with +, and the others match one filter with #.
//
// In the second set every filter has wildcards, of four forms that devices and dashboards use. Each
// topic matches one filter of each form. The filters differ at a level behind a wildcard, where an
// index by the beginning of the name finds nothing.
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "figures.h"
#include "rig.h"
#include "topic/filter_index.h"

namespace chainring::bench {

namespace {

/// The filters of one set, and the topics that are matched against them.
struct filter_set {
  const char* name;
  std::uint32_t levels;                   ///< levels of the trie that a filter adds at most
  std::uint32_t matches_min, matches_max; ///< of each topic
  std::string (*filter)(std::uint32_t i); ///< filter number `i`
  std::string (*topic)(std::uint32_t i);  ///< the topic of filter `i`; empty where it has none
};

const filter_set mixed = {
    "filters",
    2,
    1,
    2,
    [](std::uint32_t i) {
      const std::string site = "site/" + std::to_string(i / 2);
      return i % 2 == 0 ? site + "/temperature" : i % 4 == 1 ? site + "/+" : site + "/#";
    },
    [](std::uint32_t i) {
      return i % 2 == 0 ? "site/" + std::to_string(i / 2) + "/temperature" : std::string();
    }};

const filter_set wild = {"filters with wildcards",
                         3,
                         4,
                         4,
                         [](std::uint32_t i) {
                           const std::string n = std::to_string(i / 4);
                           switch (i % 4) {
                           case 0:
                             return "site/+/sensor/" + n + "/#";
                           case 1:
                             return "site/+/sensor/" + n + "/+";
                           case 2:
                             return "+/7/sensor/" + n + "/#";
                           default:
                             return "site/7/sensor/" + n + "/+";
                           }
                         },
                         [](std::uint32_t i) {
                           return i % 4 == 0
                                      ? "site/7/sensor/" + std::to_string(i / 4) + "/temperature"
                                      : std::string();
                         }};

bool figures_for(bench_context& c, const filter_set& set, std::uint32_t filters) {
  const double before = anonymous_bytes();
  filter_index_options o;
  o.filters_max = filters + 8;
  o.subscriptions_max = filters + 8;
  o.levels_max = set.levels * filters + 64;
  o.sessions_max = filters;
  filter_index index(o);
  for (std::uint32_t i = 0; i < filters; ++i)
    if (index.add(set.filter(i), i, 1) != filter_index::status::added) {
      std::fprintf(stderr, "match: the index refused filter %u\n", i);
      return false;
    }
  const double bytes = (anonymous_bytes() - before) / filters;
  std::vector<std::string> topics;
  for (std::uint32_t i = 0; i < filters; ++i)
    if (std::string topic = set.topic(i); !topic.empty()) topics.push_back(std::move(topic));
  std::mt19937_64 random(1);
  std::ranges::shuffle(topics, random);
  std::size_t at = 0;
  std::uint64_t asked = 0, matched = 0;
  const pairs p = alternate(c.time(), timed([&] {
                              at = at + 1 >= topics.size() ? 0 : at + 1;
                              index.match(0, topics[at], [&](const subscriber&) { ++matched; });
                              ++asked;
                            }));
  c.out.add(figure("match among " + std::to_string(filters) + " " + set.name, "ns/match", p.own));
  // In a smaller index most of the memory is that of tables of a fixed size.
  if (filters >= 100'000) c.out.add(figure("  memory a filter", "B", {bytes}));
  if (matched >= set.matches_min * asked && matched <= set.matches_max * asked) return true;
  std::fprintf(stderr, "match: a topic matched a wrong number of filters\n");
  return false;
}

} // namespace

bool match_figures(bench_context& c) {
  c.out.heading("match: topic name to subscribers, half of the filters exact, half with + or #");
  for (const std::uint32_t filters : {10u, 1000u, 100'000u})
    if (!figures_for(c, mixed, filters)) return false;
  c.out.heading("match: site/+/sensor/N/#, site/+/sensor/N/+, +/7/sensor/N/#, site/7/sensor/N/+");
  std::vector<std::uint32_t> counts = {1000, 10'000, 100'000, 1'000'000};
  if (c.o.quick) counts = {1000, 10'000};
  for (const std::uint32_t filters : counts)
    if (!figures_for(c, wild, filters)) return false;
  return true;
}

} // namespace chainring::bench
