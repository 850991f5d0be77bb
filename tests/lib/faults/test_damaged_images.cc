// SPDX-License-Identifier: BSD-3-Clause
// The region of a broker, damaged in thousands of ways: bits flipped; pages and lines zeroed,
// swapped, copied over each other, or as they were some time ago. An open refuses with a reason, or
// serves. Nothing crashes, hangs or delivers a byte that its publisher did not send to that
// subscriber.
//
// CHAINRING_SEED is the seed of the run, CHAINRING_CASE runs one case alone, and CHAINRING_CASES is
// the number of cases.
#include <rte_eal.h>

#include "damage_world.h"
#include "forked.h"
#include "support/one_cpu.h"

namespace chainring::test_faults {
namespace {

/// Damages `now` and says how.
std::string damage(line_bytes& now, const image& i, std::mt19937_64& draw) {
  std::string how;
  const std::uint64_t pages = now.size() / page, words = now.size() / 8;
  // Damage places that hold something, and half of the time the tables in front of the blocks.
  const auto used_word = [&] {
    auto* w = reinterpret_cast<std::uint64_t*>(now.data());
    const bool in_tables = draw() % 2 == 0;
    const auto word = [&] {
      return in_tables ? i.tables_at / 8 + draw() % (tables_size / 8) : draw() % words;
    };
    for (int tries = 0; tries < 200; ++tries)
      if (const std::uint64_t at = word(); w[at] != 0) return at;
    return word();
  };
  const std::uint64_t kind = draw() % 16;
  const std::uint64_t times = 1 + (draw() % 3 == 0 ? draw() % 6 : 0);
  for (std::uint64_t n = 0; n < times; ++n) {
    const std::uint64_t at = used_word(), other = used_word();
    std::byte* target = now.data() + at * 8;
    const auto whole = [](std::uint64_t word, std::uint64_t unit) {
      return word * 8 / unit * unit;
    };
    switch (kind) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6: {
      const auto bit = static_cast<unsigned>(draw() % 64);
      target[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      how = "bits flipped";
      break;
    }
    case 7:
      for (unsigned k = 0; k < 8; ++k)
        target[k] = static_cast<std::byte>(draw());
      how = "words of noise";
      break;
    case 8:
      std::memset(target, draw() % 2 != 0 ? 0 : 0xff, 8);
      how = "words zero or all ones";
      break;
    case 9:
      std::memset(now.data() + whole(at, page), 0, page);
      how = "pages zeroed";
      break;
    case 10:
      std::memset(now.data() + whole(at, 64), 0, 64);
      how = "lines zeroed";
      break;
    case 11:
      std::swap_ranges(now.data() + whole(at, page), now.data() + whole(at, page) + page,
                       now.data() + draw() % pages * page);
      how = "pages swapped";
      break;
    case 12:
      if (whole(at, 64) != whole(other, 64))
        std::swap_ranges(now.data() + whole(at, 64), now.data() + whole(at, 64) + 64,
                         now.data() + whole(other, 64));
      how = "lines swapped";
      break;
    case 13:
      std::memcpy(now.data() + whole(at, 64), line_bytes(now).data() + whole(other, 64), 64);
      how = "lines copied over others";
      break;
    case 14: {
      const line_bytes& old = i.moments[draw() % (i.moments.size() - 1)];
      std::memcpy(now.data() + whole(at, page), old.data() + whole(at, page), page);
      how = "pages of an earlier moment";
      break;
    }
    default: {
      const line_bytes& old = i.moments[draw() % (i.moments.size() - 1)];
      std::memcpy(now.data() + whole(at, 64), old.data() + whole(at, 64), 64);
      how = "lines of an earlier moment";
    }
    }
  }
  return how;
}

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
