// SPDX-License-Identifier: BSD-3-Clause
// Payloads that become messages where a port has received them, crashed at every point: what the
// port stores does not go through the seam, and the next crash fills rooms that are free with
// noise.
#include "crash_bounds.h"
#include "line_case.h"
#include "line_port.h"
#include "line_scenarios.h"

namespace chainring::testing_line {

namespace {

/// Publishes and consumes, so that blocks of messages become rooms again.
scenario received(const std::string& name, const line_case& kind) {
  return line_scenario(name, kind, [kind](server& b, history& h) {
    line_port port(b);
    publish(b, h, 1, 1);
    publish(b, h, 2, 1, 2); // shorter than what lies in front of it
    for (unsigned s = 0; s < kind.subscribers; ++s)
      consume(b, h, s, 1);
    publish(b, h, 3, 1);
    port.gives = false; // a message is copied beside others that are not
    publish(b, h, 4, 1);
    if (port.given != 3 || b.broker().counters().received_in_place != 3)
      h.fail("payloads were copied");
  });
}

} // namespace

scenario received_for_one() {
  line_case kind;
  kind.subscribers = 1;
  return received("line: payloads kept where they were received, for one queue", kind);
}

scenario received_for_two() {
  return received("line: payloads kept where they were received, for two queues", {});
}

namespace {

TEST(CrashReceived, AMessageThatWasAcknowledgedIsWholeWhereItWasReceived) {
  EXPECT_TRUE(explore(received_for_one(), testing_core::crash_bounds()).ok());
  EXPECT_TRUE(explore(received_for_two(), testing_core::crash_bounds()).ok());
}

// The tester tested.
TEST(CrashReceived, PayloadsThatAreNotFlushedAreFound) {
  for (const auto& in : {received_for_one(), received_for_two()})
    testing_core::expect_bug("chain.taken_not_flushed", in);
}

} // namespace
} // namespace chainring::testing_line
