// SPDX-License-Identifier: BSD-3-Clause
/// Makes text that a client chose, such as a client id or a topic name, fit to be shown.
///
/// Such text may hold any octets: control characters that a terminal obeys, quotes that end a JSON
/// string, octets that are not UTF-8. Telemetry, the prompt and the log show it only as escape()
/// returns it.
#pragma once
#include "compiler.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace chainring {

/// Returns `text` in printable ASCII, at most `size_max` octets. A control character, or a
/// character beyond ASCII, becomes a backslash, a `u` and four hexadecimal digits, as in JSON; a
/// character beyond U+FFFF becomes two of these. An octet that is not UTF-8 becomes a backslash, an
/// `x` and two digits. A quote and a backslash get a backslash in front. Different texts stay
/// different unless they are too long; a text that is too long is cut and ends in "...".
[[nodiscard]] std::string escape(std::string_view text, std::size_t size_max = 120);

} // namespace chainring
