// SPDX-License-Identifier: BSD-3-Clause
// Messages with properties crashed at every point: they are delivered with all of them, or not at
// all, also where content and properties lie in several blocks, and as retained messages.
#include "base/hook.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"

namespace chainring::testing_line {

scenario published_with_properties() {
  line_case kind;
  kind.properties = true;
  return line_scenario("line: messages with properties", kind, [](server& b, history& h) {
    publish(b, h, 1, 1); // to two queues
    consume(b, h, 0, 1);
    publish(b, h, 2, 1, 300); // in several blocks
    consume(b, h, 1, 1);
  });
}

// Message 2 replaces message 1 as the retained one of its topic.
scenario retained_with_properties() {
  line_case kind;
  kind.subscribers = 0;
  kind.layout.retained_max = 4;
  constexpr unsigned asker_at = 300;
  scenario s;
  s.name = "line: retained messages with properties";
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) { kind.set_up(m, h); };
  s.run = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    for (std::uint64_t id = 1; id <= 2; ++id) {
      h.begin(id, usual_size);
      const std::string text = text_of(id);
      if (!b->ask(publisher_at, std::string("RET ") + topic + " 1 " + properties_for(text) + text)
               .starts_with("OK "))
        return h.fail("a retained message was refused");
      h.ack(id);
    }
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    (void)b->ask(asker_at, "CONNECT asker passing");
    for (const char* qos : {"1", "0"}) {
      if (!b->ask(asker_at, std::string("SUB ") + topic + " " + qos).starts_with("OK "))
        return "no subscription";
      const std::string line = b->next(asker_at);
      const std::uint64_t least = h.is_acked(2) ? 2 : h.is_acked(1) ? 1 : 0;
      if (line.empty() && least == 0) continue;
      if (!line.starts_with("MSG ")) return "the retained message is lost";
      const message_line got(line);
      const std::uint64_t id = id_of(got.text);
      if (id < least || id == 0 || id > 2 || got.text != text_of(id) || !got.has_properties)
        return "not what was retained: " + line;
      b->send(asker_at, "ACK " + got.number);
      b->settle();
    }
    return {};
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

namespace {

TEST(CrashProperties, AMessageHasAllOfItsPropertiesOrIsNotThere) {
  EXPECT_TRUE(explore(published_with_properties(), testing_core::crash_bounds()).ok());
}
TEST(CrashProperties, ARetainedMessageHasAllOfItsProperties) {
  EXPECT_TRUE(explore(retained_with_properties(), testing_core::crash_bounds()).ok());
}

// The tester tested: what lies behind the properties is not flushed.
TEST(CrashProperties, PropertiesThatAreNotFlushedAreFound) {
  testing_core::expect_bug("chain.taken_not_flushed", published_with_properties());
  testing_core::expect_bug("chain.taken_not_flushed", retained_with_properties());
}

} // namespace
} // namespace chainring::testing_line
