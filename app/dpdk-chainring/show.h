// SPDX-License-Identifier: BSD-3-Clause
/// What the prompt prints about sessions, queues, subscriptions and rates, page by page.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/error.h"
#include "service.h"

namespace chainring::app {

/// Prints one line, without its end.
using print_line = std::function<void(const std::string&)>;

/// Which rows of a list to print. Written as words: `like PATTERN` (a pattern of a shell with `*`
/// and `[...]`, against the client id or filter as it is printed, where a backslash stands for
/// itself), `connected`, `disconnected`, `full`, `from N` (where the page before ended) and `count
/// N`.
struct row_choice {
  std::string like;
  enum class connection : std::uint8_t { any, connected, disconnected } connected = connection::any;
  bool full = false;
  std::uint32_t first = 0;
  std::uint32_t count = 100;

  /// The error says which word is wrong, and what is accepted.
  [[nodiscard]] static result<row_choice> parse(const std::string& words);
  [[nodiscard]] bool wants(const std::string& shown) const;
  [[nodiscard]] bool wants(const session_info& i) const;
};

/// Prints a page of sessions, of their queues, or of their subscriptions. The last line says how
/// many rows were printed, and how to print the next page.
void show_sessions(service& s, const row_choice& rows, const print_line& print);
void show_queues(service& s, const row_choice& rows, const print_line& print);
void show_subscriptions(service& s, const row_choice& rows, const print_line& print);
/// Prints a page of filters with their numbers of subscriptions.
void show_topics(service& s, const row_choice& rows, const print_line& print);
/// Prints a page of retained messages.
void show_retained(service& s, const row_choice& rows, const print_line& print);
/// Prints a page of the groups of shared subscriptions.
void show_groups(service& s, const row_choice& rows, const print_line& print);
/// Prints everything about one session.
void show_session(service& s, const std::string& client, const print_line& print);
/// Finds the session of a client id that is written as it is printed.
[[nodiscard]] std::optional<session_info> find_session(broker& b, const std::string& client);

/// Waits for so many milliseconds. Returns false when the program is to end.
using pause_function = std::function<bool(unsigned ms)>;

/// Looks at all sessions twice, `seconds` apart, and prints the ten clients that sent the most, and
/// the ten whose queues are longest with the age of their oldest message.
void show_top(service& s, unsigned seconds, const pause_function& pause, const print_line& print);

} // namespace chainring::app
