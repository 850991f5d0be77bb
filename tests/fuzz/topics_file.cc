// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the file of predefined topics.
#include "fuzz.h"
#include "mqttsn/gateway.h"
#include "topic/topic.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const chainring::fuzz::memory_file file({data, size});
  auto topics = chainring::mqttsn::read_predefined_topics(file.path());
  if (!topics) {
    chainring::fuzz::expect(!topics.error().message.empty(),
                            "the file was refused without a reason");
    return 0;
  }
  for (const auto& t : *topics)
    chainring::fuzz::expect(t.id >= 1 && t.id <= 65534 && chainring::valid_topic_name(t.name),
                            "an accepted topic has an invalid id or name");
  return 0;
}
