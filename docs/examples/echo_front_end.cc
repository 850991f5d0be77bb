// SPDX-License-Identifier: BSD-3-Clause
// A front end that is as short as possible. It has one client, which publishes and receives what it
// published, also what it published in an earlier run and did not receive then.
//   c++ -std=c++20 echo_front_end.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /var/tmp/echo hello        # publishes, and receives "hello"
//   ./a.out /var/tmp/echo hello -      # publishes, and leaves before it has received anything
#include <array>
#include <chainring/broker.h>
#include <chainring/chainring.h>
#include <cstdio>
#include <cstring>
#include <rte_eal.h>
#include <string>
#include <sys/stat.h>

using namespace chainring;

class echo final : public front_end {
 public:
  echo(broker_worker& worker, bool listening) : worker_(worker), listening_(listening) {}

  /// A real front end asks its transport how many messages can be sent.
  std::uint32_t credit(std::uint32_t) const noexcept override { return listening_ ? 1 : 0; }

  /// The requests are durable or refused. A real front end writes its answers in this function, and
  /// they leave after the mark of the burst.
  void settled(std::span<const settlement> all) noexcept override {
    for (const settlement& s : all)
      if (s.outcome != outcome::accepted)
        std::printf("request %llu was refused\n", static_cast<unsigned long long>(s.token));
  }

  std::size_t deliver(std::uint32_t session,
                      std::span<const delivery_item> items) noexcept override {
    for (const delivery_item& item : items) {
      std::array<char, 256> text{};
      const auto size = static_cast<std::size_t>(item.content.size());
      if (size >= text.size()) {
        worker_.skip(session, item.ticket); // this client can never receive it
        continue;
      }
      if (!item.content.copy_out(text.data())) return 0; // memory was lost meanwhile
      std::printf("%.*s: %s\n", static_cast<int>(item.name.size()), item.name.data(), text.data());
      worker_.ack(session, item.ticket); // a real client acknowledges later
    }
    return items.size();
  }

  /// The front end keeps no state about deliveries or connections, so there is nothing to do.
  void withdrawn(std::uint32_t, std::uint64_t) noexcept override {}
  void closed(std::uint32_t, close_reason) noexcept override {}

 private:
  broker_worker& worker_;
  bool listening_;
};

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s REGION TEXT [-]\n", argv[0]);
    return 2;
  }
  // The broker reads the clock through EAL. It needs no ports, no hugepages and no root.
  std::array<const char*, 6> eal{argv[0],       "--no-huge",      "--no-pci",
                                 "--no-shconf", "--no-telemetry", "--log-level=error"};
  if (rte_eal_init(static_cast<int>(eal.size()), const_cast<char**>(eal.data())) < 0) return 1;

  region_options o;
  o.media.path = argv[1];
  o.media.size = 16 << 20;
  store_layout layout;
  layout.sessions_max = 16;
  layout.subscriptions_max = 64;
  o.areas = broker::areas(layout, o.media.size, o.block_size);
  struct stat st {};
  auto r = stat(argv[1], &st) == 0 ? region::open(o.media) : region::create(o);
  if (!r) {
    std::fprintf(stderr, "%s\n", r.error().message.c_str());
    return 1;
  }
  auto core = broker::open(std::move(*r), broker_config{}); // this also recovers the region
  if (!core) {
    std::fprintf(stderr, "%s\n", core.error().message.c_str());
    return 1;
  }
  broker_worker& worker = (*core)->worker(0);
  echo client(worker, argc < 4);

  const opened_session opened = worker.open_session(client, "echo", session_options{}, 1);
  if (opened.status != open_status::opening) return 1;
  worker.subscribe(opened.session, "echo/#", {.qos = 1}, 2);
  (void)worker.end_burst(); // a subscription takes effect at the end of its burst

  const std::string text = argv[2];
  const std::uint32_t topic = worker.topics().intern("echo/here");
  worker.publish(client, opened.session, topic, std::as_bytes(std::span(text)), {.qos = 1}, 3);
  // A loop that serves clients has no end. This loop ends when there is no work left.
  do {
    const mark_t mark = worker.end_burst();
    if (!(*core)->medium().wait(mark)) return 1; // answers may leave now
  } while (worker.worked());
  worker.close_session(opened.session);
  (void)worker.end_burst();
  return (*core)->close() ? 0 : 1;
}
