// SPDX-License-Identifier: BSD-3-Clause
// The ledger as JSON. A file is untrusted input, so every number is checked before it is used.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "ledger.h"

namespace chainring::gen {

using json = nlohmann::json;

namespace {

constexpr int format = 1;
constexpr std::uint32_t clients_max = 10'000'000;
constexpr std::uint64_t sequence_max = std::uint64_t{1} << 56;

/// The exception that the reader throws, besides those of the JSON library.
struct invalid {
  std::string what;
};

void expect(bool holds, const std::string& what) {
  if (!holds) throw invalid{what};
}

std::uint64_t number(const json& from, const char* key, std::uint64_t low, std::uint64_t high) {
  const json& value = from.at(key);
  expect(value.is_number_unsigned() && value.get<std::uint64_t>() >= low &&
             value.get<std::uint64_t>() <= high,
         std::string(key) + ": expected " + std::to_string(low) + " to " + std::to_string(high));
  return value.get<std::uint64_t>();
}

json shape_to(const shape& s) {
  return {{"publishers", s.publishers},
          {"subscribers", s.subscribers},
          {"topics", s.topics},
          {"wildcard", s.wildcard},
          {"clean", s.clean},
          {"qos", s.qos},
          {"payload_min", s.payload_min},
          {"payload_max", s.payload_max},
          {"seed", s.seed},
          {"prefix", s.prefix}};
}

shape shape_of(const json& j) {
  const auto n32 = [&](const char* key, std::uint64_t low, std::uint64_t high) {
    return static_cast<std::uint32_t>(number(j, key, low, high));
  };
  shape s;
  s.publishers = n32("publishers", 0, clients_max);
  s.subscribers = n32("subscribers", 0, clients_max);
  s.topics = n32("topics", 1, clients_max);
  s.wildcard = j.at("wildcard").get<bool>();
  s.clean = j.at("clean").get<bool>();
  s.qos = j.at("qos").get<int>();
  expect(s.qos >= -1 && s.qos <= 2, "qos: expected -1 to 2");
  s.payload_max = n32("payload_max", payload_size_min, 65535);
  s.payload_min = n32("payload_min", payload_size_min, s.payload_max);
  s.seed = number(j, "seed", 0, ~std::uint64_t{0});
  s.prefix = j.at("prefix").get<std::string>();
  expect(!s.prefix.empty() && s.prefix.size() <= 10, "prefix: expected 1 to 10 characters");
  return s;
}

json parse(const std::string& text) {
  json j = json::parse(text);
  expect(j.at("chainring_ledger").get<int>() == format,
         "chainring_ledger, the format: expected " + std::to_string(format));
  return j;
}

error refusal(const std::string& path, const std::string& why) {
  return {errc::corrupt, "ledger " + path + ": " + why + "; a run cannot be resumed from it"};
}

} // namespace

result<shape> ledger::shape_from_json(const std::string& text, const std::string& path) {
  try {
    return shape_of(parse(text).at("shape"));
  } catch (const json::exception& e) {
    return refusal(path, e.what());
  } catch (const invalid& e) {
    return refusal(path, e.what);
  }
}

std::string ledger::to_json(bool complete) const {
  json lives = json::array();
  for (const bool before : complete_)
    lives.push_back(before);
  lives.push_back(complete);
  json counts = json::object();
  for_each_count(count, [&](const char* name, std::uint64_t value) { counts[name] = value; });
  counts["passed_undelivered"] = passed_undelivered_;
  json publishers = json::array();
  for (const publisher_state& p : publishers_) {
    json pairs = json::array();
    for (std::uint64_t pair = p.first_pair; pair < p.first_pair + p.pairs; ++pair) {
      // Below the base every message is delivered that was owed, so ranges start above it.
      json ranges = json::array();
      for (std::uint64_t q = p.base + 1; q <= p.sent; ++q) {
        if (!has(pair, q)) continue;
        if (!ranges.empty() && ranges.back()[1].get<std::uint64_t>() == q - 1)
          ranges.back()[1] = q;
        else
          ranges.push_back({q, q});
      }
      const pair_state& of = pairs_[pair];
      pairs.push_back({{"from", of.from == never ? 0 : of.from},
                       {"high", of.high},
                       {"delivered", std::move(ranges)}});
    }
    publishers.push_back({{"sent", p.sent},
                          {"acked", p.acked},
                          {"base", p.base},
                          {"sent_ns", p.sent_ns},
                          {"in_doubt_to", p.in_doubt_to},
                          {"starts", p.starts},
                          {"subscribers", std::move(pairs)}});
  }
  const json j = {{"chainring_ledger", format},         {"run", run_},
                  {"lives_complete", std::move(lives)}, {"shape", shape_to(shape_)},
                  {"counts", std::move(counts)},        {"publishers", std::move(publishers)}};
  return j.dump(1) + "\n";
}

result<ledger> ledger::from_json(const std::string& text, const std::string& path,
                                 std::uint64_t window) {
  try {
    const json j = parse(text);
    ledger l(shape_of(j.at("shape")));
    l.run_ = static_cast<std::uint32_t>(number(j, "run", 1, ~std::uint32_t{0}));
    l.complete_ = j.at("lives_complete").get<std::vector<bool>>();
    expect(!l.complete_.empty() && l.complete_.size() < 65535,
           "lives_complete: expected 1 to 65534 of them");
    l.life_ = static_cast<std::uint16_t>(l.complete_.size());
    const json& counts = j.at("counts");
    for_each_count(l.count, [&](const char* name, std::uint64_t& value) {
      // Ledgers that were written before QoS 2 do not have this one.
      if (name == std::string_view("twice") && !counts.contains(name)) return;
      value = number(counts, name, 0, sequence_max);
    });
    l.passed_undelivered_ = number(counts, "passed_undelivered", 0, sequence_max);
    const json& publishers = j.at("publishers");
    expect(publishers.is_array() && publishers.size() == l.shape_.publishers,
           "publishers: expected " + std::to_string(l.shape_.publishers));
    std::uint64_t open = 0;
    for (const json& from : publishers) {
      publisher_state p;
      const bool one = l.acknowledges();
      p.sent = number(from, "sent", 0, sequence_max);
      p.acked = number(from, "acked", one && p.sent > 0 ? p.sent - 1 : 0, one ? p.sent : 0);
      p.base = number(from, "base", 0, one ? p.acked : p.sent);
      p.sent_ns = number(from, "sent_ns", 0, ~std::uint64_t{0});
      p.in_doubt_to = number(from, "in_doubt_to", 0, p.sent);
      if (!l.complete_.back()) p.in_doubt_to = p.sent;
      p.starts = from.at("starts").get<std::vector<std::uint64_t>>();
      expect(p.starts.size() == l.complete_.size() && p.starts[0] == 1 &&
                 std::ranges::is_sorted(p.starts) && p.starts.back() <= p.sent + 1,
             "starts: expected one sequence per life, rising");
      p.starts.push_back(p.sent + 1);
      open = std::max(open, p.sent - p.base);
      l.publishers_.push_back(std::move(p));
    }
    l.subscribed_.resize(l.shape_.subscribers);
    if (open > memory_max) return refusal(path, "too many messages are still open");
    if (auto done = l.allocate(open + window); !done) return done.error();
    for (std::uint32_t i = 0; i < l.shape_.publishers; ++i) {
      const publisher_state& p = l.publishers_[i];
      const json& pairs = publishers[i].at("subscribers");
      expect(pairs.is_array() && pairs.size() == p.pairs,
             "subscribers: expected " + std::to_string(p.pairs));
      for (std::uint32_t k = 0; k < p.pairs; ++k) {
        const std::uint64_t pair = p.first_pair + k;
        pair_state& of = l.pairs_[pair];
        of.from = number(pairs[k], "from", 0, p.sent + 1);
        if (of.from == 0) of.from = never;
        of.high = number(pairs[k], "high", 0, p.sent);
        if (of.from != never) l.subscribed_[l.subscriber_of(i, k)] = true;
        std::uint64_t at = p.base;
        for (const json& range : pairs[k].at("delivered")) {
          expect(
              range.is_array() && range.size() == 2 && range[0].is_number_unsigned() &&
                  range[1].is_number_unsigned() && range[0].get<std::uint64_t>() > at &&
                  range[1] >= range[0] && range[1].get<std::uint64_t>() <= p.sent,
              "delivered: expected rising ranges that lie above `base` and end at or below `sent`");
          at = range[1].get<std::uint64_t>();
          for (auto q = range[0].get<std::uint64_t>(); q <= at; ++q)
            l.word(pair, q) |= std::uint64_t{1} << (q & 63);
        }
      }
      if (l.acknowledges())
        for (std::uint64_t q = p.base + 1; q <= p.acked; ++q)
          l.owe(i, q);
      l.settle(i);
    }
    return l;
  } catch (const json::exception& e) {
    return refusal(path, e.what());
  } catch (const invalid& e) {
    return refusal(path, e.what);
  }
}

} // namespace chainring::gen
