// SPDX-License-Identifier: BSD-3-Clause
// Makes the golden image of format 3: make_golden FILE, then `gzip -9n FILE`. The program was run
// once, and the image in this directory is the golden one. A new image would differ in its times
// and its uuid.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <rte_eal.h>

#include "../lib/region/region_fixture.h"
#include "world.h"

using namespace chainring;
using namespace chainring::golden;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "make_golden: %s\n", what);
  std::exit(1);
}

void live(test::line_bytes& bytes) {
  region_options o;
  o.areas = broker::areas(layout(), bytes.size(), o.block_size);
  auto made = region::create_on(std::make_unique<test::kept_media>(bytes), o);
  require(bool(made), "the region could not be made");
  auto opened = broker::open(std::move(*made), config());
  require(bool(opened), "the broker could not open the region");
  broker& b = **opened;
  broker_worker& w = b.worker(0);
  require(b.grow_tables(true) && b.sessions_capacity() == 8,
          "the tables did not grow to 8 sessions");
  reader by;
  std::uint64_t token = 0;
  const auto burst = [&] {
    for (int i = 0; i < 4; ++i)
      (void)w.end_burst();
    for (const auto& [t, o] : by.outcomes)
      require(o == outcome::accepted, "a request was refused");
  };
  const auto shorter = w.open_session(by, short_identity, {.window = 16}, ++token);
  const auto longer =
      w.open_session(by, long_identity, {.expiry_s = far_expiry_s, .window = 16}, ++token);
  require(longer.status == open_status::opening, "the session could not be opened");
  burst();
  w.subscribe(shorter.session, "a/b", {.qos = 1, .front_end_bits = 1}, ++token);
  w.subscribe(longer.session, "a/#",
              {.qos = 1, .front_end_bits = 2, .identifier = largest_identifier}, ++token);
  burst();
  // This session ends, so its number gets the next incarnation.
  const auto passing = w.open_session(by, "passing", {.ends_with_connection = true}, ++token);
  burst();
  w.close_session(passing.session);
  burst();
  w.close_session(longer.session); // its messages wait for it
  burst();
  // Every second free block is taken, so that content longer than a block lies in several extents.
  block_store& blocks = broker_access::state(b).blocks();
  std::vector<chain> taken;
  for (chain c; blocks.statistics().free_blocks > 20 && blocks.allocate_contiguous(1, c);)
    taken.push_back(c);
  for (std::size_t i = 0; i < taken.size(); i += 2)
    blocks.release(taken[i]);
  blocks.flush_caches();
  for (const kept_message& m : messages) {
    const auto topic = w.topics().intern(m.topic);
    w.publish(by, no_session, topic, std::as_bytes(std::span(m.content)), {.qos = 1}, ++token);
    burst();
  }
  const auto& got = by.got[shorter.session];
  require(got.size() == messages.size() - 1, "not all messages were delivered");
  w.ack(shorter.session, got[acknowledged].ticket);
  burst();
  w.close_session(shorter.session);
  burst();
  require(bool(b.close()), "the broker could not be closed");
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const char* eal[] = {argv[0], "--no-huge", "--no-pci", "--no-shconf",   "-m",
                       "64",    "-l",        "0",        "--no-telemetry"};
  if (rte_eal_init(std::size(eal), const_cast<char**>(eal)) < 0) return 1;
  test::line_bytes bytes(region_size);
  live(bytes);
  std::ofstream(argv[1], std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  return 0;
}
