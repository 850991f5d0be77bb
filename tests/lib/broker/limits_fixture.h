// SPDX-License-Identifier: BSD-3-Clause
/// A broker under the line front end, for tests of what ends or bounds the messages that it keeps.
#pragma once
#include "kept_line_fixture.h"
#include "wall_clock.h"

namespace chainring::testing_line {

class Limits : public KeptLine {
 protected:
  Limits() : KeptLine(15) { test::wall_clock_ahead_s = 0; }

  /// A subscriber of topic "t" that is connected, or else absent.
  void subscribe(unsigned at, const std::string& name, int qos, bool stays,
                 const std::string& flags = "-") {
    ASSERT_TRUE(accepted(at, "CONNECT " + name + " " + flags));
    ASSERT_TRUE(accepted(at, "SUB t " + std::to_string(qos)));
    if (!stays) leave(at);
  }
  void leave(unsigned at) {
    ASSERT_TRUE(accepted(at, "BYE"));
    server->forget(at);
  }
  session_info info(const std::string& name) {
    const auto found = core().session_of(name);
    EXPECT_TRUE(found) << name;
    return found.value_or(session_info{});
  }
  bool publish(const std::string& text) { return accepted(publisher, "PUB t 1 " + text); }
  /// The texts that the connection has got; each is acknowledged.
  lines take(unsigned at) {
    lines got = take_lines(at);
    for (std::string& line : got)
      line.erase(0, line.rfind(' ') + 1);
    return got;
  }
};

} // namespace chainring::testing_line
