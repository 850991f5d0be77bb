// SPDX-License-Identifier: BSD-3-Clause
// Answers questions about the codec, one per line: `decode HEX` prints the status, the message as
// text and the octets to which it is encoded again; `encode TEXT` prints the octets.
#include <iostream>

#include "mqttsn_text.h"

int main() {
  using namespace chainring::mqttsn;
  std::vector<std::byte> buffer(message_size_max + 300);
  for (std::string line; std::getline(std::cin, line);) {
    const std::string verb = line.substr(0, line.find(' '));
    const std::string rest = line.size() > verb.size() ? line.substr(verb.size() + 1) : "";
    if (verb == "decode") {
      const auto datagram = test::from_hex(rest);
      message m;
      const auto status = decode(datagram, m);
      const std::size_t n = encode(buffer, m.body);
      std::cout << to_string(status) << '|' << test::to_text(m.body) << '|'
                << test::to_hex(octets(buffer).first(n)) << std::endl;
    } else if (verb == "encode") {
      std::deque<std::vector<std::byte>> storage;
      const auto body = test::from_text(rest, storage);
      if (!body) return 1;
      std::cout << test::to_hex(octets(buffer).first(encode(buffer, *body))) << std::endl;
    } else {
      return 1;
    }
  }
}
