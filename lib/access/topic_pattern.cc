// SPDX-License-Identifier: BSD-3-Clause
#include "access/topic_pattern.h"

#include <algorithm>

#include "base/escape.h"
#include "topic/topic.h"

namespace chainring::access {

namespace {

constexpr std::size_t end = std::string_view::npos;

// Takes the level that starts at `at`, and moves `at` to the next one, or to `end` behind the last.
std::string_view take_level(std::string_view filter, std::size_t& at) noexcept {
  const std::size_t slash = filter.find('/', at);
  const std::string_view level = filter.substr(at, slash == end ? end : slash - at);
  at = slash == end ? end : slash + 1;
  return level;
}

std::string_view name_of(const names& who, char which) noexcept {
  return which == 'u' ? who.user : who.client_id;
}

bool cannot_stand_in_a_level(std::string_view name) noexcept {
  return name.empty() || name.find_first_of("/+#") != end;
}

// True where the text of a level with names, put in their places, is that level.
bool is_expansion(std::string_view text, const names& who, std::string_view level) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view part = text[i] == '\0' ? name_of(who, text[++i]) : text.substr(i, 1);
    if (!level.starts_with(part)) return false;
    level.remove_prefix(part.size());
  }
  return level.empty();
}

} // namespace

result<topic_pattern> topic_pattern::parse(std::string_view text) {
  const auto refuse = [&](const std::string& why) {
    return error{errc::invalid_argument, "'" + escape(text) + "' " + why};
  };
  if (!valid_topic_filter(text))
    return refuse("is not a topic filter: expected UTF-8 of 1 to 65535 octets, + for one whole "
                  "level, and # for the whole last level");
  topic_pattern made;
  for (std::size_t at = 0; at != end;) {
    const std::string_view taken = take_level(text, at);
    level l{.what = level::kind::text, .text = {}};
    if (taken == "+") l.what = level::kind::any;
    if (taken == "#") l.what = level::kind::any_rest;
    for (std::size_t i = 0; i < taken.size(); ++i) {
      if (taken[i] != '%') {
        l.text += taken[i];
        continue;
      }
      const char next = ++i < taken.size() ? taken[i] : '\0';
      if (next == '%') {
        l.text += '%';
        continue;
      }
      if (next != 'c' && next != 'u')
        return refuse("holds a percent sign that is none of %c, which stands for the client id, "
                      "%u, which stands for the user name, and %%, which stands for a percent "
                      "sign");
      l.text += '\0';
      l.text += next;
      l.what = level::kind::with_name;
      (next == 'c' ? made.names_client_ : made.names_user_) = true;
    }
    made.levels_.push_back(std::move(l));
  }
  return made;
}

relation topic_pattern::compare(std::string_view filter, const names& who,
                                bool cautious) const noexcept {
  if (matches_all()) return relation::covers;
  using kind = level::kind;
  // A wildcard in the first level matches no name that starts with '$' (topic_matches()).
  const level& first = levels_.front();
  const bool pattern_starts_open = first.what == kind::any || first.what == kind::any_rest;
  const bool filter_starts_open = filter.starts_with('+') || filter.starts_with('#');
  if (pattern_starts_open && filter.starts_with('$')) return relation::disjoint;
  const bool fits_no_level = (names_client_ && cannot_stand_in_a_level(who.client_id)) ||
                             (names_user_ && cannot_stand_in_a_level(who.user));
  // With caution a first level with such a name fits names that start with any text.
  const bool starts_anyhow = first.what == kind::with_name && fits_no_level;
  if (filter_starts_open && !pattern_starts_open && !starts_anyhow) {
    const std::string_view start =
        first.text.starts_with('\0') ? name_of(who, first.text[1]) : first.text;
    if (start.starts_with('$')) return relation::disjoint;
  }
  bool covered = true;
  std::size_t at = 0;
  for (const level& mine : levels_) {
    if (mine.what == kind::any_rest) return covered ? relation::covers : relation::overlaps;
    if (at == end) return relation::disjoint; // the filter has fewer levels
    const std::string_view theirs = take_level(filter, at);
    if (mine.what == kind::with_name && fits_no_level && !cautious) return relation::disjoint;
    if (theirs == "#") return relation::overlaps;
    if (mine.what == kind::any) continue;
    if (mine.what == kind::with_name && fits_no_level) continue;
    if (theirs == "+") {
      covered = false;
    } else if (mine.what == kind::text ? theirs != mine.text
                                       : !is_expansion(mine.text, who, theirs)) {
      return relation::disjoint;
    }
  }
  // The filter "a/#" also matches "a".
  if (at != end) return take_level(filter, at) == "#" ? relation::overlaps : relation::disjoint;
  return covered ? relation::covers : relation::overlaps;
}

} // namespace chainring::access
