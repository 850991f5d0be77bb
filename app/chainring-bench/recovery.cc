// SPDX-License-Identifier: BSD-3-Clause
// This benchmark measures how long a broker takes to open and recover a region that is full of
// queued messages, after a death of the process and after a clean close. The peer is the limit that
// this machine sets: one thread reads once the bytes of the descriptors and slots that recovery has
// to look at.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <sys/statvfs.h>
#include <unistd.h>

#include "broker/access.h"
#include "broker/broker.h"
#include "broker/broker_media.h"
#include "figures.h"
#include "region/region.h"

namespace chainring::bench {

namespace {

constexpr std::uint32_t queues = 1000, block_size = 128, burst = 32;
constexpr std::size_t payload_size = 64;
constexpr const char* topic = "bench/recovery";

struct sizes {
  std::uint64_t messages, region;
  std::uint32_t slots;

  explicit sizes(std::uint64_t n) : messages(n) {
    slots = 64;
    while (slots < n / queues + burst)
      slots *= 2;
    region = n * (block_size + sizeof(message_descriptor)) * 9 / 8 +
             std::uint64_t{queues} * (2 * slots * sizeof(ring_slot) + 8192) + (64 << 20);
    constexpr std::uint64_t hugepage = 2 << 20;
    region = (region + hugepage - 1) / hugepage * hugepage;
  }
  [[nodiscard]] broker_config config() const {
    broker_config c;
    c.queue_slots = slots;
    c.queue_slots_first = 0; // each queue has a single ring, as fill() makes them
    return c;
  }
};

result<std::unique_ptr<broker>> make(const std::string& path, const sizes& s) {
  store_layout layout;
  layout.sessions_max = queues;
  layout.subscriptions_max = queues;
  layout.messages_max = static_cast<std::uint32_t>(s.messages + burst);
  region_options o;
  o.media.path = path;
  o.media.size = s.region;
  o.block_size = block_size;
  o.areas = broker::areas(layout, s.region, block_size);
  auto made = region::create(o);
  if (!made) return made.error();
  return broker::open(std::move(*made), s.config());
}

/// Fills the queues as bursts of PUBLISH messages do: each message of a burst goes to another
/// queue, so that messages next to each other in a queue lie far apart in every table. Returns
/// false when a table is full.
bool fill(broker& b, const sizes& s) {
  store& state = broker_access::state(b);
  media& medium = state.medium();
  std::byte payload[payload_size] = {};
  for (std::uint32_t q = 0; q < queues; ++q) {
    (void)state.sessions().create_start(q, "client" + std::to_string(q), 0, {});
    state.sessions().flush_record(q);
    medium.drain();
    if (state.queues().link_now(q) != link_status::ready) return false;
  }
  std::uint32_t q = 0;
  for (std::uint64_t left = s.messages; left != 0;) {
    const auto n = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, burst));
    message m[burst];
    placement p[burst];
    for (std::uint32_t i = 0; i < n; ++i, q = (q + 1) % queues) {
      message_fields f;
      f.payload_size = payload_size;
      f.topic_size = static_cast<std::uint16_t>(std::strlen(topic));
      f.qos = 1;
      if (!state.messages().reserve(f, m[i])) return false;
      state.messages().copy_in(m[i], topic, f.topic_size);
      state.messages().copy_in(m[i], payload, sizeof payload);
      state.messages().stage(m[i]);
      state.messages().flush_staged(m[i]);
      state.messages().add_references(m[i].ref.index, 1);
      const slot_ref ref(m[i].ref,
                         slot_delivery::sealed(q, m[i].ref, slot_delivery{1, false, 0}.pack()));
      if (state.queues().place_start(q, {&ref, 1}, p[i]) != place_status::placed) return false;
      state.queues().place_flush(p[i]);
    }
    medium.drain();
    for (std::uint32_t i = 0; i < n; ++i) {
      state.messages().publish(m[i]);
      state.messages().flush_published(m[i]);
    }
    medium.drain();
    for (std::uint32_t i = 0; i < n; ++i) {
      state.queues().place_finish(p[i]);
      state.messages().drop_reference(m[i].ref.index);
    }
    left -= n;
  }
  return true;
}

/// Returns the seconds it takes to read as many bytes as recovery must read.
double read_once(store& state, const sizes& s) {
  const media& medium = state.medium();
  const std::uint64_t bytes = std::min<std::uint64_t>(
      medium.size(), s.messages * (sizeof(message_descriptor) + sizeof(ring_slot)));
  const auto* at = reinterpret_cast<const std::uint64_t*>(medium.base());
  const double begin = clock_seconds();
  const volatile std::uint64_t sum = std::accumulate(at, at + bytes / 8, std::uint64_t{0});
  (void)sum;
  return clock_seconds() - begin;
}

bool figures_for(bench_context& c, std::uint64_t messages) {
  const sizes s(messages);
  // statvfs() reports zero blocks for a hugetlbfs that has no size limit.
  struct statvfs space {};
  if (statvfs(c.o.memory_directory.c_str(), &space) != 0 ||
      (space.f_blocks != 0 &&
       std::uint64_t{space.f_bavail} * space.f_frsize < s.region + (512u << 20))) {
    c.out.note(std::to_string(messages) + " messages need " + std::to_string(s.region >> 20) +
               " MiB and some in " + c.o.memory_directory + "; this figure is left out");
    return true;
  }
  const scratch_directory where(c.o.memory_directory);
  const std::string path = where.path() + "/region";
  const auto wrong = [](const std::string& what) {
    std::fprintf(stderr, "recovery: %s\n", what.c_str());
    return false;
  };
  if (where.path().empty())
    return wrong("a directory cannot be made below " + c.o.memory_directory);
  {
    auto b = make(path, s);
    if (!b) return wrong(b.error().message);
    if (!fill(**b, s)) return wrong("the region is too small for the messages");
  } // The broker is destroyed without close(), as if the process had died.
  for (const bool clean : {false, true}) {
    std::vector<double> rate;
    pairs seconds;
    const unsigned rounds = c.o.quick ? 2 : 4;
    for (unsigned i = 0; i < rounds; ++i) {
      media_options at;
      at.path = path;
      const double begin = clock_seconds();
      auto r = region::open(at);
      if (!r) return wrong(r.error().message);
      if ((*r)->was_clean() != (clean && i != 0))
        return wrong("the region does not report how it was closed last");
      auto b = broker::open(std::move(*r), s.config());
      const double took = clock_seconds() - begin;
      if (!b) return wrong(b.error().message);
      if ((*b)->opened().messages != messages || !(*b)->opened().notes.empty())
        return wrong(std::to_string((*b)->opened().messages) +
                     " messages came back, and not all that were queued");
      if (i != 0) { // the first round warms the caches, and does not follow a clean close
        rate.push_back(static_cast<double>(messages) / took / 1e6);
        seconds.own.push_back(took);
        seconds.peer.push_back(read_once(broker_access::state(**b), s));
      }
      if (clean)
        if (auto closed = (*b)->close(); !closed) return wrong(closed.error().message);
    }
    const std::string name =
        std::to_string(messages) + (clean ? " after a clean close" : " after a death");
    c.out.add(figure(name + ", messages", "M/s", rate, target{target::sense::at_least, 10}));
    c.out.add(against(name + ", in all", "s", seconds, "as many bytes read once"));
  }
  return true;
}

} // namespace

bool recovery_figures(bench_context& c) {
  c.out.heading("recovery: queued messages of 64 bytes in 1,000 queues, class process, one lcore");
  const std::vector<std::uint64_t> counts =
      c.o.quick ? std::vector<std::uint64_t>{20'000}
                : std::vector<std::uint64_t>{1'000'000, 4'000'000, 8'000'000};
  for (const std::uint64_t n : counts)
    if (!figures_for(c, n)) return false;
  return true;
}

} // namespace chainring::bench
