// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the generator's ledger. A ledger that is accepted can be written, and the written
// one is accepted again.
#include "fuzz.h"
#include "ledger.h"

using chainring::gen::ledger;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)ledger::shape_from_json(text, "ledger");
  constexpr std::uint64_t window = 8;
  auto l = ledger::from_json(text, "ledger", window);
  if (!l) {
    chainring::fuzz::expect(!l.error().message.empty(), "the ledger was refused without a reason");
    return 0;
  }
  (void)l->judge();
  const std::string written = l->to_json(true);
  auto again = ledger::from_json(written, "ledger", window);
  chainring::fuzz::expect(again.ok(), again.ok() ? "" : again.error().message);
  return 0;
}
