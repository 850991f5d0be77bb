// SPDX-License-Identifier: BSD-3-Clause
#include "access/access.h"

#include <algorithm>

namespace chainring::access {

namespace {

// Compares with a pattern in which '*' stands for any octets and '?' for one. After a mismatch only
// the last '*' has to take one octet more, so the time is the product of the two sizes at most.
bool fits(std::string_view pattern, std::string_view text) noexcept {
  constexpr std::size_t none = std::string_view::npos;
  std::size_t p = 0, t = 0, star = none, star_end = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != none) {
      p = star + 1;
      t = ++star_end;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*')
    ++p;
  return p == pattern.size();
}

std::uint64_t mask(unsigned length) noexcept {
  return length == 0 ? 0 : ~std::uint64_t{0} << (64 - length);
}

} // namespace

bool rule_set::rule::concerns(const sender& who) const noexcept {
  const bool connected = !who.client_id.empty();
  if (unconnected && connected) return false;
  if (!any_client && (!connected || !fits(client, who.client_id))) return false;
  if (!any_user && (who.user.empty() || !fits(user, who.user))) return false;
  if (anonymous && !who.user.empty()) return false;
  if (!any_listener && listener != who.listener) return false;
  if (own_port != 0 && own_port != who.own_port) return false;
  const unsigned high = std::min<unsigned>(prefix_length, 64);
  return ((prefix.high ^ who.address.high) & mask(high)) == 0 &&
         ((prefix.low ^ who.address.low) & mask(prefix_length - high)) == 0;
}

void rule_set::index() {
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const rule& r = rules_[i];
    const auto number = static_cast<std::uint16_t>(i);
    if (r.any_client || r.client.find_first_of("*?") != std::string::npos)
      general_.push_back(number);
    else
      by_id_.emplace_back(r.client, number);
  }
  std::ranges::sort(by_id_);
}

// Calls fn(number) for each rule that concerns the sender, in order, until it returns false.
template <class F> void rule_set::for_each_concerning(const sender& who, F&& fn) const noexcept {
  struct by_text {
    bool operator()(const std::pair<std::string, std::uint16_t>& a, std::string_view b) const {
      return a.first < b;
    }
    bool operator()(std::string_view a, const std::pair<std::string, std::uint16_t>& b) const {
      return a < b.first;
    }
  };
  auto [own, own_end] = std::equal_range(by_id_.begin(), by_id_.end(), who.client_id, by_text{});
  auto other = general_.begin();
  while (own != own_end || other != general_.end()) {
    const bool take_own = other == general_.end() || (own != own_end && own->second < *other);
    const std::uint16_t number = take_own ? own++->second : *other++;
    if (rules_[number].concerns(who) && !fn(number)) return;
  }
}

verdict rule_set::judge(const sender& who) const noexcept {
  verdict v{};
  v.connect_ = default_allow_;
  v.rest_ = static_cast<std::uint16_t>(rules_.size());
  bool decided = false;
  for_each_concerning(who, [&](std::uint16_t number) {
    const rule& r = rules_[number];
    if (!decided && (r.actions & may_connect) != 0) {
      v.connect_ = r.allow;
      v.connect_line_ = r.line;
      decided = true;
    }
    const bool listing = v.rest_ == rules_.size();
    if (listing && (r.actions & (may_publish | may_subscribe)) != 0) {
      if (v.listed_count_ == verdict::listed_max)
        v.rest_ = number;
      else
        v.listed_[v.listed_count_++] = number;
    }
    return !decided || v.rest_ == rules_.size();
  });
  return v;
}

// Calls fn(rule) for each rule about that action that concerns the sender, until it returns false.
template <class F>
void rule_set::for_each_listed(const verdict& v, const sender& who, std::uint8_t action,
                               F&& fn) const noexcept {
  for (std::size_t i = 0; i < v.listed_count_; ++i) {
    const rule& r = rules_[v.listed_[i]];
    if ((r.actions & action) != 0 && !fn(r)) return;
  }
  for (std::size_t i = v.rest_; i < rules_.size(); ++i) {
    const rule& r = rules_[i];
    if ((r.actions & action) != 0 && r.concerns(who) && !fn(r)) return;
  }
}

decision rule_set::publish(const verdict& v, const sender& who,
                           std::string_view topic) const noexcept {
  decision d{.allowed = default_allow_, .line = 0};
  for_each_listed(v, who, may_publish, [&](const rule& r) {
    // A rule that denies takes an id that cannot stand in a level for any id.
    if (r.topic.compare(topic, {who.client_id, who.user}, !r.allow) != relation::covers)
      return true;
    d = {r.allow, r.line};
    return false;
  });
  return d;
}

decision rule_set::subscribe(const verdict& v, const sender& who,
                             std::string_view filter) const noexcept {
  decision d{.allowed = default_allow_, .line = 0};
  for_each_listed(v, who, may_subscribe, [&](const rule& r) {
    const relation to = r.topic.compare(filter, {who.client_id, who.user}, !r.allow);
    // What an allowing rule overlaps stays allowed, and the rest of the filter is still to be
    // decided. What a denying rule overlaps decides for the whole filter.
    if (to == relation::disjoint || (to == relation::overlaps && r.allow)) return true;
    d = {r.allow, r.line};
    return false;
  });
  return d;
}

} // namespace chainring::access
