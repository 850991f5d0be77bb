// SPDX-License-Identifier: BSD-3-Clause
/// Three workers run on threads of their own, with publishers and subscribers on all of them.
/// Clients come and go, and a thread asks for statistics meanwhile. Every acknowledged message must
/// reach every lasting subscriber whole and exactly once, because this transport loses nothing. The
/// members of a group share the messages; those of publishers at QoS 2 reach one member, once.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <rte_lcore.h>
#include <set>
#include <thread>

#include "base/crc32c.h"
#include "base/idle.h"
#include "broker/access.h"
#include "broker_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_broker {
namespace {

constexpr unsigned workers = 3, publishers = 6, lasting = 3, churning = 3, members = 4;
constexpr unsigned clients = publishers + lasting + churning + members;
constexpr std::uint32_t messages_each = 2000;

/// Datagrams under way from any thread to any other.
class mailbox {
 public:
  void put(client_address who, bytes&& data) {
    const std::lock_guard guard(lock_);
    waiting_.emplace_back(who, std::move(data));
  }
  std::vector<std::pair<client_address, bytes>> take() {
    const std::lock_guard guard(lock_);
    return std::exchange(waiting_, {});
  }

 private:
  std::mutex lock_;
  std::vector<std::pair<client_address, bytes>> waiting_;
};

struct world {
  std::unique_ptr<chainring::broker> broker;
  std::unique_ptr<sn::gateway> gateway;
  std::array<mailbox, workers> to_worker;
  std::array<mailbox, clients + 1> to_client; // indexed by address, from 1
  std::atomic<bool> stop{false};
  std::atomic<unsigned> publishing{publishers};

  void send(client_address from, const auto& m) {
    bytes datagram = encode(m);
    to_worker[gateway->home_of(from, datagram)].put(from, std::move(datagram));
  }
};

/// Passes what a worker sends on to the clients.
class mail_transport final : public net::transport {
 public:
  explicit mail_transport(world& w) : world_(w) {}
  std::span<std::byte> begin(client_address to, std::size_t size) noexcept override {
    to_ = to;
    room_.assign(size, std::byte{});
    return room_;
  }
  void commit(std::size_t size) noexcept override {
    world_.to_client[to_.words[1]].put(
        to_, bytes(room_.begin(), room_.begin() + static_cast<long>(size)));
  }
  void release(mark_t) noexcept override {}

 private:
  world& world_;
  client_address to_ = 0;
  bytes room_;
};

void work(world& w, unsigned number) {
  ASSERT_EQ(rte_thread_register(), 0);
  mail_transport out(w);
  sn::gateway_worker& worker = w.gateway->worker(number);
  worker.attach(out);
  idle_policy wait;
  while (!w.stop.load(std::memory_order_acquire)) {
    auto burst = w.to_worker[number].take();
    for (auto& [from, datagram] : burst) {
      // The session may belong to another worker by now; like the application, pass it to its home.
      const unsigned home = w.gateway->home_of(from, datagram);
      if (home == number)
        worker.receive(from, datagram);
      else
        w.to_worker[home].put(from, std::move(datagram));
    }
    if (turn_of(*w.broker, *w.gateway, number) || !burst.empty())
      wait.busy();
    else
      wait.idle();
  }
  rte_thread_unregister();
}

struct load_message {
  std::uint32_t publisher, sequence, filler[12], crc;
};

class client {
 public:
  client(world& w, std::uint64_t at, std::string id) : w_(w), at_(at), id_(std::move(id)) {}
  virtual ~client() = default;
  void connect(bool clean) {
    w_.send(at_, sn::connect{.flags = sn::flags{}.with_clean(clean), .client_id = id_});
  }
  bool poll() {
    auto got = w_.to_client[at_].take();
    for (auto& [to, data] : got) {
      sn::message m;
      ASSERT_DECODES(sn::decode(data, m) == sn::decode_status::ok);
      if (const auto* r = m.get<sn::register_topic>())
        w_.send(at_, sn::regack{.topic_id = r->topic_id, .msg_id = r->msg_id});
      else
        handle(m);
    }
    return !got.empty();
  }
  virtual void handle(const sn::message& m) = 0;

 protected:
  static void ASSERT_DECODES(bool ok) { EXPECT_TRUE(ok) << "the broker sent a malformed datagram"; }
  world& w_;
  std::uint64_t at_;
  std::string id_;
};

class publisher final : public client {
 public:
  publisher(world& w, std::uint64_t at, std::uint32_t number)
      : client(w, at, "publisher" + std::to_string(number)), number_(number) {}
  std::uint32_t acked = 0;

  void handle(const sn::message& m) override {
    if (m.get<sn::connack>()) {
      topic_ = "load/" + std::to_string(number_ % 3);
      w_.send(at_, sn::register_topic{.msg_id = 1, .topic = topic_});
    } else if (const auto* r = m.get<sn::regack>()) {
      topic_id_ = r->topic_id;
      publish(1);
    } else if (const auto* a = m.get<sn::puback>()) {
      if (a->code == sn::return_code::congestion) return publish(acked + 1);
      EXPECT_EQ(a->code, sn::return_code::accepted);
      go_on();
    } else if (const auto* r = m.get<sn::pubrec>()) {
      w_.send(at_, sn::pubrel{.msg_id = r->msg_id});
    } else if (m.get<sn::pubcomp>()) {
      go_on();
    }
  }
  [[nodiscard]] static bool is_at_qos_2(std::uint32_t number) { return number % 2 == 1; }

 private:
  void go_on() {
    if (++acked < messages_each) return publish(acked + 1);
    w_.publishing.fetch_sub(1, std::memory_order_release);
  }
  void publish(std::uint32_t sequence) {
    load_message m{number_, sequence, {}, 0};
    for (std::uint32_t& word : m.filler)
      word = sequence * 2654435761u + number_;
    m.crc = crc32c(0, &m, offsetof(load_message, crc));
    const auto qos = is_at_qos_2(number_) ? sn::qos_level::two : sn::qos_level::one;
    w_.send(at_, sn::publish{.flags = sn::flags{}.with_qos(qos),
                             .topic_id = topic_id_,
                             .msg_id = static_cast<std::uint16_t>(sequence),
                             .data = std::as_bytes(std::span(&m, 1))});
  }
  std::uint32_t number_;
  std::string topic_;
  std::uint16_t topic_id_ = 0;
};

load_message content_of(const sn::publish& p) {
  load_message m{};
  EXPECT_EQ(p.data.size(), sizeof m);
  std::memcpy(&m, p.data.data(), std::min(p.data.size(), sizeof m));
  EXPECT_EQ(m.crc, crc32c(0, &m, offsetof(load_message, crc))) << "the message is torn";
  return m;
}

/// A member of a group at QoS 2. One that does not last comes and goes, and its session stays.
class member final : public client {
 public:
  member(world& w, std::uint64_t at, std::uint32_t number, bool lasts)
      : client(w, at, "member" + std::to_string(number)), lasts_(lasts) {}
  std::vector<std::pair<std::uint32_t, std::uint32_t>> got;
  bool subscribed = false;

  void handle(const sn::message& m) override {
    if (m.get<sn::connack>()) {
      w_.send(at_, sn::subscribe{.flags = sn::flags{}.with_qos(sn::qos_level::two),
                                 .msg_id = 1,
                                 .topic = "$share/crew/load/#"});
    } else if (const auto* s = m.get<sn::suback>()) {
      EXPECT_EQ(s->flags.qos(), sn::qos_level::two);
      subscribed = true;
    } else if (m.get<sn::disconnect>()) {
      if (!w_.stop.load(std::memory_order_relaxed)) connect(false);
    } else if (const auto* p = m.get<sn::publish>()) {
      take(*p);
    } else if (const auto* r = m.get<sn::pubrel>()) {
      open_.erase(r->msg_id);
      w_.send(at_, sn::pubcomp{.msg_id = r->msg_id});
    }
  }

 private:
  void take(const sn::publish& p) {
    const load_message m = content_of(p);
    const bool at_qos_2 = p.flags.qos() == sn::qos_level::two;
    EXPECT_EQ(at_qos_2, publisher::is_at_qos_2(m.publisher));
    // A message that was on its way when the client left comes again under its message id.
    if (!at_qos_2 || open_.insert(p.msg_id).second) got.emplace_back(m.publisher, m.sequence);
    if (at_qos_2)
      w_.send(at_, sn::pubrec{.msg_id = p.msg_id});
    else
      w_.send(at_, sn::puback{.topic_id = p.topic_id, .msg_id = p.msg_id});
    if (!lasts_ && got.size() % 50 == 0) w_.send(at_, sn::disconnect{});
  }
  bool lasts_;
  std::set<std::uint16_t> open_; ///< messages at QoS 2 that have no PUBREL yet
};

class subscriber final : public client {
 public:
  subscriber(world& w, std::uint64_t at, const std::string& id, bool lasts)
      : client(w, at, id), lasts_(lasts) {}
  std::set<std::pair<std::uint32_t, std::uint32_t>> got;
  std::uint32_t doubled = 0, lives = 0;
  bool subscribed = false;

  void handle(const sn::message& m) override {
    if (m.get<sn::connack>()) {
      w_.send(at_, sn::subscribe{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                                 .msg_id = 1,
                                 .topic = lasts_ ? "load/#" : "load/1"});
    } else if (m.get<sn::suback>()) {
      subscribed = true;
    } else if (m.get<sn::disconnect>()) {
      if (!w_.stop.load(std::memory_order_relaxed)) connect(!lasts_);
    } else if (const auto* p = m.get<sn::publish>()) {
      take(*p);
    }
  }

 private:
  void take(const sn::publish& p) {
    const load_message m = content_of(p);
    if (!got.insert({m.publisher, m.sequence}).second) ++doubled;
    w_.send(at_, sn::puback{.topic_id = p.topic_id, .msg_id = p.msg_id});
    if (!lasts_ && ++in_this_life_ == 5) { // it leaves, in either of two ways, and comes back
      in_this_life_ = 0;
      if (++lives % 2 == 0) w_.send(at_, sn::unsubscribe{.msg_id = 2, .topic = "load/1"});
      w_.send(at_, sn::disconnect{});
    }
  }
  bool lasts_;
  unsigned in_this_life_ = 0;
};

/// The parameter is queue_slots_first: 0 for full queues, or few slots, so that queues grow
/// meanwhile.
class BrokerStress : public testing::TestWithParam<std::uint32_t> {};

TEST_P(BrokerStress, WorkersPublishToEachOthersSessionsWhileClientsComeAndGo) {
  world w;
  broker_config config = small_config(workers);
  config.queue_slots_first = GetParam();
  auto made = broker_on(memory_media(16 << 20, durability_class::process), config, true);
  ASSERT_TRUE(made) << made.error().message;
  w.broker = std::move(*made);
  w.gateway = gateway_for(*w.broker, small_gateway());
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < workers; ++n)
    threads.emplace_back([&w, n] { work(w, n); });
  std::thread asking([&w] {
    std::uint64_t seen = 0;
    while (!w.stop.load(std::memory_order_acquire)) {
      const broker_counters now = w.broker->counters();
      EXPECT_GE(now.placed, seen);
      seen = now.placed;
      std::vector<session_info> sessions;
      (void)w.broker->sessions(0, clients, sessions);
      for (const session_info& s : sessions)
        EXPECT_LE(s.identity.size(), 23u);
      (void)w.broker->topics(16);
      std::this_thread::yield();
    }
  });

  std::vector<std::unique_ptr<publisher>> senders;
  std::vector<std::unique_ptr<subscriber>> takers;
  std::vector<std::unique_ptr<member>> crew;
  std::uint64_t at = 1;
  for (unsigned i = 0; i < lasting + churning; ++i, ++at)
    takers.push_back(std::make_unique<subscriber>(
        w, at, (i < lasting ? "lasting" : "churning") + std::to_string(i), i < lasting));
  for (unsigned i = 0; i < publishers; ++i, ++at)
    senders.push_back(std::make_unique<publisher>(w, at, i));
  for (unsigned i = 0; i < members; ++i, ++at)
    crew.push_back(std::make_unique<member>(w, at, i, i % 2 == 0));
  idle_policy wait;
  const auto poll_until = [&](auto done) {
    while (!done()) {
      bool any = false;
      for (auto& t : takers)
        any |= t->poll();
      for (auto& m : crew)
        any |= m->poll();
      for (auto& s : senders)
        any |= s->poll();
      if (any)
        wait.busy();
      else
        wait.idle();
    }
  };
  for (unsigned i = 0; i < takers.size(); ++i)
    takers[i]->connect(i >= lasting);
  for (auto& m : crew)
    m->connect(false);
  const auto has_subscribed = [](const auto& c) { return c->subscribed; };
  poll_until([&] {
    return std::ranges::all_of(takers, has_subscribed) && std::ranges::all_of(crew, has_subscribed);
  });
  for (auto& s : senders)
    s->connect(true);
  poll_until([&] { return w.publishing.load(std::memory_order_acquire) == 0; });
  constexpr std::size_t all = std::size_t{publishers} * messages_each;
  poll_until([&] {
    return std::all_of(takers.begin(), takers.begin() + lasting,
                       [](auto& t) { return t->got.size() >= all; });
  });
  std::map<std::pair<std::uint32_t, std::uint32_t>, unsigned> shared;
  poll_until([&] {
    shared.clear();
    for (const auto& m : crew)
      for (const auto& one : m->got)
        ++shared[one];
    return shared.size() >= all;
  });
  w.stop.store(true, std::memory_order_release);
  for (std::thread& t : threads)
    t.join();
  asking.join();
  for (unsigned i = 0; i < lasting; ++i) {
    EXPECT_EQ(takers[i]->got.size(), all);
    EXPECT_EQ(takers[i]->doubled, 0u);
  }
  const auto more_than_once = std::ranges::count_if(shared, [](const auto& one) {
    return publisher::is_at_qos_2(one.first.first) && one.second != 1;
  });
  EXPECT_EQ(more_than_once, 0) << "messages at QoS 2 came to two members, or twice to one";
  EXPECT_EQ(w.broker->counters().group_moves, all / 2);
  unsigned lives = 0;
  for (std::size_t i = lasting; i < takers.size(); ++i)
    lives += takers[i]->lives;
  std::printf(
      "%zu messages to %u subscribers, %u sessions ended meanwhile, %lu rings appended\n", all,
      lasting, lives,
      static_cast<unsigned long>(broker_access::state(*w.broker).queues().statistics().grown));
  EXPECT_GT(lives, 0u);
  w.gateway.reset();
  ASSERT_TRUE(w.broker->close());
}

INSTANTIATE_TEST_SUITE_P(Queues, BrokerStress, testing::Values(0u, 3u),
                         [](const auto& i) { return i.param == 0 ? "Full" : "Growing"; });

} // namespace
} // namespace chainring::testing_broker
