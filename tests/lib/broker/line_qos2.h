// SPDX-License-Identifier: BSD-3-Clause
/// Clients at QoS 2 under the line front end, which behave as the protocol asks, for crash
/// scenarios.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "line_case.h"

namespace chainring::testing_line {

/// Sends a request of the publisher, and says whether it was accepted.
inline bool accepted(server& b, const std::string& line) {
  return b.ask(publisher_at, line).starts_with("OK ");
}

/// What a subscriber was given.
struct taken {
  std::vector<std::uint64_t> messages; ///< those that came with their content
  unsigned releases = 0;               ///< exchanges that were only ended
};
/// Takes what the client of an existing session is given, and ends every exchange.
inline verdict take_everything(server& b, unsigned at, const std::string& identity, taken& out) {
  if (b.ask(at, "CONNECT " + identity + " -") != "OK 1 present")
    return "session " + identity + " is not there";
  std::vector<std::string> asked; // the deliveries whose receipt it has told
  for (std::string line = b.next(at); !line.empty(); line = b.next(at)) {
    std::string number;
    bool ends = true;
    if (line.starts_with("REL ")) {
      number = line.substr(4);
      if (std::erase(asked, number) == 0) ++out.releases;
    } else {
      const message_line m(line);
      const std::uint64_t id = id_of(m.text);
      if (id == 0 || m.text != text_of(id)) return "torn: " + m.text;
      if (std::ranges::count(out.messages, id) != 0) return "doubled: " + m.text;
      out.messages.push_back(id);
      number = m.number;
      ends = line[4 + number.size() + 1] != '2';
    }
    if (!ends) asked.push_back(number);
    b.send(at, (ends ? "ACK " : "REC ") + number);
    b.settle();
  }
  if (!asked.empty()) return "a receipt got no answer: " + asked.front();
  return {};
}

inline verdict nothing_is_left(server& b) {
  b.settle();
  if (b.broker().counters().damaged != 0) return "a delivery was damaged";
  const auto live = b.broker().message_statistics().live;
  if (live != 0) return std::to_string(live) + " messages are live that nothing reaches";
  return {};
}

} // namespace chainring::testing_line
