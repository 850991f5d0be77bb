// SPDX-License-Identifier: BSD-3-Clause
// A DPDK secondary process that looks into the region of a running primary, such as the broker. It
// writes nothing, and the primary does not notice it.
//   c++ -std=c++20 secondary_look.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out --proc-type=secondary --file-prefix PREFIX -- /dev/hugepages/region
// The primary needs hugepages, and runs with the same --file-prefix.
#include <chainring/chainring.h>
#include <cinttypes>
#include <cstdio>
#include <rte_eal.h>

using namespace chainring;

int main(int argc, char** argv) {
  const int used = rte_eal_init(argc, argv);
  if (used < 0 || argc - used != 2 || rte_eal_process_type() != RTE_PROC_SECONDARY) {
    std::fprintf(stderr, "usage: %s --proc-type=secondary [EAL arguments] -- REGION\n", argv[0]);
    return 2;
  }
  media_options at;
  at.path = argv[used + 1];
  auto attached = region::attach(at);
  if (!attached) {
    std::fprintf(stderr, "%s\n", attached.error().message.c_str());
    return 1;
  }
  inspection look(**attached);
  const look_counts sessions = look.sessions([](const session_look& s) {
    std::printf("session %u is of \"%s\"\n", s.number, escape(s.identity).c_str());
  });
  const look_counts queues = look.queues([](const queue_look& q) {
    std::printf("queue %u: %" PRIu64 " messages wait\n", q.number, q.waiting);
  });
  for (const object_look& o : look.objects())
    std::printf("object \"%s\" is a %s\n", escape(o.name).c_str(), escape(o.type).c_str());
  std::printf("%" PRIu64 " records were changing\n", sessions.changing + queues.changing);
  return rte_eal_cleanup() == 0 ? 0 : 1;
}
