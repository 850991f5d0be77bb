// SPDX-License-Identifier: BSD-3-Clause
// Regions that are damaged as in test_damaged_images.cc are looked at and salvaged. Nothing that is
// shown was never published, the source stays as it is, what is intact arrives, and the new region
// is served without a wrong byte.
#include <algorithm>
#include <rte_eal.h>
#include <set>

#include "damage.h"
#include "forked.h"
#include "inspect/inspect.h"
#include "inspect/salvage.h"
#include "support/one_cpu.h"

namespace chainring::test_faults {
namespace {

using owner = inspection::owner;

/// What a look shows of the queues: {identity, id of the message}.
using shown_messages = std::multiset<std::pair<std::string, std::uint64_t>>;

std::string show(inspection& look, std::uint64_t published, shown_messages& out) {
  std::map<std::uint32_t, std::string> names;
  std::string wrong;
  // Sessions that end with their connection are left out by every open.
  look.sessions([&](const session_look& s) {
    if (!s.ends_with_connection) names[s.number] = s.identity;
  });
  look.sessions([](const session_look&) {}, owner::group);
  look.subscriptions([&](const subscription_look& s) {
    if (s.filter.empty()) wrong = "a subscription without a filter";
  });
  look.retained([](const retained_look&) {});
  (void)look.objects();
  for (const auto& [number, name] : names)
    look.entries(number, owner::session, [&](const entry_look&, const message_look& m) {
      const std::string text(reinterpret_cast<const char*>(m.payload.data()), m.payload.size());
      unsigned long long id = 0;
      if (std::sscanf(text.c_str(), "m%llu ", &id) != 1 || id >= published || text != text_of(id) ||
          m.topic != topics[topic_of(id)])
        wrong = "a message that nobody published: " + text.substr(0, 40);
      out.emplace(name, id);
    });
  return wrong;
}

struct salvage_counts {
  std::uint64_t refused, complete, with_losses, arrived, lost;
};

std::string judge_salvage(const image& i, line_bytes now, salvage_counts& counts) {
  auto from = region::open_on(std::make_unique<kept_media>(now), true);
  if (!from) {
    ++counts.refused;
    return from.error().message.empty() ? "refused without a reason" : "";
  }
  const line_bytes before = now;
  shown_messages intact;
  inspection look(**from);
  if (std::string wrong = show(look, i.published, intact); !wrong.empty()) return wrong;
  line_bytes copy(now.size());
  auto report = salvage_on(**from, std::make_unique<kept_media>(copy));
  if (now != before) return "the source was written to";
  if (!report) {
    ++counts.refused;
    return report.error().message.empty() ? "refused without a reason" : "";
  }
  ++(report->complete() ? counts.complete : counts.with_losses);
  if (std::getenv("CHAINRING_CASE") != nullptr)
    for (const auto* sentences : {&report->lost, &report->notes})
      for (const std::string& sentence : *sentences)
        std::fprintf(stderr, "%s: %s\n", sentences == &report->lost ? "lost" : "note",
                     sentence.c_str());
  for (const std::string& sentence : report->lost)
    if (sentence.empty()) return "an empty sentence";
  // What is intact arrives, unless the report says that something was left out.
  auto to = region::open_on(std::make_unique<kept_media>(copy), true);
  if (!to) return "the new region does not open: " + to.error().message;
  shown_messages arrived;
  inspection new_look(**to);
  if (std::string wrong = show(new_look, i.published, arrived); !wrong.empty())
    return "in the new region, " + wrong;
  if (!new_look.damage().empty()) return "the new region is damaged: " + new_look.damage().front();
  // More arrives only where an area was found again that the directory had lost.
  const bool found_again = std::ranges::any_of(report->notes, [](const std::string& note) {
    return note.find(" were found") != std::string::npos;
  });
  for (const auto& m : arrived)
    if (!found_again && intact.count(m) < arrived.count(m))
      return "a message arrived that was not there";
  if (report->complete() && arrived.size() < intact.size())
    return std::to_string(intact.size() - arrived.size()) + " of " + std::to_string(intact.size()) +
           " messages were left out, and the report is silent";
  counts.arrived += arrived.size();
  counts.lost += intact.size() > arrived.size() ? intact.size() - arrived.size() : 0;
  auto wrong = broker::check(**to);
  if (!wrong) return "the new region cannot be checked: " + wrong.error().message;
  if (!wrong->empty()) return "the check of the new region says: " + wrong->front();
  to = error{};
  outcome_counts served{};
  return judge_memory(i, copy, served);
}

std::uint64_t number_from(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : fallback;
}

TEST(Salvage, WhatIsIntactInADamagedImageArrivesAndIsServedWithoutAWrongByte) {
  const std::uint64_t seed = test::printed_seed(20261130);
  const std::uint64_t cases = number_from("CHAINRING_CASES", 1'000);
  const std::uint64_t only = number_from("CHAINRING_CASE", UINT64_MAX);
  image memory;
  std::vector<std::string> failures;
  const auto counts = run_forked<salvage_counts>(
      cases, failures,
      [&] {
        const std::string lcores = test::lcore_on_one_cpu();
        const char* eal[] = {
            "test", "--no-huge", "--no-pci",     "--no-shconf",    "-m",
            "64",   "--lcores",  lcores.c_str(), "--no-telemetry", "--log-level=error"};
        if (rte_eal_init(std::size(eal), const_cast<char**>(eal)) < 0) return false;
        memory = memory_image();
        salvage_counts undamaged{};
        const std::string wrong = judge_salvage(memory, memory.moments.back(), undamaged);
        std::uint64_t queued = 0;
        for (const auto& q : memory.queued)
          queued += q.size();
        if (wrong.empty() && undamaged.complete == 1 && undamaged.arrived == queued) return true;
        std::fprintf(stderr, "an undamaged image is not salvaged whole: %s; %d of %d arrived\n",
                     wrong.c_str(), static_cast<int>(undamaged.arrived), static_cast<int>(queued));
        return false;
      },
      [&](std::uint64_t number, salvage_counts& c) -> std::string {
        if (only != UINT64_MAX && number != only) return {};
        std::mt19937_64 draw(seed * 1'000'003 + number);
        line_bytes now = memory.moments.back();
        const std::string how = damage(now, memory, draw);
        const std::string wrong = judge_salvage(memory, now, c);
        return wrong.empty() ? wrong : "(" + how + ") " + wrong;
      });
  for (const std::string& f : failures)
    ADD_FAILURE() << f << "; again with CHAINRING_SEED=" << seed << " CHAINRING_CASE=NUMBER";
  const auto show_count = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf("%llu damaged images: %llu refused; %llu complete; %llu with losses; %llu messages "
              "arrived, %llu that were intact did not\n",
              show_count(cases), show_count(counts.refused), show_count(counts.complete),
              show_count(counts.with_losses), show_count(counts.arrived), show_count(counts.lost));
  EXPECT_GT(counts.complete + counts.with_losses, cases / 2);
}

} // namespace
} // namespace chainring::test_faults
