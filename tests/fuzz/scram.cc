// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the two messages of a SCRAM client, behind the length (2) of the first one. A
// message that is accepted is answered, and nobody is proved who does not know the password.
#include <optional>
#include <string>
#include <vector>

#include "access/scram.h"
#include "fuzz.h"

using namespace chainring;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto file = [] {
    auto line = access::make_password_line("ann", "apple", 1, access::password_kind::scram_sha256);
    fuzz::expect(line.ok(), "no line of a user is made");
    return access::password_file::parse(*line + "\n", "file").value();
  }();
  fuzz::input in(data, size);
  // Each message lies in memory of its own size, so that a read past its end is found.
  const auto message = [](std::span<const std::uint8_t> octets) {
    return std::vector<char>(octets.begin(), octets.end());
  };
  const std::size_t n = in.number(2);
  const std::vector<char> first = message(in.take(n)), last = message(in.rest());
  access::scram_exchange exchange;
  const auto answer = exchange.first({first.data(), first.size()}, *file, "nonce");
  if (answer) {
    fuzz::expect(answer->starts_with("r=") && answer->ends_with(",i=1"), "another answer");
    fuzz::expect(!exchange.user().empty(), "an exchange without a user");
  }
  const auto proof = exchange.last({last.data(), last.size()});
  fuzz::expect(!proof || answer, "a proof without a beginning");
  fuzz::expect(!proof, "somebody is proved without the password");
  return 0;
}
