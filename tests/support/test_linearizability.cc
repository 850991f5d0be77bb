// SPDX-License-Identifier: BSD-3-Clause
// Tests the checker with histories that must fail, histories that must pass, and a search that
// tries every order of tiny histories.
#include "support/linearizability.h"
#include "support/seed.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>
#include <random>

namespace chainring::test {
namespace {

using map_history = std::vector<timed<map_operation>>;
using fifo_history = std::vector<timed<fifo_operation>>;
using queue_history = std::vector<timed<queue_operation>>;

std::uint64_t run_seed() {
  static const std::uint64_t seed = printed_seed(1);
  return seed;
}

// --- words for histories ------------------------------------------------------------------------

timed<map_operation> put(std::uint64_t from, std::uint64_t to, std::uint64_t v) {
  return {{.kind = map_call::upsert, .value = v}, from, to};
}
timed<map_operation> insert(std::uint64_t from, std::uint64_t to, std::uint64_t v,
                            map_status r = map_status::done) {
  return {{.kind = map_call::insert, .value = v, .result = r}, from, to};
}
timed<map_operation> update(std::uint64_t from, std::uint64_t to, std::uint64_t v,
                            map_status r = map_status::done) {
  return {{.kind = map_call::update, .value = v, .result = r}, from, to};
}
timed<map_operation> erase(std::uint64_t from, std::uint64_t to, map_status r = map_status::done) {
  return {{.kind = map_call::erase, .result = r}, from, to};
}
timed<map_operation> get(std::uint64_t from, std::uint64_t to, std::uint64_t v) {
  return {{.kind = map_call::get, .found = v}, from, to};
}
timed<map_operation> get_none(std::uint64_t from, std::uint64_t to) {
  return {{.kind = map_call::get, .result = map_status::missing}, from, to};
}
timed<map_operation> swap(std::uint64_t from, std::uint64_t to, std::uint64_t expected,
                          std::uint64_t v, map_status r = map_status::done) {
  return {{.kind = map_call::compare_exchange, .value = v, .expected = expected, .result = r},
          from,
          to};
}
timed<fifo_operation> in(std::uint64_t from, std::uint64_t to, std::uint64_t v, bool done = true) {
  return {{.enqueue = true, .value = v, .done = done}, from, to};
}
timed<fifo_operation> out(std::uint64_t from, std::uint64_t to, std::uint64_t v) {
  return {{.enqueue = false, .value = v}, from, to};
}
timed<fifo_operation> out_none(std::uint64_t from, std::uint64_t to) {
  return {{.enqueue = false, .done = false}, from, to};
}
timed<queue_operation> call(std::uint64_t from, std::uint64_t to, queue_operation o) {
  return {std::move(o), from, to};
}

// --- histories that must fail -------------------------------------------------------------------

template <class Operation> struct bad_history {
  const char* name;
  std::vector<timed<Operation>> history;
  std::size_t culprit; ///< the operation whose response ends the shortest prefix that fails
};

const bad_history<map_operation> bad_map_histories[] = {
    {"lost update", {put(1, 2, 10), swap(3, 6, 10, 11), swap(4, 7, 10, 12)}, 2},
    {"stale read", {put(1, 2, 10), put(3, 4, 20), get(5, 6, 10)}, 2},
    {"read from the future", {get(1, 2, 10), put(3, 4, 10)}, 0},
    {"value nobody wrote", {put(1, 2, 10), get(3, 4, 99)}, 1},
    {"erased and still there", {put(1, 2, 10), erase(3, 4), get(5, 6, 10)}, 2},
    {"there and not found", {put(1, 2, 10), get_none(3, 4)}, 1},
    {"two inserts that both did it", {insert(1, 4, 10), insert(2, 5, 20)}, 1},
    {"insert refused where nothing was", {insert(1, 2, 10, map_status::exists)}, 0},
    {"update of a key that was erased", {put(1, 2, 10), erase(3, 4), update(5, 6, 20)}, 2},
    {"erased twice", {put(1, 2, 10), erase(3, 6), erase(4, 7)}, 2},
    {"two readers see two writes in two orders",
     {put(1, 20, 10), put(2, 21, 20), get(3, 4, 10), get(5, 6, 20), get(7, 8, 10)},
     4},
    {"mismatch where it was the value",
     {put(1, 2, 10), swap(3, 4, 10, 11, map_status::mismatch)},
     1},
    {"a pending write seen and then not seen",
     {put(1, 2, 10), put(3, never, 20), get(4, 5, 20), get(6, 7, 10)},
     3},
    {"resurrected by a failed exchange",
     {put(1, 2, 10), erase(3, 4), swap(5, 6, 10, 11, map_status::missing), get(7, 8, 11)},
     3},
};

const bad_history<fifo_operation> bad_fifo_histories[] = {
    {"reordered dequeue", {in(1, 2, 1), in(3, 4, 2), out(5, 6, 2), out(7, 8, 1)}, 2},
    {"duplicate dequeue", {in(1, 2, 1), out(3, 6, 1), out(4, 7, 1)}, 2},
    {"dequeue before enqueue", {out(1, 2, 1), in(3, 4, 1)}, 0},
    {"phantom", {in(1, 2, 1), out(3, 4, 7)}, 1},
    {"empty though something was there", {in(1, 2, 1), out_none(3, 4)}, 1},
    {"lost", {in(1, 2, 1), in(3, 4, 2), out(5, 6, 1), out_none(7, 8)}, 3},
    {"full though there was room", {in(1, 2, 1), in(3, 4, 2, false)}, 1},
    {"more than it holds", {in(1, 2, 1), in(3, 4, 2), in(5, 6, 3)}, 2},
    {"refused and yet delivered",
     {in(1, 2, 1), in(3, 4, 2), in(5, 6, 3, false), out(7, 8, 1), out(9, 10, 2), out(11, 12, 3)},
     5},
    {"order of two concurrent ones turned by two consumers",
     {in(1, 5, 1), in(2, 6, 2), out(7, 8, 1), out(9, 10, 1)},
     3},
    {"second overtakes while the first dequeue is long",
     {in(1, 2, 1), in(3, 4, 2), in(5, 6, 3, false), out(7, 20, 1), out(8, 9, 2), in(10, 11, 4),
      in(12, 13, 5), out(14, 15, 5), out(16, 17, 4)},
     7},
};

queue_operation place(std::uint64_t ticket, std::vector<std::uint64_t> v) {
  return {.kind = queue_call::place, .ticket = ticket, .values = std::move(v)};
}
queue_operation ready(std::uint64_t ticket, std::uint64_t n) {
  return {.kind = queue_call::ready, .ticket = ticket, .count = n};
}
queue_operation lease(std::uint64_t ticket, std::vector<std::uint64_t> v) {
  return {.kind = queue_call::lease, .ticket = ticket, .count = 4, .values = std::move(v)};
}
queue_operation again(std::uint64_t ticket, std::uint64_t v) {
  return {.kind = queue_call::lease_again, .ticket = ticket, .values = {v}};
}
queue_operation ack(std::uint64_t ticket, bool done = true) {
  return {.kind = queue_call::ack, .ticket = ticket, .done = done};
}
queue_operation nack(std::uint64_t ticket, bool done = true) {
  return {.kind = queue_call::nack, .ticket = ticket, .done = done};
}
queue_operation release(std::uint64_t n) {
  return {.kind = queue_call::release, .count = n};
}

const bad_history<queue_operation> bad_queue_histories[] = {
    {"leased before it was ready", {call(1, 2, place(1, {5})), call(3, 4, lease(1, {5}))}, 1},
    {"passed one that was not ready",
     {call(1, 2, place(1, {5})), call(3, 4, place(2, {6})), call(5, 6, ready(2, 1)),
      call(7, 8, lease(2, {6}))},
     3},
    {"leased to two",
     {call(1, 2, place(1, {5})), call(3, 4, ready(1, 1)), call(5, 7, lease(1, {5})),
      call(6, 8, lease(1, {5}))},
     3},
    {"out of ticket order",
     {call(1, 2, place(1, {5, 6})), call(3, 4, ready(1, 2)), call(5, 6, lease(2, {6}))},
     2},
    {"one ticket to two producers", {call(1, 3, place(1, {5})), call(2, 4, place(1, {6}))}, 1},
    {"acknowledged twice",
     {call(1, 2, place(1, {5})), call(3, 4, ready(1, 1)), call(5, 6, lease(1, {5})),
      call(7, 9, ack(1)), call(8, 10, ack(1))},
     4},
    {"released before its acknowledgement",
     {call(1, 2, place(1, {5, 6})), call(3, 4, ready(1, 2)), call(5, 6, lease(1, {5, 6})),
      call(7, 8, ack(2)), call(9, 10, release(1))},
     4},
    {"given back and never had",
     {call(1, 2, place(1, {5})), call(3, 4, ready(1, 1)), call(5, 6, nack(1))},
     2},
    {"handed out again though acknowledged",
     {call(1, 2, place(1, {5})), call(3, 4, ready(1, 1)), call(5, 6, lease(1, {5})),
      call(7, 8, ack(1)), call(9, 10, again(1, 5))},
     4},
    {"empty though one was ready",
     {call(1, 2, place(1, {5})), call(3, 4, ready(1, 1)), call(5, 6, lease(0, {}))},
     2},
    {"another's value",
     {call(1, 2, place(1, {5})), call(3, 4, ready(1, 1)), call(5, 6, lease(1, {6}))},
     2},
    {"placed in slots that nobody released",
     {call(1, 2, place(1, {1, 2, 3, 4})), call(3, 4, place(5, {5}))},
     1},
};

template <class Model, class Operation, std::size_t N>
void all_fail(const Model& model, const bad_history<Operation> (&all)[N]) {
  for (const auto& b : all) {
    const auto v = check_linearizable<Model>(model, b.history);
    EXPECT_EQ(v.found, linear_verdict::violated) << b.name;
    EXPECT_EQ(v.operation, b.culprit) << b.name << '\n' << v.text;
    EXPECT_FALSE(v.before.empty()) << b.name;
    // The prefix before that response is explained.
    std::vector<timed<Operation>> shorter;
    for (auto t : b.history) {
      if (t.invoked > b.history[b.culprit].returned) continue;
      if (t.returned >= b.history[b.culprit].returned) t.returned = never;
      shorter.push_back(t);
    }
    // the pending calls of a queue know too little
    if constexpr (!std::is_same_v<Model, queue_model>) {
      EXPECT_TRUE(check_linearizable<Model>(model, shorter)) << b.name;
    }
  }
}

TEST(Linearizability, RejectsHistoriesThatNoMapCanMake) {
  all_fail(map_model{}, bad_map_histories);
}
TEST(Linearizability, RejectsHistoriesThatNoQueueCanMake) {
  all_fail(fifo_model{.capacity = 2}, bad_fifo_histories);
}
TEST(Linearizability, RejectsHistoriesThatNoQueueWithLeasesCanMake) {
  all_fail(queue_model{.capacity = 4}, bad_queue_histories);
}

// --- histories that must pass -------------------------------------------------------------------

TEST(Linearizability, AcceptsConcurrentOperationsInEitherOrder) {
  for (std::uint64_t last : {10, 20}) {
    const map_history h{put(1, 4, 10), put(2, 5, 20), get(6, 7, last)};
    EXPECT_TRUE(check_linearizable(map_model{}, std::span(h)));
  }
  const fifo_history h{in(1, 4, 1), in(2, 5, 2), out(6, 7, 2), out(8, 9, 1)};
  EXPECT_TRUE(check_linearizable(fifo_model{}, std::span(h)));
}

TEST(Linearizability, APendingOperationMayHaveTakenEffectOrNot) {
  const map_history seen{put(1, 2, 10), put(3, never, 20), get(4, 5, 10), get(6, 7, 20)};
  EXPECT_TRUE(check_linearizable(map_model{}, std::span(seen)));
  const map_history unseen{put(1, 2, 10), erase(3, never), get(4, 5, 10), get(6, 7, 10)};
  EXPECT_TRUE(check_linearizable(map_model{}, std::span(unseen)));
  const fifo_history taken{in(1, 2, 1), out(3, never, 0), out_none(4, 5)};
  EXPECT_TRUE(check_linearizable(fifo_model{}, std::span(taken)));
}

TEST(Linearizability, AcceptsAQueueWithLeasesAtWork) {
  const queue_history h{
      call(1, 4, place(1, {5, 6})), call(2, 5, place(3, {7})),
      call(6, 7, ready(3, 1)),      call(8, 9, lease(0, {})),
      call(10, 13, ready(1, 2)),    call(11, 14, lease(1, {5, 6})),
      call(15, 16, lease(3, {7})),  call(17, 18, ack(2)),
      call(19, 20, nack(1)),        call(21, 22, again(1, 5)),
      call(23, 26, ack(1)),         call(24, 27, ack(1, false)),
      call(28, 29, release(2)),     call(30, 31, place(4, {8, 9, 10})),
      call(32, 33, place(0, {1})),
  };
  const auto v = check_linearizable(queue_model{.capacity = 4}, std::span(h));
  EXPECT_TRUE(v) << v.text;
}

TEST(Linearizability, NamesTheFailingWindowAndTheStateBeforeIt) {
  map_history h;
  for (std::uint64_t i = 0; i < 1000; ++i)
    h.push_back(put(10 + 2 * i, 11 + 2 * i, i));
  h.push_back(put(3000, never, 5000)); // in flight
  h.push_back(put(3001, 3006, 6000));
  h.push_back(get(3003, 3004, 998)); // it was 999 only 1000 operations earlier
  h.push_back(put(3010, 3011, 7000));
  const auto v = check_linearizable(map_model{}, std::span(h));
  ASSERT_EQ(v.found, linear_verdict::violated);
  EXPECT_EQ(v.operation, 1002u);
  EXPECT_EQ(v.window, (std::vector<std::size_t>{1000, 1001, 1002}));
  ASSERT_EQ(v.before.size(), 1u);
  EXPECT_EQ(v.before[0], "999");
  EXPECT_NE(v.text.find("#1002 get() -> done 998"), std::string::npos) << v.text;
}

TEST(Linearizability, ReportsThatItCouldNotDecideWithinItsLimits) {
  map_history h;
  for (std::uint64_t i = 0; i < 65; ++i)
    h.push_back(put(1 + i, 200 + i, i));
  EXPECT_EQ(check_linearizable(map_model{}, std::span(h)).found, linear_verdict::undecided);
  fifo_history q;
  for (std::uint64_t i = 0; i < 12; ++i)
    q.push_back(in(1 + i, 100 + i, i));
  EXPECT_EQ(check_linearizable(fifo_model{}, std::span(q), {.configurations_max = 1000}).found,
            linear_verdict::undecided);
}

TEST(Linearizability, ChecksEachKeyByItself) {
  map_history h{put(1, 2, 10), put(3, 4, 20), get(5, 6, 10), get(7, 8, 20)};
  h[1].what.key = h[3].what.key = 7;
  EXPECT_TRUE(check_each_key(map_model{}, h));
  h[3].what.found = 10;
  const auto v = check_each_key(map_model{}, h);
  EXPECT_EQ(v.operation, 3u);
  EXPECT_NE(v.text.find("key 7"), std::string::npos);
}

// --- against a search that tries everything -----------------------------------------------------

/// Tries every order and every choice of pending operations, exactly as the definition says.
template <class Model, class Operation>
bool tried(const Model& model, const std::vector<timed<Operation>>& h,
           const typename Model::state& now, std::uint32_t done) {
  bool complete = true;
  for (std::size_t i = 0; i < h.size(); ++i)
    complete &= (done >> i & 1) != 0 || h[i].returned == never;
  if (complete) return true;
  for (std::size_t i = 0; i < h.size(); ++i) {
    if ((done >> i & 1) != 0) continue;
    bool minimal = true; // true if no remaining operation returned before this one was invoked
    for (std::size_t j = 0; j < h.size(); ++j)
      minimal &= (done >> j & 1) != 0 || h[j].returned > h[i].invoked;
    if (!minimal) continue;
    bool found = false;
    model.step(now, h[i].what, h[i].returned == never, [&](typename Model::state next) {
      found = found || tried(model, h, next, done | 1u << i);
    });
    if (found) return true;
  }
  return false;
}

/// Makes a linearizable history: operations run one after another, and each gets an interval around
/// its moment, such that no more than `threads` overlap.
template <class Operation, class Run>
std::vector<timed<Operation>> good_history(std::mt19937_64& random, std::size_t n, unsigned threads,
                                           Run&& run) {
  std::vector<timed<Operation>> h;
  std::vector<std::uint64_t> free_at(threads, 0);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t moment = 100 * (i + 1);
    unsigned t = static_cast<unsigned>(random() % threads);
    for (unsigned k = 0; k < threads && free_at[t] >= moment; ++k)
      t = (t + 1) % threads;
    if (free_at[t] >= moment) continue;
    const std::uint64_t early = random() % 400, late = 1 + random() % 400;
    const std::uint64_t begin =
        std::max(free_at[t] + 1, moment > early ? moment - early : std::uint64_t{1});
    h.push_back({run(random), begin, random() % 40 == 0 ? never : moment + late});
    free_at[t] = h.back().returned;
  }
  // Times are distinct, as a clock gives them.
  std::vector<std::pair<std::uint64_t, std::uint64_t*>> times;
  for (auto& x : h) {
    times.push_back({2 * x.invoked, &x.invoked});
    if (x.returned != never) times.push_back({2 * x.returned + 1, &x.returned});
  }
  std::sort(times.begin(), times.end());
  for (std::size_t i = 0; i < times.size(); ++i)
    *times[i].second = i + 1;
  return h;
}

struct map_source {
  map_model::state now;
  std::uint64_t next = 1;
  map_operation operator()(std::mt19937_64& random) {
    map_operation o{.kind = static_cast<map_call>(random() % 6), .value = next++};
    if (o.kind == map_call::compare_exchange) o.expected = random() % 3 ? now.value_or(0) : 0;
    const auto before = now;
    o.result = map_model::apply(now, o);
    if (o.kind == map_call::get && before) o.found = *before;
    return o;
  }
};
struct fifo_source {
  std::size_t capacity;
  fifo_model::state now;
  std::uint64_t next = 1;
  fifo_operation operator()(std::mt19937_64& random) {
    fifo_operation o{.enqueue = random() % 2 == 0};
    if (o.enqueue) {
      o.value = next++;
      o.done = now.size() < capacity;
      if (o.done) now.push_back(o.value);
    } else {
      o.done = !now.empty();
      if (o.done) {
        o.value = now.front();
        now.erase(now.begin());
      }
    }
    return o;
  }
};

void mutate(std::mt19937_64& random, map_operation& o) {
  switch (random() % 3) {
  case 0:
    o.found = random() % 12;
    break;
  case 1:
    o.result = static_cast<map_status>(random() % 4);
    break;
  default:
    o.value = random() % 12;
  }
}
void mutate(std::mt19937_64& random, fifo_operation& o) {
  if (random() % 3 == 0)
    o.done = !o.done;
  else
    o.value = 1 + random() % 8;
}

/// Changes one thing in the history, which may still be linearizable.
template <class Operation> void mutate(std::mt19937_64& random, std::vector<timed<Operation>>& h) {
  const std::size_t i = random() % h.size(), j = random() % h.size();
  switch (random() % 4) {
  case 0:
    std::swap(h[i].what, h[j].what);
    break;
  case 1: // the operation happened at another time
    std::swap(h[i].invoked, h[j].invoked);
    std::swap(h[i].returned, h[j].returned);
    break;
  case 2:
    if (h.size() > 1) h.erase(h.begin() + static_cast<std::ptrdiff_t>(i));
    break;
  default:
    mutate(random, h[i].what);
  }
}

template <class Model, class Source>
void agrees_with_brute_force(const Model& model, const Source& source) {
  std::mt19937_64 random(run_seed());
  unsigned good = 0, bad = 0;
  for (int round = 0; round < 20'000; ++round) {
    Source s = source;
    auto h = good_history<typename Model::operation>(random, 3 + random() % 5, 3, s);
    if (h.empty()) continue;
    ASSERT_TRUE(check_linearizable<Model>(model, h)) << "round " << round;
    for (std::uint64_t k = random() % 3; k != UINT64_MAX; --k)
      mutate(random, h);
    const auto v = check_linearizable<Model>(model, h);
    ASSERT_NE(v.found, linear_verdict::undecided);
    ASSERT_EQ(static_cast<bool>(v), tried(model, h, model.initial(), 0))
        << "round " << round << '\n'
        << v.text;
    ++(v ? good : bad);
  }
  std::printf("%u mutated histories that are still right, %u that are not\n", good, bad);
  EXPECT_GT(good, 2000u);
  EXPECT_GT(bad, 2000u);
}

TEST(Linearizability, AgreesWithBruteForceOnTinyMapHistories) {
  agrees_with_brute_force(map_model{}, map_source{});
}
TEST(Linearizability, AgreesWithBruteForceOnTinyQueueHistories) {
  agrees_with_brute_force(fifo_model{.capacity = 2}, fifo_source{.capacity = 2, .now = {}});
}

// --- long ones ----------------------------------------------------------------------------------

template <class Model, class Source>
void long_histories(const Model& model, const Source& source, std::size_t n, unsigned threads) {
  std::mt19937_64 random(run_seed());
  unsigned found = 0;
  std::size_t most = 0;
  for (int round = 0; round < 10; ++round) {
    Source s = source;
    auto h = good_history<typename Model::operation>(random, n, threads, s);
    const auto good = check_linearizable<Model>(model, h);
    ASSERT_TRUE(good) << good.text;
    most = std::max(most, good.configurations);
    // Exchange two responses that are far apart, at a place where it shows.
    std::swap(h[h.size() / 4].what, h[h.size() / 2].what);
    found += check_linearizable<Model>(model, h).found == linear_verdict::violated;
  }
  std::printf("found %u of 10, at most %zu configurations\n", found, most);
  EXPECT_GE(found, 5u);
}

TEST(Linearizability, AcceptsLongMapHistoriesAndFindsExchangedResponses) {
  long_histories(map_model{}, map_source{}, 20'000, 8);
}
TEST(Linearizability, AcceptsLongQueueHistoriesAndFindsExchangedResponses) {
  long_histories(fifo_model{.capacity = 6}, fifo_source{.capacity = 6, .now = {}}, 20'000, 4);
}

} // namespace
} // namespace chainring::test
