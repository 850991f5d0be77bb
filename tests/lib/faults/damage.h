// SPDX-License-Identifier: BSD-3-Clause
/// The ways in which the tests damage the image of a region.
#pragma once
#include <random>

#include "damage_world.h"

namespace chainring::test_faults {

/// Damages `now` and says how.
inline std::string damage(line_bytes& now, const image& i, std::mt19937_64& draw) {
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

} // namespace chainring::test_faults
