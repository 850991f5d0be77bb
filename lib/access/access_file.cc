// SPDX-License-Identifier: BSD-3-Clause
// Reads a file of access rules. The whole file is refused for one fault.
#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <fstream>
#include <optional>

#include "access/access.h"
#include "base/escape.h"
#include "topic/topic.h"

namespace chainring::access {

namespace {

error refuse(const std::string& why) {
  return error{errc::invalid_argument, why};
}

std::string quoted(std::string_view word) {
  return "'" + escape(word) + "'";
}

// Splits a line into words. A word may stand in quotes.
result<std::vector<std::string>> words_of(std::string_view line) {
  std::vector<std::string> words;
  constexpr std::string_view blanks = " \t\r";
  for (std::size_t at = line.find_first_not_of(blanks); at < line.size();
       at = line.find_first_not_of(blanks, at)) {
    std::string& word = words.emplace_back();
    if (line[at] != '"') {
      const std::size_t end = std::min(line.find_first_of(blanks, at), line.size());
      word = line.substr(at, end - at);
      at = end;
      continue;
    }
    for (++at; at < line.size() && line[at] != '"'; ++at) {
      if (line[at] == '\\') {
        ++at;
        if (at == line.size() || (line[at] != '"' && line[at] != '\\'))
          return refuse("a backslash in quotes stands before neither a quote nor a backslash");
      }
      word += line[at];
    }
    if (at == line.size()) return refuse("a quote is not closed");
    if (++at < line.size() && blanks.find(line[at]) == std::string_view::npos)
      return refuse("a closing quote must stand at the end of its word");
  }
  return words;
}

std::optional<std::uint32_t> number_of(std::string_view text, std::uint32_t most) {
  std::uint32_t n = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (status != std::errc{} || end != text.data() + text.size() || n > most) return {};
  return n;
}

struct range {
  ip_address prefix;
  std::uint8_t length;
};

result<range> range_of(const std::string& text) {
  const std::size_t slash = text.find('/');
  const std::string address = text.substr(0, slash);
  std::array<std::uint8_t, 16> octets{};
  const bool v4 = inet_pton(AF_INET, address.c_str(), octets.data()) == 1;
  const bool v6 = !v4 && inet_pton(AF_INET6, address.c_str(), octets.data()) == 1;
  if ((!v4 && !v6) || address.find('\0') != std::string::npos)
    return refuse(quoted(address) + " is not an IPv4 or IPv6 address, such as 10.0.0.7 or fd00::7");
  range r{};
  if (v4) {
    r.prefix =
        ip_address::from_ipv4(std::uint32_t{octets[0]} << 24 | std::uint32_t{octets[1]} << 16 |
                              std::uint32_t{octets[2]} << 8 | octets[3]);
  } else {
    for (std::size_t i = 0; i < 8; ++i) {
      r.prefix.high = r.prefix.high << 8 | octets[i];
      r.prefix.low = r.prefix.low << 8 | octets[i + 8];
    }
  }
  const std::uint32_t bits = v4 ? 32 : 128;
  std::uint32_t length = bits;
  if (slash != std::string::npos) {
    const auto given = number_of(std::string_view(text).substr(slash + 1), bits);
    if (!given)
      return refuse("the length of the range " + quoted(text) + " must be 0 to " +
                    std::to_string(bits));
    length = *given;
  }
  r.length = static_cast<std::uint8_t>(length + (v4 ? 96 : 0));
  const auto below = [](unsigned bits_kept) {
    return bits_kept >= 64 ? 0 : ~std::uint64_t{0} >> bits_kept;
  };
  const unsigned high = std::min<unsigned>(r.length, 64);
  if ((r.prefix.high & below(high)) != 0 || (r.prefix.low & below(r.length - high)) != 0)
    return refuse("the address of the range " + quoted(text) + " has bits behind its first " +
                  std::to_string(length) + ", which must be zero");
  return r;
}

} // namespace

/// Reads one line after the other into a rule set.
struct rule_set::reader {
  rule_set& out;
  bool default_seen = false;

  result<void> read(std::string_view line, std::uint32_t number) {
    if (line.size() > line_size_max)
      return refuse("the line has " + std::to_string(line.size()) + " octets; expected at most " +
                    std::to_string(line_size_max));
    if (!valid_utf8(line)) return refuse("the line is not text in UTF-8");
    const std::size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string_view::npos || line[first] == '#') return {};
    auto words = words_of(line);
    if (!words) return words.error();
    const std::string& verb = words->front();
    if (verb == "default") return read_default(*words);
    if (verb != "allow" && verb != "deny")
      return refuse(quoted(verb) + " begins no rule; expected allow, deny or default");
    if (out.rules_.size() == rules_max)
      return refuse("there are more than " + std::to_string(rules_max) + " rules");
    rule r;
    r.allow = verb == "allow";
    r.line = number;
    if (words->size() < 2)
      return refuse("expected what the rule is about behind " + quoted(verb) +
                    ": all, or some of connect, publish and subscribe, joined by commas");
    if (auto read = read_actions((*words)[1], r); !read) return read;
    for (std::size_t i = 2; i < words->size();) {
      auto used = read_condition(*words, i, r);
      if (!used) return used.error();
      i += *used;
    }
    if (auto whole = check(r, *words); !whole) return whole;
    out.rules_.push_back(std::move(r));
    return {};
  }

 private:
  result<void> read_default(const std::vector<std::string>& words) {
    if (words.size() != 2 || (words[1] != "allow" && words[1] != "deny"))
      return refuse("expected allow or deny behind 'default', and nothing more");
    if (default_seen) return refuse("the default is given twice");
    default_seen = true;
    out.default_allow_ = words[1] == "allow";
    return {};
  }

  static result<void> read_actions(std::string_view text, rule& r) {
    if (text == "all") {
      r.actions = may_connect | may_publish | may_subscribe;
      return {};
    }
    for (std::size_t at = 0; at <= text.size();) {
      const std::size_t comma = std::min(text.find(',', at), text.size());
      const std::string_view one = text.substr(at, comma - at);
      const std::uint8_t action = one == "connect"     ? may_connect
                                  : one == "publish"   ? may_publish
                                  : one == "subscribe" ? may_subscribe
                                                       : 0;
      if (action == 0)
        return refuse(quoted(one) + " is nothing that a rule can be about; expected all, or some "
                                    "of connect, publish and subscribe, joined by commas");
      if ((r.actions & action) != 0) return refuse(quoted(one) + " is given twice");
      r.actions |= action;
      at = comma + 1;
    }
    return {};
  }

  // Reads the condition at `at` and returns how many words it has.
  result<std::size_t> read_condition(const std::vector<std::string>& words, std::size_t at,
                                     rule& r) {
    const std::string& name = words[at];
    constexpr std::array<std::string_view, 8> names{
        "client", "user", "anonymous", "unconnected", "from", "listener", "port", "topic"};
    const auto found = std::ranges::find(names, name);
    if (found == names.end())
      return refuse(quoted(name) + " is no condition of a rule; expected client, user, "
                                   "anonymous, unconnected, from, listener, port or topic");
    if (given_before(words, at)) return refuse(quoted(name) + " is given twice");
    if (name == "unconnected") {
      r.unconnected = true;
      return std::size_t{1};
    }
    if (name == "anonymous") {
      r.anonymous = true;
      return std::size_t{1};
    }
    if (at + 1 == words.size()) return refuse("expected a value behind " + quoted(name));
    const std::string& value = words[at + 1];
    if (name == "client") {
      if (value.empty()) return refuse("the pattern behind 'client' is empty");
      r.any_client = false;
      r.client = value;
    } else if (name == "user") {
      if (value.empty()) return refuse("the pattern behind 'user' is empty");
      r.any_user = false;
      r.user = value;
    } else if (name == "from") {
      auto read = range_of(value);
      if (!read) return read.error();
      r.prefix = read->prefix;
      r.prefix_length = read->length;
    } else if (name == "listener") {
      const auto number = number_of(value, 65'535);
      if (!number) return refuse(quoted(value) + " is no listener; expected 0 to 65535");
      r.any_listener = false;
      r.listener = static_cast<std::uint16_t>(*number);
    } else if (name == "port") {
      const auto number = number_of(value, 65'535);
      if (!number || *number == 0)
        return refuse(quoted(value) + " is no port; expected 1 to 65535");
      r.own_port = static_cast<std::uint16_t>(*number);
    } else {
      auto pattern = topic_pattern::parse(value);
      if (!pattern) return pattern.error();
      r.topic = std::move(pattern).value();
    }
    return std::size_t{2};
  }

  // Conditions alternate with their values, so that a value may read like the name of a condition.
  static bool given_before(const std::vector<std::string>& words, std::size_t at) {
    for (std::size_t i = 2; i < at;
         i += words[i] == "unconnected" || words[i] == "anonymous" ? 1 : 2)
      if (words[i] == words[at]) return true;
    return false;
  }

  static result<void> check(const rule& r, const std::vector<std::string>& words) {
    if (!r.topic.matches_all() && (r.actions & may_connect) != 0)
      return refuse(quoted(words[1]) + " contains connecting, which has no topic; leave 'topic' "
                                       "out, or write publish,subscribe");
    if (r.unconnected && r.actions != may_publish)
      return refuse("a sender without a connection only publishes; expected 'publish' alone "
                    "together with 'unconnected'");
    if (r.unconnected && !r.any_client)
      return refuse("a sender without a connection has no client id; leave out either 'client' or "
                    "'unconnected'");
    if (r.unconnected && (!r.any_user || r.anonymous || r.topic.names_user()))
      return refuse("a sender without a connection has no user; leave out either 'unconnected' or "
                    "what concerns users");
    if (r.anonymous && (!r.any_user || r.topic.names_user()))
      return refuse("a client that is anonymous has no user name; leave out either 'anonymous' or "
                    "what concerns users");
    if (r.unconnected && r.topic.names_client())
      return refuse("a sender without a connection has no client id that %c could stand for");
    return {};
  }
};

result<std::shared_ptr<const rule_set>> rule_set::parse(std::string_view text,
                                                        const std::string& name) {
  auto made = std::make_shared<rule_set>();
  reader r{*made};
  std::uint32_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (auto read = r.read(text.substr(0, end), ++number); !read)
      return error{read.error().code,
                   name + ":" + std::to_string(number) + ": " + read.error().message};
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  made->index();
  return std::shared_ptr<const rule_set>(std::move(made));
}

result<std::shared_ptr<const rule_set>> rule_set::read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return error{errc::not_found, path + ": the file cannot be read"};
  std::string text;
  for (std::array<char, 65536> part; in.read(part.data(), part.size()) || in.gcount() != 0;)
    text.append(part.data(), static_cast<std::size_t>(in.gcount()));
  if (in.bad()) return error{errc::io, path + ": the file cannot be read to its end"};
  return parse(text, path);
}

} // namespace chainring::access
