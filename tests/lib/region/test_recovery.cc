// SPDX-License-Identifier: BSD-3-Clause
// What the recovery driver promises about the parts that it runs.
#include "region/recovery.h"
#include "region_fixture.h"

namespace chainring::test {
namespace {

class Recovery : public RegionTest {
 protected:
  /// A part that writes down each step that it is asked for, and repairs one word that is not 0.
  recovery_part recorded(const std::string& name, std::uint64_t* word) {
    const auto step = [this, name](const char* what) {
      return [this, name, what](recovery_context&) { steps.push_back(name + " " + what); };
    };
    return {.name = name,
            .validate = step("validate"),
            .persist_as_read = step("persist"),
            .repair =
                [this, name, word](recovery_context& c) {
                  steps.push_back(name + " repair");
                  if (*word == 0) return;
                  c.report({name, "its word is " + std::to_string(*word)});
                  if (c.checking()) return;
                  c.medium().store(word, 0);
                  c.flush_repair(word, sizeof *word);
                },
            .rebuild = step("rebuild")};
  }
  std::uint64_t* word(region& r, const char* root) {
    return reinterpret_cast<std::uint64_t*>(r.at(r.root(root)->offset));
  }
  std::vector<std::string> steps;
};

TEST_F(Recovery, RunsEachPhaseOverAllPartsBeforeTheNext) {
  make();
  auto r = reopen();
  recovery all;
  all.add(recorded("a", word(*r, "a")));
  all.add(recorded("b", word(*r, "b")));
  *word(*r, "b") = 7;
  auto report = all.run(*r);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(steps, (std::vector<std::string>{"a validate", "b validate", "a persist", "b persist",
                                             "a repair", "b repair", "a rebuild", "b rebuild"}));
  ASSERT_EQ(report->problems.size(), 1u);
  EXPECT_EQ(report->problems[0].text(), "b: its word is 7");
  EXPECT_EQ(*word(*r, "b"), 0u);
}

TEST_F(Recovery, ACheckRunsTheStepsThatJudgeAndStoresAndFlushesNothing) {
  make();
  *reinterpret_cast<std::uint64_t*>(bytes.data() + areas_offset) = 7;
  auto r = reopen(true);
  recovery all;
  all.add(recorded("a", word(*r, "a")));
  all.add(recorded("b", word(*r, "b")));
  seam_counter seam;
  r->medium().observe(&seam);
  const recovery_report report = all.check(*r);
  r->medium().observe(nullptr);
  EXPECT_EQ(seam.text(), seam_counter{}.text());
  EXPECT_EQ(steps, (std::vector<std::string>{"a validate", "b validate", "a repair", "b repair"}));
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_EQ(report.problems[0].text(), "a: its word is 7");
  EXPECT_EQ(*word(*r, "a"), 7u);
}

TEST_F(Recovery, ACheckReportsWhatAnOpenRepairs) {
  make();
  auto r = reopen();
  recovery all;
  all.add(recorded("a", word(*r, "a")));
  *word(*r, "a") = 9;
  const recovery_report checked = all.check(*r);
  auto opened = all.run(*r);
  ASSERT_TRUE(opened);
  ASSERT_EQ(checked.problems.size(), 1u);
  ASSERT_EQ(opened->problems.size(), 1u);
  EXPECT_EQ(checked.problems[0].text(), opened->problems[0].text());
  EXPECT_TRUE(all.check(*r).clean());
}

TEST_F(Recovery, AFatalProblemEndsRunAndCheckAfterThePhaseThatFoundIt) {
  make();
  auto r = reopen();
  recovery all;
  all.add({.name = "first", .validate = [](recovery_context& c) {
             c.report({"first", "nothing can be served", severity::fatal});
           }});
  all.add(recorded("a", word(*r, "a")));
  auto report = all.run(*r);
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().message.find("first: nothing can be served"), std::string::npos);
  EXPECT_EQ(all.check(*r).fatal, 1u);
  EXPECT_EQ(steps, (std::vector<std::string>{"a validate", "a validate"}));
}

TEST_F(Recovery, RefusesARegionThatIsOpenForReadingOnly) {
  make();
  auto r = reopen(true);
  recovery all;
  auto report = all.run(*r);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, errc::read_only);
}

TEST_F(Recovery, RunsOverAMediumWithoutARegion) {
  auto m = memory_media(4096, durability_class::emulated);
  auto* at = reinterpret_cast<std::uint64_t*>(m->base());
  *at = 3;
  recovery all;
  all.add(recorded("table", at));
  auto report = all.run(*m);
  ASSERT_TRUE(report);
  EXPECT_EQ(*at, 0u);
}

} // namespace
} // namespace chainring::test
