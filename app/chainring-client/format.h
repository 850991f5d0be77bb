// SPDX-License-Identifier: BSD-3-Clause
/// How a received message is printed: the format of --format.
///
/// A format is copied, except for %% (a percent sign), %t (topic), %p (payload), %q (QoS), %r (1
/// for a retained message, else 0), %l (length of the payload in octets), %m (message id), %x and
/// %X (payload in hexadecimal), %I (local time as ISO 8601), %U (seconds since 1970 with a
/// fraction), and \n, \r, \t, \0, \\, \a, \e. They mean what they mean to mosquitto_sub.
#pragma once
#include <string>

#include "options.h"

namespace chainring::client {

/// The letters behind '%', for messages and help.
inline constexpr const char* format_letters = "%, t, p, q, r, l, m, x, X, I or U";

/// Returns what is wrong with the format, or nothing.
[[nodiscard]] std::string fault_of_format(const std::string& format);

/// Prints the message on standard output. Returns true when the whole of it is handed over; errno
/// says why it is not.
bool print(const delivery& d, const output_options& options);

} // namespace chainring::client
