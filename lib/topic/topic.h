// SPDX-License-Identifier: BSD-3-Clause
/// Topic names and topic filters. MQTT-SN takes their rules from MQTT (MQTT 3.1.1 section 4.7).
///
/// A name is a UTF-8 string whose levels are separated by `/`. A filter may hold `+` for exactly
/// one level and, as its last level, `#` for the level before it and everything below. Levels may
/// be empty: "/a" has two. Names are compared by octet, without normalisation.
///
/// All functions are thread-safe and do not allocate. Their cost is linear in the octets given.
///
///     if (!chainring::valid_topic_filter(text)) return refuse(text);
///     chainring::topic_matches("site/+/temp", "site/7/temp"); // true
#pragma once
#include <cstddef>
#include <optional>
#include <string_view>

namespace chainring {

/// The longest topic name or filter, in octets.
inline constexpr std::size_t topic_size_max = 65535;

/// True for well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF)
/// without U+0000, which MQTT forbids in strings. The empty string is well-formed.
[[nodiscard]] bool valid_utf8(std::string_view text) noexcept;

/// True where a message may be published to `name`: 1 to 65,535 octets of valid UTF-8 without NUL,
/// `+` or `#`.
[[nodiscard]] bool valid_topic_name(std::string_view name) noexcept;

/// True where `filter` may be subscribed to. The rules are those of a name, but `+` may stand for a
/// whole level, and `#` for the whole last level.
[[nodiscard]] bool valid_topic_filter(std::string_view filter) noexcept;

/// True where the filter holds a wildcard, so that it may match names other than its own text.
[[nodiscard]] bool has_wildcard(std::string_view filter) noexcept;

/// The parts of a shared subscription, `$share/<group>/<filter>` (MQTT 5.0 section 4.8.2).
struct shared_filter {
  std::string_view group;  ///< at least one octet, without `/`, `+` and `#`
  std::string_view filter; ///< a valid filter
  std::string_view both;   ///< `<group>/<filter>`, which names the group's subscription
};

/// What the text of a shared subscription begins with.
inline constexpr std::string_view shared_prefix = "$share/";

/// True where the text asks for a shared subscription, valid or not: it is `$share`, or begins with
/// `$share/`. Such a text is never matched as a filter.
[[nodiscard]] bool asks_to_share(std::string_view text) noexcept;

/// Splits the text of a shared subscription. Empty where the text is not a valid one.
[[nodiscard]] std::optional<shared_filter> split_shared_filter(std::string_view text) noexcept;

/// True for the topics at which the broker reports about itself: `$SYS` and those below it. Front
/// ends let no client publish there.
[[nodiscard]] inline bool is_system_topic(std::string_view name) noexcept {
  constexpr std::string_view root = "$SYS";
  return name.starts_with(root) && (name.size() == root.size() || name[root.size()] == '/');
}

/// True where a message published to `name` goes to a subscriber of `filter`. Both must be valid.
/// `a/#` also matches `a`. A filter that starts with a wildcard matches no name that starts with
/// `$`.
[[nodiscard]] bool topic_matches(std::string_view filter, std::string_view name) noexcept;

} // namespace chainring
