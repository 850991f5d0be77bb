// SPDX-License-Identifier: BSD-3-Clause
// The region of a broker, damaged in thousands of ways: bits flipped; pages and lines zeroed,
// swapped, copied over each other, or as they were some time ago. An open refuses with a reason, or
// serves. Nothing crashes, hangs or delivers a byte that its publisher did not send to that
// subscriber.
//
// CHAINRING_SEED is the seed of the run, CHAINRING_CASE runs one case alone, and CHAINRING_CASES is
// the number of cases.
#include <rte_eal.h>

#include "damage.h"
#include "damage_world.h"
#include "forked.h"
#include "support/one_cpu.h"

namespace chainring::test_faults {
namespace {

std::uint64_t number_from(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : fallback;
}

TEST(DamagedImages, ADamagedImageIsRefusedWithAReasonOrServedWithoutAWrongByte) {
  const std::uint64_t seed = test::printed_seed(20261121);
  const std::uint64_t cases = number_from("CHAINRING_CASES", 10'000);
  const std::uint64_t only = number_from("CHAINRING_CASE", UINT64_MAX);
  image memory, file;
  std::vector<std::string> failures;
  const auto counts = run_forked<outcome_counts>(
      cases, failures,
      [&] {
        const std::string lcores = test::lcore_on_one_cpu();
        const char* eal[] = {
            "test", "--no-huge", "--no-pci",     "--no-shconf",    "-m",
            "64",   "--lcores",  lcores.c_str(), "--no-telemetry", "--log-level=error"};
        if (rte_eal_init(std::size(eal), const_cast<char**>(eal)) < 0) return false;
        memory = memory_image();
        file = file_image();
        outcome_counts undamaged{};
        std::string wrong = judge_memory(memory, memory.moments.back(), undamaged);
        wrong += judge_file(file, file.moments.back(), undamaged);
        if (wrong.empty() && undamaged.whole == 2 && undamaged.again == 0) return true;
        std::printf("an undamaged image is not served whole: %s\n", wrong.c_str());
        return false;
      },
      [&](std::uint64_t number, outcome_counts& c) -> std::string {
        if (only != UINT64_MAX && number != only) return {};
        std::mt19937_64 draw(seed * 1'000'003 + number);
        std::string how, wrong;
        if (number % 4 != 3) {
          line_bytes now = memory.moments.back();
          how = damage(now, memory, draw);
          wrong = judge_memory(memory, now, c);
        } else {
          line_bytes now = file.moments.back();
          how = damage(now, file, draw);
          wrong = judge_file(file, now, c);
        }
        return wrong.empty() ? wrong : "(" + how + ") " + wrong;
      });
  for (const std::string& f : failures)
    ADD_FAILURE() << f << "; again with CHAINRING_SEED=" << seed << " CHAINRING_CASE=NUMBER";
  std::printf("%llu damaged images: %llu refused; %llu served whole; %llu served with losses "
              "reported, %llu with losses not reported; %llu delivered again what was consumed; "
              "%llu messages delivered; %llu took every new message\n",
              static_cast<unsigned long long>(cases),
              static_cast<unsigned long long>(counts.refused),
              static_cast<unsigned long long>(counts.whole),
              static_cast<unsigned long long>(counts.reported),
              static_cast<unsigned long long>(counts.unreported),
              static_cast<unsigned long long>(counts.again),
              static_cast<unsigned long long>(counts.delivered),
              static_cast<unsigned long long>(counts.served_after));
}

} // namespace
} // namespace chainring::test_faults
