// SPDX-License-Identifier: BSD-3-Clause
/// Prints the flush and drain call sites of lib/ and drivers/, a line each: what mutation is to
/// cover.
#include <cstdio>

#include "support/mutation.h"

int main() {
  for (const auto& site : chainring::test::find_call_sites({"lib/", "drivers/"}))
    std::printf("%s\n", site.name().c_str());
}
