// SPDX-License-Identifier: BSD-3-Clause
// The file of predefined topics.
#include "mqttsn/gateway.h"
#include "fuzz.h"
#include "topic/topic.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const chainring::fuzz::memory_file file({data, size});
  auto topics = chainring::mqttsn::read_predefined_topics(file.path());
  if (!topics) {
    chainring::fuzz::expect(!topics.error().message.empty(), "refused without a reason");
    return 0;
  }
  for (const auto& t : *topics)
    chainring::fuzz::expect(t.id >= 1 && t.id <= 65534 && chainring::valid_topic_name(t.name),
                            "a topic that cannot be");
  return 0;
}
