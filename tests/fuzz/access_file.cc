// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the file of access rules, and what its rules decide.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "access/access.h"
#include "fuzz.h"
#include "topic/topic.h"

namespace {

using namespace chainring;

constexpr std::array<std::string_view, 12> filters{"#",   "+",    "a",    "a/#",     "a/+",   "+/b",
                                                   "a/b", "$S/#", "/+/#", "a/b/c/#", "c/+/x", "%c"};
constexpr std::array<std::string_view, 12> names{"a",     "a/b",   "b",      "a/c", "$S/a",  "/a/b",
                                                 "a/b/c", "c/7/x", "sensor", "%c",  "a/7/b", "x/b"};

// A subscription that is allowed takes in no topic that must not be read.
void check(const access::rule_set& rules, const access::sender& who) {
  const access::verdict v = rules.judge(who);
  for (const std::string_view name : names)
    (void)rules.publish(v, who, name);
  for (const std::string_view filter : filters) {
    const access::decision whole = rules.subscribe(v, who, filter);
    fuzz::expect(whole.allowed || whole.line != 0 || !rules.allows_by_default(),
                 "the default allows, and a filter is denied by no rule");
    if (!whole.allowed) continue;
    for (const std::string_view name : names)
      fuzz::expect(!topic_matches(filter, name) || rules.subscribe(v, who, name).allowed,
                   "an allowed filter takes in a topic that is denied");
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::memory_file file({data, size});
  const auto rules = access::rule_set::read(file.path());
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto same = access::rule_set::parse(text, file.path());
  fuzz::expect(rules.ok() == same.ok(), "a file and its text are not read alike");
  if (!rules) {
    fuzz::expect(rules.error().message.starts_with(file.path() + ":"),
                 "the file was refused without its name and line");
    return 0;
  }
  fuzz::expect((*rules)->size() <= static_cast<std::size_t>(std::ranges::count(text, '\n')) + 1,
               "there are more rules than lines");
  for (const std::string_view id : {"", "a", "7", "sensor-7", "a/b", "+", "$S"}) {
    check(**rules, {id, access::ip_address::from_ipv4(0x0a010203), 0});
    check(**rules, {id, {0xfd00'0000'0000'0001, 7}, 1});
  }
  return 0;
}
