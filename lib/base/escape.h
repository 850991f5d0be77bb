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

/// `text` in printable ASCII, at most `size_max` octets. Characters beyond ASCII and control
/// characters become \\uXXXX as in JSON (two of them beyond U+FFFF), octets that are not UTF-8
/// become
/// \\xXX, a quote and a backslash get a backslash. Different texts stay different, unless they were
/// too long: those end in "...".
[[nodiscard]] std::string escape(std::string_view text, std::size_t size_max = 120);

} // namespace chainring
