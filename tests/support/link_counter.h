// SPDX-License-Identifier: BSD-3-Clause
/// For tests of hash tables: counts the links that a look-up visits, and makes names whose
/// checksums collide as a client could choose them.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/hook.h"

namespace chainring::test {

/// Counts the links of hash chains that are visited while it lives. Only one may live at a time.
class link_counter {
 public:
  link_counter() {
    set_hook(
        [](const char* name, void* self) noexcept {
          if (std::strcmp(name, "topic.link") == 0) ++static_cast<link_counter*>(self)->links_;
        },
        this);
  }
  ~link_counter() { set_hook(nullptr, nullptr); }
  link_counter(const link_counter&) = delete;
  link_counter& operator=(const link_counter&) = delete;
  [[nodiscard]] std::uint64_t count() const noexcept { return links_; }

 private:
  std::uint64_t links_ = 0;
};

/// Makes `count` different names of 20 octets (a power of two, up to 65,536) that have the same
/// CRC-32C for every start value: adding a multiple of the polynomial to a message does not change
/// its CRC.
inline std::vector<std::string> names_with_one_checksum(std::uint32_t count) {
  constexpr std::uint64_t polynomial = 0x11edc6f41; // 33 bits, the highest power first
  std::vector<std::string> names;
  for (std::uint32_t choice = 0; choice < count; ++choice) {
    std::string name(20, 'n');
    for (unsigned shift = 0; shift < 16; ++shift)
      if ((choice >> shift & 1) != 0)
        for (unsigned i = 0; i < 33; ++i)
          if ((polynomial >> (32 - i) & 1) != 0) {
            const unsigned bit = 7 * shift + i;
            name[bit / 8] = static_cast<char>(name[bit / 8] ^ 1 << bit % 8);
          }
    names.push_back(name);
  }
  return names;
}

} // namespace chainring::test
