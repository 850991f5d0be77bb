// SPDX-License-Identifier: BSD-3-Clause
/// Topic names and topic filters, whose rules MQTT-SN takes from MQTT (MQTT 3.1.1 section 4.7).
///
/// A name is a UTF-8 string whose levels are separated by `/`. A filter may hold `+` for exactly
/// one level and, as its last level, `#` for the level before it and everything below. Levels may
/// be empty: "/a" has two. Comparison is by octet, without normalisation.
///
/// Thread-safe; nothing allocates. Cost is linear in the octets given.
///
///     if (!chainring::valid_topic_filter(text)) return refuse(text);
///     chainring::topic_matches("site/+/temp", "site/7/temp"); // true
#pragma once
#include <cstddef>
#include <string_view>

namespace chainring {

/// Longest topic name or filter, octets.
inline constexpr std::size_t topic_size_max = 65535;

/// True for well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF)
/// without U+0000, which MQTT forbids in strings. The empty string is well-formed.
[[nodiscard]] bool valid_utf8(std::string_view text) noexcept;

/// True where a message may be published to `name`: 1 to 65,535 octets of valid UTF-8 without NUL,
/// `+` or `#`.
[[nodiscard]] bool valid_topic_name(std::string_view name) noexcept;

/// True where `filter` may be subscribed to: as a name, but `+` may be a whole level and `#` the
/// whole last one.
[[nodiscard]] bool valid_topic_filter(std::string_view filter) noexcept;

/// True where the filter holds a wildcard, so that it stands for more than the one name it spells.
[[nodiscard]] bool has_wildcard(std::string_view filter) noexcept;

/// True where a message published to `name` goes to a subscriber of `filter`. Both must be valid.
/// `a/#` matches `a` too. A filter that starts with a wildcard matches no name that starts with
/// `$`.
[[nodiscard]] bool topic_matches(std::string_view filter, std::string_view name) noexcept;

} // namespace chainring
