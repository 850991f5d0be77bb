// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the workers of a broker get sequences of datagrams, with bursts and crashes in
// between.
//
// An input's first octet gives the number of workers. Then steps follow: an octet with the client
// in its two low bits and the step in the next three. Steps 0 to 4: a datagram with its length (1)
// and octets; 5: the burst ends; 6: bursts run until everything has settled; 7: the process dies
// and the next one opens the region.
#include "../lib/broker/broker_fixture.h"
#include "../lib/region/region_fixture.h"
#include "fuzz.h"

using namespace chainring;
using namespace chainring::testing_broker;
using chainring::test::kept_media;
using chainring::test::line_bytes;

namespace {

constexpr std::uint16_t datagram_max = 400;

sn::gateway_config gateway_config() {
  sn::gateway_config c = testing_broker::small_gateway();
  c.datagram_size_max = datagram_max;
  c.retry_ms = c.retry_ms_max = 10'000'000;
  c.predefined = {{1, "predefined/one"}, {7, "p"}};
  return c;
}

broker_config config_for(unsigned workers) {
  broker_config c = tiny_config(workers);
  if (workers > 1) c.queue_slots_first = 2; // so that queues grow
  c.content_size_max = sn::payload_size_max(datagram_max);
  return c;
}

std::unique_ptr<bench> open(line_bytes& bytes, unsigned workers, bool fresh) {
  store_layout l;
  l.sessions_max = 4;
  l.subscriptions_max = 8;
  l.messages_max = 32;
  l.groups_max = l.retained_max = 2;
  auto made = broker_on(std::make_unique<kept_media>(bytes), config_for(workers), fresh, l);
  fuzz::expect(made.ok(), made.ok() ? "" : made.error().message);
  if (!(*made)->opened().notes.empty()) fuzz::expect(false, (*made)->opened().notes.front());
  return std::make_unique<bench>(std::move(*made), gateway_config());
}

/// Expects that every datagram the broker sent is well formed and not too long.
void look(bench& b) {
  for (auto& [to, sent] : b.out.sent) {
    for (const bytes& datagram : sent) {
      sn::message m;
      fuzz::expect(sn::decode(datagram, m) == sn::decode_status::ok && m.trailing == 0,
                   "the broker sent a malformed datagram");
      fuzz::expect(datagram.size() <= datagram_max, "the broker sent a datagram that is too long");
    }
    sent.clear();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool started = (fuzz::start_eal(), true);
  (void)started;
  static line_bytes memory(64u << 10);
  std::memset(memory.data(), 0, memory.size());
  fuzz::input in(data, size);
  const unsigned workers = 1 + in.octet() % 3;
  auto b = open(memory, workers, true);
  while (!in.empty()) {
    const unsigned step = in.octet();
    switch (step >> 2 & 7) {
    case 5:
      b->round();
      break;
    case 6:
      b->settle();
      look(*b);
      break;
    case 7:
      b = open(memory, workers, false);
      break;
    default: {
      const auto text = in.take(in.octet());
      const bytes exact(reinterpret_cast<const std::byte*>(text.data()),
                        reinterpret_cast<const std::byte*>(text.data()) + text.size());
      b->send(100 + (step & 3), exact);
    }
    }
  }
  b->settle();
  look(*b);
  b = open(memory, workers, false); // the region must be whole, whatever happened
  b.reset();
  auto r = region::open_on(std::make_unique<kept_media>(memory), true);
  fuzz::expect(r.ok(), "the region does not open for reading");
  auto wrong = broker::check(**r);
  fuzz::expect(wrong.ok() && wrong->empty(),
               wrong.ok() && !wrong->empty() ? wrong->front() : "the check could not be made");
  return 0;
}
