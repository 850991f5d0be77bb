// SPDX-License-Identifier: BSD-3-Clause
#include "show.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <fnmatch.h>
#include <sstream>
#include <unordered_map>

#include "base/escape.h"

namespace chainring::app {

namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* with, ...) {
  std::array<char, 1024> text;
  va_list list;
  va_start(list, with);
  const int n = std::vsnprintf(text.data(), text.size(), with, list);
  va_end(list);
  return {text.data(), std::min<std::size_t>(static_cast<std::size_t>(std::max(n, 0)), 1023)};
}

/// Returns one word that matches the client id as `like PATTERN`. A star takes the place of what
/// means something else to a pattern or to the prompt: '[' begins a set, a space ends the word, '?'
/// is the key for help, and '#' begins a comment.
std::string pattern_of(const std::string& identity) {
  std::string pattern = escape(identity);
  for (char& c : pattern)
    if (c == '[' || c == ' ' || c == '?' || c == '#') c = '*';
  return pattern;
}

/// Returns a client id as it was typed, with the two characters that the prompt does not take.
std::string typed(std::string client) {
  for (const auto& [written, meant] : {std::pair{"\\u0023", "#"}, std::pair{"\\u003f", "?"}})
    for (std::size_t at = client.find(written); at != std::string::npos; at = client.find(written))
      client.replace(at, 6, meant);
  return client;
}

std::uint64_t wall_clock_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

/// The seconds since a moment on the wall clock; 0 when the clock was set back.
double seconds_since(std::uint64_t ns) {
  const std::uint64_t now = wall_clock_ns();
  return now > ns ? static_cast<double>(now - ns) / 1e9 : 0;
}

std::string address_text(const net::client_address& a) {
  return a == net::client_address{} ? "-" : net::to_string(net::endpoint::from_key(a));
}

/// Says why a full queue does not empty, and how many messages were refused because of it.
std::string full_text(const session_info& i) {
  if (i.queue_depth < i.queue_limit) return "";
  return std::string("; full: ") +
         (i.connected ? "its client does not acknowledge" : "its client is not connected") + ", " +
         std::to_string(i.refused) + " PUBLISH messages were refused because of it";
}

/// Calls fn(session) for the sessions that are wanted, up to the count. Returns where the next page
/// begins, or 0 at the end.
template <class F> std::uint32_t each_session(broker& b, const row_choice& rows, F&& fn) {
  std::uint32_t first = rows.first, shown = 0;
  do {
    std::vector<session_info> page;
    first = b.sessions(first, 256, page);
    for (const session_info& i : page) {
      if (!rows.wants(i)) continue;
      if (shown == rows.count) return i.number;
      if (fn(i)) ++shown;
    }
  } while (first != 0);
  return 0;
}

void print_end(std::uint64_t shown, const char* what, const char* command, const row_choice& rows,
               std::uint32_t next, const print_line& print) {
  if (next == 0) return print(format("%" PRIu64 " %s", shown, what));
  print(format("%" PRIu64 " %s; there are more: show %s from %u count %u", shown, what, command,
               next, rows.count));
}

result<std::uint32_t> number(const std::string& word, const std::string& text, std::uint32_t least,
                             std::uint32_t most) {
  std::uint32_t n = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (bad != std::errc{} || end != text.data() + text.size() || n < least || n > most)
    return error{errc::invalid_argument, word + " '" + text + "': expected " +
                                             std::to_string(least) + " to " + std::to_string(most)};
  return n;
}

} // namespace

result<row_choice> row_choice::parse(const std::string& words) {
  row_choice rows;
  std::istringstream in(words);
  for (std::string word; in >> word;) {
    std::string value;
    if (word == "connected") {
      rows.connected = connection::connected;
    } else if (word == "disconnected") {
      rows.connected = connection::disconnected;
    } else if (word == "full") {
      rows.full = true;
    } else if ((word == "like" || word == "from" || word == "count") && in >> value) {
      if (word == "like") {
        rows.like = value;
        continue;
      }
      auto n = number(word, value, word == "count" ? 1 : 0, UINT32_MAX - 1);
      if (!n) return n.error();
      (word == "from" ? rows.first : rows.count) = *n;
    } else {
      return error{errc::invalid_argument,
                   "'" + word +
                       "': expected like PATTERN, connected, disconnected, full, from N or "
                       "count N"};
    }
  }
  return rows;
}

bool row_choice::wants(const std::string& shown) const {
  // A backslash stands for itself, because escaped text has backslashes.
  return like.empty() || fnmatch(like.c_str(), shown.c_str(), FNM_NOESCAPE) == 0;
}

bool row_choice::wants(const session_info& i) const {
  if (connected != connection::any && i.connected != (connected == connection::connected))
    return false;
  if (full && i.queue_depth < i.queue_limit) return false;
  return wants(escape(i.identity));
}

void show_sessions(service& s, const row_choice& rows, const print_line& print) {
  std::uint64_t shown = 0;
  const std::uint32_t next = each_session(s.broker(), rows, [&](const session_info& i) {
    ++shown;
    print(format("session %u '%s': %s%s, at %s, worker %u, keep alive %u s, queued %" PRIu64,
                 i.number, escape(i.identity).c_str(), i.connected ? "connected" : "disconnected",
                 i.ends_with_connection ? ", clean" : "", address_text(i.address).c_str(), i.home,
                 i.keep_alive_s, i.queue_depth));
    return true;
  });
  print_end(shown, "sessions", "sessions", rows, next, print);
}

void show_queues(service& s, const row_choice& rows, const print_line& print) {
  std::uint64_t shown = 0;
  const std::uint32_t next = each_session(s.broker(), rows, [&](const session_info& i) {
    if (i.queue_capacity == 0) return false;
    ++shown;
    print(format("queue %u (%s): depth %" PRIu64 " of %" PRIu64 ", may grow to %" PRIu64
                 ", high water %" PRIu64 "%s",
                 i.number, escape(i.identity).c_str(), i.queue_depth, i.queue_capacity,
                 i.queue_limit, i.queue_high_water, full_text(i).c_str()));
    return true;
  });
  print_end(shown, "queues", "queues", rows, next, print);
}

void show_subscriptions(service& s, const row_choice& rows, const print_line& print) {
  std::uint64_t shown = 0;
  const std::uint32_t next = each_session(s.broker(), rows, [&](const session_info& i) {
    constexpr std::size_t at_once = 256;
    std::vector<subscription_info> page;
    std::uint32_t skip = 0;
    do {
      page = s.broker().subscriptions_of(i.number, skip, at_once);
      for (const subscription_info& one : page)
        print(format("session %u '%s': %s at QoS %u", i.number, escape(i.identity).c_str(),
                     escape(one.filter).c_str(), one.qos));
      shown += page.size();
      skip += static_cast<std::uint32_t>(page.size());
    } while (page.size() == at_once);
    return true; // the count limits sessions
  });
  print_end(shown, "subscriptions", "subscriptions", rows, next, print);
}

void show_topics(service& s, const row_choice& rows, const print_line& print) {
  constexpr std::size_t at_once = 64; // sessions wait to subscribe while these are copied
  std::uint32_t first = rows.first;
  std::uint64_t shown = 0;
  std::vector<topic_info> page;
  const auto next_page = [&](std::size_t most) {
    page.clear();
    return s.broker().topics(first, most, page);
  };
  do {
    // A page has at most as many filters as are still wanted, so that it ends where the next one
    // begins.
    first = next_page(std::min<std::size_t>(rows.count - shown, at_once));
    for (const topic_info& t : page) {
      const std::string filter = escape(t.filter);
      if (!rows.wants(filter)) continue;
      ++shown;
      print(format("%s: %u subscriptions", filter.c_str(), t.subscriptions));
    }
  } while (first != 0 && shown < rows.count);
  // Where only unused places follow, there is nothing more.
  while (first != 0) {
    const std::uint32_t after = next_page(1);
    if (!page.empty()) break;
    first = after;
  }
  print_end(shown, "filters", "topics", rows, first, print);
  print(format("%u subscriptions in all", s.broker().subscription_count()));
}

void show_retained(service& s, const row_choice& rows, const print_line& print) {
  std::uint32_t next = rows.first;
  std::uint64_t shown = 0;
  do {
    std::vector<retained_info> one;
    next = s.broker().retained(next, 1, one); // one at a time, so that a page ends where it may
    for (const retained_info& i : one) {
      const std::string topic = escape(i.topic);
      if (!rows.wants(topic)) continue;
      ++shown;
      print(format("%s: %u octets at QoS %u, published %.0f s ago", topic.c_str(), i.size, i.qos,
                   seconds_since(i.published_ns)));
    }
  } while (next != 0 && shown < rows.count);
  print_end(shown, "retained messages", "retained", rows, next, print);
  const retained_statistics all = s.broker().retained_counts();
  print(format("%" PRIu64 " of at most %" PRIu64 " messages, %" PRIu64 " of at most %" PRIu64
               " bytes in all",
               all.messages, all.messages_max, all.bytes, all.bytes_max));
}

void show_groups(service& s, const row_choice& rows, const print_line& print) {
  std::uint32_t next = rows.first;
  std::uint64_t shown = 0;
  do {
    std::vector<group_info> one;
    next = s.broker().groups(next, 1, one); // one at a time, so that a page ends where it may
    for (const group_info& i : one) {
      const std::string name = escape("$share/" + i.name + "/" + i.filter);
      if (!rows.wants(name)) continue;
      ++shown;
      print(format("%s: %u members, queued %" PRIu64 " of at most %" PRIu64 ", high water %" PRIu64
                   ", not acknowledged %" PRIu64 "; refused because its queue is full: %" PRIu64,
                   name.c_str(), i.members, i.queue_depth, i.queue_limit, i.queue_high_water,
                   i.leased, i.refused));
    }
  } while (next != 0 && shown < rows.count);
  print_end(shown, "groups", "groups", rows, next, print);
}

std::optional<session_info> find_session(broker& b, const std::string& as_typed) {
  const std::string client = typed(as_typed);
  if (auto found = b.session_of(client)) return found;
  // The id may have octets that are printed in another form.
  if (client.find('\\') == std::string::npos) return std::nullopt;
  std::optional<session_info> found;
  row_choice all;
  all.count = UINT32_MAX;
  each_session(b, all, [&](const session_info& i) {
    if (!found && escape(i.identity) == client) found = i;
    return true;
  });
  return found;
}

void show_session(service& s, const std::string& client, const print_line& print) {
  const auto found = find_session(s.broker(), client);
  if (!found) return print("there is no such client; 'show sessions' lists them");
  const session_info& i = *found;
  print(format("session %u '%s', worker %u", i.number, escape(i.identity).c_str(), i.home));
  if (i.connected)
    print(format("  connected at %s, keep alive %u s", address_text(i.address).c_str(),
                 i.keep_alive_s));
  else if (i.disconnected_ns != 0)
    print(format("  disconnected for %.0f s", seconds_since(i.disconnected_ns)));
  else
    print("  disconnected");
  const std::uint32_t expiry = i.expiry_s != 0 ? i.expiry_s : s.broker().session_expiry();
  print(i.ends_with_connection ? std::string("  ends with its connection")
        : expiry != 0          ? format("  ends %u s after its connection", expiry)
                               : std::string("  never expires"));
  print(format("  queue: depth %" PRIu64 " of %" PRIu64 ", may grow to %" PRIu64
               ", high water %" PRIu64 "%s",
               i.queue_depth, i.queue_capacity, i.queue_limit, i.queue_high_water,
               full_text(i).c_str()));
  if (i.oldest_published_ns != 0)
    print(format("  oldest message: published %.1f s ago", seconds_since(i.oldest_published_ns)));
  print(
      format("  messages: %" PRIu64 " from it, %" PRIu64 " sent to it", i.published, i.delivered));
  print(format("  dropped: %" PRIu64 " newest, %" PRIu64 " oldest, %" PRIu64 " at QoS 0, %" PRIu64
               " expired; refused because its queue is full: %" PRIu64,
               i.dropped_newest, i.dropped_oldest, i.dropped_qos0, i.expired_messages, i.refused));
  if (i.queue_bytes != 0 || i.over_bytes != 0)
    print(format("  octets in its queue: %" PRIu64 "; beyond the limit of octets: %" PRIu64
                 " messages",
                 i.queue_bytes, i.over_bytes));
  constexpr std::size_t filters_max = 100;
  const auto filters = s.broker().subscriptions_of(i.number, 0, filters_max);
  print(format("  %u subscriptions", i.subscriptions));
  for (const subscription_info& one : filters)
    print(format("    %s at QoS %u", escape(one.filter).c_str(), one.qos));
  if (i.subscriptions > filters.size())
    print(format("    and %zu more: show subscriptions like %s", i.subscriptions - filters.size(),
                 pattern_of(i.identity).c_str()));
}

void show_top(service& s, unsigned seconds, const pause_function& pause, const print_line& print) {
  struct talker {
    session_info info;
    std::uint64_t sent;
  };
  constexpr std::size_t top = 10;
  row_choice all;
  all.count = UINT32_MAX;
  std::unordered_map<std::uint32_t, std::uint64_t> before;
  each_session(s.broker(), all, [&](const session_info& i) {
    before[i.number] = i.published;
    return true;
  });
  const auto begin = std::chrono::steady_clock::now();
  if (!pause(seconds * 1000)) return print("show top: the broker ends");
  const double passed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::vector<talker> now;
  each_session(s.broker(), all, [&](const session_info& i) {
    const auto was = before.find(i.number);
    const std::uint64_t earlier = was == before.end() ? 0 : was->second;
    now.push_back({i, i.published >= earlier ? i.published - earlier : i.published});
    return true;
  });
  const auto first_of = [&](auto more) {
    const std::size_t n = std::min(top, now.size());
    std::partial_sort(now.begin(), now.begin() + static_cast<std::ptrdiff_t>(n), now.end(), more);
    return n;
  };
  print(format("clients that sent the most in %u s:", seconds));
  std::size_t n = first_of([](const talker& a, const talker& b) { return a.sent > b.sent; });
  for (std::size_t i = 0; i < n && now[i].sent != 0; ++i)
    print(format("  %-24s %.1f a second", escape(now[i].info.identity).c_str(),
                 static_cast<double>(now[i].sent) / passed));
  print("clients with the longest queues:");
  n = first_of(
      [](const talker& a, const talker& b) { return a.info.queue_depth > b.info.queue_depth; });
  for (std::size_t i = 0; i < n && now[i].info.queue_depth != 0; ++i) {
    const session_info& one = now[i].info;
    print(format("  %-24s %" PRIu64 " queued, the oldest for %.1f s%s",
                 escape(one.identity).c_str(), one.queue_depth,
                 one.oldest_published_ns == 0 ? 0.0 : seconds_since(one.oldest_published_ns),
                 full_text(one).c_str()));
  }
}

} // namespace chainring::app
