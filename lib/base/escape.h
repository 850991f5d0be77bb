// SPDX-License-Identifier: BSD-3-Clause
/// Text that a client chose, made fit to be shown: client ids, topic names.
///
/// Such text may hold anything: control characters that a terminal obeys, quotes that end a JSON
/// string, octets that are no UTF-8. This is the one way it gets into telemetry, the prompt and the
/// log.
#pragma once
#include "compiler.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace chainring {

/// `text` in printable ASCII, at most `size_max` octets. A control character or one beyond ASCII
/// becomes a backslash, a `u` and four hexadecimal digits, as in JSON, and one beyond U+FFFF two of
/// these. An octet that is not UTF-8 becomes a backslash, an `x` and two digits; a quote and a
/// backslash get a backslash. Different texts stay different, unless they were too long: those end
/// in "...".
[[nodiscard]] std::string escape(std::string_view text, std::size_t size_max = 120);

} // namespace chainring
