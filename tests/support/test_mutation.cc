// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "support/mutation.h"
#include "support/sample_protocol.h"

namespace chainring::test {
namespace {

const std::string sample = "tests/support/sample_protocol.h";

scenario sample_scenario() {
  scenario s;
  s.name = "sample protocol";
  s.run = [](media& m, history& h) {
    h.begin(1);
    sample_append(m, false);
    h.ack(1);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const auto* w = reinterpret_cast<const std::uint64_t*>(m.base());
    if (w[0] == 0) return h.is_acked(1) ? verdict("lost") : verdict();
    if (w[8] != 5 || w[9] != 6) return "torn";
    return {};
  };
  return s;
}

std::string only_label(const std::vector<std::string>& names) {
  if (names.size() != 1) return std::to_string(names.size()) + " names";
  return names[0].substr(names[0].find('['));
}

TEST(Mutation, FindsCallSitesWithTheirLabelsAndNotThoseInComments) {
  const auto sites = find_call_sites({sample});
  ASSERT_EQ(sites.size(), 6u);
  const char* const calls[] = {"flush", "drain", "flush", "flush", "drain", "flush_read"};
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(sites[i].call, calls[i]);
    EXPECT_EQ(sites[i].label, "[S" + std::to_string(i + 1) + "]") << sites[i].name();
    EXPECT_EQ(sites[i].path, sample);
  }
  EXPECT_EQ(sites[2].line_last, sites[2].line + 1);
}

TEST(Mutation, TellsKilledSurvivingAndUnreachedSitesApart) {
  explorer_options o;
  mutation_options which;
  which.under = {sample};
  const mutation_report r = mutate({sample_scenario()}, o, which);
  EXPECT_EQ(r.baseline, "");
  EXPECT_EQ(r.count(fate::killed), 3u) << r.text();
  // Either of [S3] and [S4] makes the commit word's line durable: each alone is redundant.
  EXPECT_EQ(r.count(fate::survived), 2u) << r.text();
  EXPECT_EQ(only_label(r.unreached()), "[S6]");
  EXPECT_NE(r.text().find("mutation: 3 killed of 5 reached; 0 stay, 2 survived, 1 unreached"),
            std::string::npos)
      << r.text();
}

TEST(Mutation, AMutantThatAbortsOrHangsIsKilled) {
  scenario s = sample_scenario();
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const auto* w = reinterpret_cast<const std::uint64_t*>(m.base());
    if (w[0] == 1 && w[8] != 5) std::abort();
    while (w[0] == 0 && h.is_acked(1))
      std::atomic_signal_fence(std::memory_order_seq_cst);
    return {};
  };
  mutation_options which;
  which.under = {sample};
  which.hang_seconds = 1;
  const mutation_report r = mutate({s}, {}, which);
  EXPECT_EQ(r.count(fate::killed), 3u) << r.text();
  EXPECT_NE(r.text().find("by: signal 6"), std::string::npos) << r.text();
  EXPECT_NE(r.text().find("by: hang"), std::string::npos) << r.text();
}

TEST(Mutation, SaysSoWhenTheBaselineFails) {
  scenario s = sample_scenario();
  s.recover_and_check = [](media&, const history&) -> verdict { return "always wrong"; };
  const mutation_report r = mutate({s}, {}, {});
  EXPECT_NE(r.baseline.find("always wrong"), std::string::npos);
  EXPECT_TRUE(r.mutants.empty());
}

TEST(Mutation, FiltersNoteCallsFromPlacesTheyDoNotKnow) {
  const auto sites = find_call_sites({sample});
  site_filter filter(sites);
  auto m = sim_media::create(4096);
  m->observe(&filter);
  sample_append(*m, true);
  m->drain();
  m->observe(nullptr);
  for (std::size_t i = 0; i < sites.size(); ++i)
    EXPECT_TRUE(filter.reached(i)) << sites[i].name();
  ASSERT_EQ(filter.unknown().size(), 1u);
  EXPECT_NE(filter.unknown().begin()->find("test_mutation.cc"), std::string::npos);
}

TEST(Mutation, ScansTheWholeSource) {
  for (const call_site& s : find_call_sites({"lib/", "drivers/"})) {
    EXPECT_GE(s.line_last, s.line);
    EXPECT_TRUE(s.path.starts_with("lib/") || s.path.starts_with("drivers/")) << s.path;
  }
}

} // namespace
} // namespace chainring::test
