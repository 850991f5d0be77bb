// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <gtest/gtest.h>

#include "support/explorer.h"
#include "support/mutation.h"
#include "support/sample_protocol.h"

namespace chainring::test {
namespace {

const std::string sample = "tests/support/sample_protocol.h";

/// What the optimizer may not see through.
volatile bool indirectly = false, never = false;

scenario sample_scenario() {
  scenario s;
  s.name = "sample protocol";
  s.run = [](media& m, history& h) {
    h.begin(1);
    sample_append(m, indirectly, never);
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

/// "[S1] drain, [S2] link" of some sites.
std::string labels(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) {
    const auto label = name.find('[');
    const auto call = name.find(' ') + 1;
    out +=
        (out.empty() ? "" : ", ") + name.substr(label) + " " + name.substr(call, label - call - 1);
  }
  return out;
}

mutation_report sample_report() {
  mutation_options which;
  which.under = {sample};
  return mutate({sample_scenario()}, {}, which);
}

TEST(Mutation, EachCallOfAWrapperIsASiteWhichHasTheLabelOfItsComment) {
  std::vector<std::string> names;
  for (const call_site& s : find_call_sites({sample})) {
    EXPECT_EQ(s.path, sample);
    EXPECT_FALSE(s.returns.empty()) << s.name();
    names.push_back(s.name());
  }
  EXPECT_EQ(labels(names), "[S1] flush, [S2] drain, [S4] sample_commit, [S5] flush, [S6] drain, "
                           "[S7] sample_commit_twice, [S8] sample_commit, [S9] flush_read");
}

TEST(Mutation, TellsKilledSurvivingAndUnreachedSitesApart) {
  indirectly = false;
  const mutation_report r = sample_report();
  EXPECT_EQ(r.baseline, "");
  EXPECT_EQ(labels(r.names(fate::killed)),
            "[S1] flush, [S2] drain, [S4] sample_commit, [S5] flush, [S6] drain, [S7] "
            "sample_commit_twice")
      << r.text();
  EXPECT_EQ(labels(r.survivors()), "[S8] sample_commit") << r.text();
  EXPECT_EQ(labels(r.unreached()), "[S9] flush_read");
}

TEST(Mutation, ACallThroughAPointerIsASiteOnceItHasRun) {
  indirectly = true;
  const mutation_report r = sample_report();
  indirectly = false;
  EXPECT_EQ(labels(r.names(fate::killed)), "[S1] flush, [S2] drain, [S3] indirect, [S5] flush, "
                                           "[S6] drain, [S7] sample_commit_twice")
      << r.text();
  EXPECT_EQ(labels(r.unreached()), "[S4] sample_commit, [S9] flush_read");
}

TEST(Mutation, SitesThatReachTheSamePrimitivesAreOneMutant) {
  const mutation_report r = sample_report();
  // [S4] and [S7] are one chain.
  EXPECT_EQ(r.runs + 1, r.mutants.size() - r.count(fate::unreached)) << r.text();
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
  EXPECT_NE(r.text().find("by: signal 6"), std::string::npos) << r.text();
  EXPECT_NE(r.text().find("by: hang"), std::string::npos) << r.text();
  EXPECT_EQ(labels(r.survivors()), "[S8] sample_commit") << r.text();
}

TEST(Mutation, SaysSoWhenTheBaselineFails) {
  scenario s = sample_scenario();
  s.recover_and_check = [](media&, const history&) -> verdict { return "always wrong"; };
  const mutation_report r = mutate({s}, {}, {});
  EXPECT_NE(r.baseline.find("always wrong"), std::string::npos);
  EXPECT_TRUE(r.mutants.empty());
}

TEST(Mutation, ASwitchedOffSiteSuppressesNothingButWhatItReaches) {
  const auto sites = find_call_sites({sample});
  const auto commit = std::ranges::find(sites, "[S8]", &call_site::label);
  ASSERT_NE(commit, sites.end());
  call_watch watch;
  watch.switch_off(*commit);
  site_filter filter(watch);
  auto m = sim_media::create(4096);
  m->observe(&filter);
  sample_append(*m, false, false);
  m->observe(nullptr);
  EXPECT_EQ(watch.suppressed(), 2u); // its flush and its drain
  EXPECT_EQ(watch.stacks().size(), 6u);
}

} // namespace
} // namespace chainring::test
