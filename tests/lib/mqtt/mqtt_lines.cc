// SPDX-License-Identifier: BSD-3-Clause
// Answers questions about the MQTT codec, one per line. `make N` prints N random packets, the odd
// ones damaged, each as `LEVEL STATUS HEX TEXT`. `decode LEVEL HEX` prints the same of one packet.
//   mqtt_lines SEED
#include <cstdlib>
#include <iostream>

#include "mqtt_packets.h"
#include "random_message.h"

namespace {

using namespace chainring::mqtt;
using namespace chainring::mqtt::test;

void print(version v, octets in) {
  const decoded d(v, in);
  const version by = d.status == decode_status::ok ? version{d.out.level} : v;
  std::cout << static_cast<unsigned>(by) << ' ' << to_string(d.status) << ' ' << to_hex(in) << ' '
            << to_text(by, d.out.body) << '\n';
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  random_messages random(std::strtoull(argv[1], nullptr, 0));
  std::vector<std::byte> buffer(1 << 20);
  std::string verb, hex;
  for (unsigned number = 0; std::cin >> verb >> number; std::cout.flush()) {
    if (verb == "decode" && std::cin >> hex) {
      print(version{static_cast<std::uint8_t>(number)}, from_hex(hex));
    } else if (verb == "make") {
      for (unsigned i = 0; i < number; ++i) {
        const version v = random.one_of(2) ? version::v5 : version::v3_1_1;
        const std::size_t n = encode(buffer, v, random.any(v));
        std::vector<std::byte> in(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(n));
        if (i % 2 == 1) random.damage(in);
        print(v, in);
      }
    } else {
      return 2;
    }
  }
}
