// SPDX-License-Identifier: BSD-3-Clause
/// Enqueues with operation ids, crashed at every point: afterwards resolve() says of each client's
/// last operation whether it took effect, the entry is there once if it did, also where it was
/// released long ago, and a repetition takes effect exactly where the operation had not.
///
/// The producer makes a list of operations and does not remember how far it came: in each life it
/// makes all of them again.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "queue_fixture.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

enum kinds : int {
  ended = history::first_own_kind, ///< stream << 32 | operation: release() returned for its entry
  ending,                          ///< the same: release() was called
};

/// Operations that are made in one burst, and how many entries are released behind it.
struct step {
  std::vector<operation_id> ids;
  std::size_t released = 0;
};
struct plan {
  queue_layout layout;
  std::vector<step> steps;
};

/// The number of an operation: of its place in the plan, and not 0.
std::uint64_t number_of(std::size_t step, std::size_t in_burst) {
  return 1 + step * 16 + in_burst;
}
std::string entry_of(std::uint64_t number, std::uint32_t bytes) {
  std::string text(bytes == 0 ? 8 + number * 7 % 90 : bytes, static_cast<char>('a' + number % 20));
  std::memcpy(text.data(), &number, sizeof number);
  return text;
}

class world {
 public:
  world(media& m, history& h, const plan& p) : h_(h), p_(p), q_(m, p.layout) {
    if (!q_.recovered.clean()) h_.fail("damage: " + q_.recovered.problems.front().text());
  }
  void run() {
    for (std::size_t i = 0; i < p_.steps.size(); ++i) {
      enqueue(i);
      for (std::uint32_t s = 0; s < q_->streams(); ++s)
        release(s, p_.steps[i].released);
    }
  }

 private:
  void enqueue(std::size_t i) {
    const step& s = p_.steps[i];
    std::vector<std::string> texts;
    for (std::size_t k = 0; k < s.ids.size(); ++k) {
      if (!h_.begun(number_of(i, k))) h_.begin(number_of(i, k));
      texts.push_back(entry_of(number_of(i, k), p_.layout.options.entry_bytes));
    }
    std::vector<durable_queue::byte_span> entries;
    for (const std::string& t : texts)
      entries.push_back(bytes_of(t));
    std::size_t done = 0;
    if (h_.crashes() == 0 && s.ids.size() > 1) {
      done = q_->enqueue_burst(s.ids, entries);
      if (done != s.ids.size()) return h_.fail("a burst was refused");
    }
    for (; done < s.ids.size(); ++done) {
      queue_status is = q_->enqueue(s.ids[done], entries[done]);
      if (is == queue_status::full && h_.crashes() != 0) { // of what the crash left
        for (std::uint32_t stream = 0; stream < q_->streams(); ++stream)
          release(stream, 64);
        is = q_->enqueue(s.ids[done], entries[done]);
      }
      if (is != queue_status::done && (is != queue_status::repeated || h_.crashes() == 0))
        return h_.fail(std::string("an operation is ") + to_string(is));
    }
    for (std::size_t k = 0; k < s.ids.size(); ++k) {
      if (q_->enqueue(s.ids[k], entries[k]) != queue_status::repeated)
        return h_.fail("an operation is made twice");
      h_.ack(number_of(i, k));
    }
  }
  void release(std::uint32_t stream, std::size_t n) {
    std::vector<durable_queue::taken> some(n);
    some.resize(q_->take(stream, some));
    std::vector<std::uint64_t> numbers;
    for (const auto& t : some) {
      std::uint64_t number = 0;
      (void)q_->copy(t, std::as_writable_bytes(std::span(&number, 1)));
      numbers.push_back(std::uint64_t{stream} << 32 | number);
      if (h_.has(ended, numbers.back())) h_.fail("an entry comes again that was released");
      h_.promise(ending, numbers.back());
    }
    if (q_->release(stream, some) != queue_status::done) h_.fail("a release failed");
    for (const std::uint64_t n_of : numbers)
      h_.promise(ended, n_of);
  }

  history& h_;
  const plan& p_;
  opened_queue q_;
};

verdict check(media& m, const history& h, const plan& p) {
  opened_queue q(m, p.layout);
  if (!q.recovered.clean()) return "damage: " + q.recovered.problems.front().text();
  // The entries of each stream, once before and once behind the repetition of all operations.
  std::map<std::uint64_t, unsigned> found;
  const auto take_all = [&]() -> verdict {
    for (std::uint32_t s = 0; s < q->streams(); ++s) {
      std::vector<durable_queue::taken> some(64);
      some.resize(q->take(s, some));
      for (const auto& t : some) {
        std::string text(t.bytes, '\0');
        std::uint64_t number = 0;
        if (q->copy(t, std::as_writable_bytes(std::span(text))) != text.size() || text.size() < 8)
          return "an entry cannot be read";
        std::memcpy(&number, text.data(), sizeof number);
        if (text != entry_of(number, p.layout.options.entry_bytes)) return "an entry is torn";
        if (++found[std::uint64_t{s} << 32 | number] != 1)
          return "operation " + std::to_string(number) + " took effect twice";
        if (h.has(ended, std::uint64_t{s} << 32 | number))
          return "operation " + std::to_string(number) + " took effect again";
      }
      if (q->release(s, some) != queue_status::done) return "a release failed";
    }
    return {};
  };
  if (verdict v = take_all(); v) return v;
  // Of each client, the operations that took effect are the first ones.
  std::set<std::uint32_t> open;
  for (std::size_t i = 0; i < p.steps.size(); ++i)
    for (std::size_t k = 0; k < p.steps[i].ids.size(); ++k) {
      const operation_id id = p.steps[i].ids[k];
      const std::uint64_t number = number_of(i, k);
      const std::string about =
          "operation " + std::to_string(number) + " of client " + std::to_string(id.client) + ": ";
      const operation_outcome says = q->resolve(id);
      const bool took = says != operation_outcome::no_effect;
      if (took && !h.begun(number)) return about + "it took effect and was never made";
      if (!took && h.is_acked(number)) return about + "it was acknowledged and had no effect";
      if (took && open.contains(id.client)) return about + "it took effect, and one before did not";
      if (!took) open.insert(id.client);
      for (std::uint32_t s = 0; s < q->streams(); ++s) {
        const std::uint64_t in_stream = std::uint64_t{s} << 32 | number;
        if (took != (found.contains(in_stream) || h.has(ending, in_stream)))
          return about + (took ? "it took effect, and its entry is not there"
                               : "it had no effect, and its entry is there");
      }
    }
  for (std::size_t i = 0; i < p.steps.size(); ++i)
    for (std::size_t k = 0; k < p.steps[i].ids.size(); ++k) {
      const operation_id id = p.steps[i].ids[k];
      const bool took = q->resolve(id) != operation_outcome::no_effect;
      const std::string text = entry_of(number_of(i, k), p.layout.options.entry_bytes);
      const queue_status s = q->enqueue(id, bytes_of(text));
      if (s != (took ? queue_status::repeated : queue_status::done))
        return "repeated operation " + std::to_string(number_of(i, k)) + " is " + to_string(s);
      if (q->resolve(id) == operation_outcome::no_effect) return "it is said to have no effect";
      if (verdict v = take_all(); v) return v;
    }
  return {};
}

scenario of(const char* name, plan p) {
  scenario s;
  s.name = std::string("enqueues with ids: ") + name;
  p.layout.blocks = 80;
  p.layout.options.first_entries = 15;
  p.layout.descriptors = p.layout.options.entries + p.layout.options.clients;
  s.size = p.layout.size();
  s.run = [p](media& m, history& h) { world(m, h, p).run(); };
  s.recover_and_check = [p](media& m, const history& h) { return check(m, h, p); };
  s.continue_after = s.run;
  return s;
}
/// There are as few descriptors as may be, so that one that is given up is soon used again. The
/// other queues have room for what a crash leaves in them.
scenario one_client() {
  queue_layout l;
  l.options = {.entry_bytes = 0, .entries = 1, .clients = 1};
  return of("one client, whose entries are released at once",
            {l, {{{{7, 3}}, 1}, {{{7, 4}}, 1}, {{{7, 9}}, 1}, {{{7, 10}}, 0}}});
}
scenario bursts() {
  queue_layout l;
  l.options = {.entry_bytes = 8, .entries = 12, .clients = 3};
  return of("bursts of several clients", {l,
                                          {{{{1, 1}, {2, 1}, {3, 1}}, 2},
                                           {{{2, 2}, {1, operation_id::sequence_max - 1}}, 3},
                                           {{{3, 2}}, 0},
                                           {{{1, operation_id::sequence_max}, {3, 3}}, 1}}});
}
scenario streams() {
  queue_layout l;
  l.options = {.entry_bytes = 70, .entries = 8, .streams = 2, .clients = 2};
  return of("in several streams", {l, {{{{1, 1}}, 1}, {{{2, 1}, {1, 2}}, 1}, {{{2, 2}}, 2}}});
}
/// The second one of a client in a burst begins another burst.
scenario one_client_in_a_burst() {
  queue_layout l;
  l.options = {.entry_bytes = 8, .entries = 12, .clients = 2};
  return of("two operations of a client in a burst",
            {l, {{{{1, 1}, {2, 5}, {1, 2}}, 1}, {{{1, 3}, {1, 4}}, 3}}});
}
const scenario_list all = {one_client, bursts, streams, one_client_in_a_burst};

explorer_options options() {
  return bounds({.seed = seed_from_environment(1),
                 .states_max = 32,
                 .sample = true,
                 .second_lives = 2,
                 .second_points = 60,
                 .second_states_max = 8},
                {.seed = seed_from_environment(1), .second_lives = 2, .second_states_max = 16});
}

TEST(OperationCrash, EachTakesEffectOnceAndTheAnswerIsRight) {
  expect_all_hold(all, options());
}

TEST(OperationCrash, SeededBugsAreFound) {
  expect_bugs_found({"queue.operation_not_kept", "queue.operation_dropped_early",
                     "queue.operation_not_recovered", "queue.operation_not_asked"},
                    all, options());
}

TEST(OperationCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/ring/durable_queue"};
  m.stay = {{"consumer.flush_slot(stream, some[i].ticket());",
             "entries are released in their order here; those of crash_durable_queue are not"}};
  expect_calls_needed(all, options(), m);
}

} // namespace
} // namespace chainring::test
