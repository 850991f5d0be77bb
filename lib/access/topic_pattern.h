// SPDX-License-Identifier: BSD-3-Clause
/// The topic filter of an access rule, in which `%c` stands for the id of the client and `%u` for
/// the name of its user.
///
/// A pattern is a topic filter (topic/topic.h) with `%c` and `%u` anywhere in its levels, and `%%`
/// for a percent sign. It is compared with topic names, and with the filters of subscriptions.
///
/// A client id or a user name that holds `/`, `+` or `#` would let the pattern name the topics of
/// others. A pattern with such a name never fits, unless the caller asks for caution: then its
/// levels with names fit any text, as `+` does. The same holds for a name that a client has not.
///
/// Thread-safety: a pattern is constant once it is made. Comparing does not allocate.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../base/error.h"

namespace chainring::access {

/// How the names that a filter matches lie to the names that a pattern matches.
enum class relation : std::uint8_t {
  disjoint, ///< no name matches both
  overlaps, ///< some name matches both
  covers,   ///< each name that the filter matches also matches the pattern
};

/// What the names in a pattern stand for.
struct names {
  std::string_view client_id;
  std::string_view user;
};

class topic_pattern {
 public:
  /// Matches every name, also one that starts with `$`.
  topic_pattern() = default;
  /// errc::invalid_argument says what is wrong with the text.
  [[nodiscard]] static result<topic_pattern> parse(std::string_view text);

  /// Compares with a valid topic filter. A topic name is a filter too, and never only overlaps.
  /// `cautious` says what a name does that cannot stand in a level; see the head of this file.
  /// The answer `covers` is exact for filters that one pattern covers level by level; it is
  /// `overlaps` for the pattern "+/#" and the filter "#".
  [[nodiscard]] relation compare(std::string_view filter, const names& who,
                                 bool cautious) const noexcept;
  /// True when the pattern holds `%c`, so that it says nothing about a sender without a client id.
  [[nodiscard]] bool names_client() const noexcept { return names_client_; }
  /// True when the pattern holds `%u`, so that it says nothing about a client without a user.
  [[nodiscard]] bool names_user() const noexcept { return names_user_; }
  /// True for the pattern that was made by the constructor.
  [[nodiscard]] bool matches_all() const noexcept { return levels_.empty(); }

 private:
  struct level {
    enum class kind : std::uint8_t { text, with_name, any, any_rest } what;
    std::string text; // in a level with names, NUL and c or u stand for each of them
  };
  std::vector<level> levels_;
  bool names_client_ = false;
  bool names_user_ = false;
};

} // namespace chainring::access
