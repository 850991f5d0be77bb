// SPDX-License-Identifier: BSD-3-Clause
/// Durable queues are crashed at every point of their bursts: values in slots, messages, several
/// streams, rings that become larger, entries that are released out of order and given back.
#include <gtest/gtest.h>

#include <set>

#include "base/hook.h"
#include "queue_fixture.h"
#include "support/bounds.h"
#include "support/crash_suite.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

enum kinds : int {
  shown = history::first_own_kind, ///< id: a consumer was given the entry
  ended,                           ///< stream << 32 | id: release() returned for the entry
  ending,                          ///< the same: release() was called
};

/// An entry of at least 8 bytes: its id, and bytes that follow from it.
std::string entry_text(std::uint64_t id, std::size_t bytes) {
  std::string text(bytes, '\0');
  std::memcpy(text.data(), &id, sizeof id);
  for (std::size_t i = sizeof id; i < bytes; ++i)
    text[i] = static_cast<char>(id * 31 + i * 7 + 1);
  return text;
}

/// A queue that is used, with the promises about its entries.
class queue_world {
 public:
  queue_world(media& m, history& h, const queue_layout& l)
      : h_(h), l_(l), q_(m, l), next_(1 + 1000 * static_cast<std::uint64_t>(h.crashes())) {
    if (!q_.recovered.clean()) h_.fail("damage: " + q_.recovered.problems.front().text());
  }
  durable_queue& q() { return *q_; }

  /// Puts entries of so many bytes into the queue, in one burst.
  void put(std::size_t entries, std::size_t bytes) {
    std::vector<std::string> texts;
    std::vector<durable_queue::byte_span> some;
    const std::uint64_t first = next_;
    for (std::size_t i = 0; i < entries; ++i) {
      h_.begin(next_, bytes);
      texts.push_back(entry_text(next_++, bytes));
    }
    for (const std::string& t : texts)
      some.push_back(bytes_of(t));
    const queue_status s = entries == 1 ? q_->enqueue(some[0]) : q_->enqueue_bulk(some);
    if (s != queue_status::done)
      return h_.fail(std::string("a burst was refused: ") + to_string(s));
    for (std::uint64_t id = first; id < next_; ++id)
      h_.ack(id);
  }
  /// The same for as many as there is room for.
  void put_some(std::size_t entries, std::size_t bytes, std::size_t room) {
    std::vector<std::string> texts;
    std::vector<durable_queue::byte_span> some;
    for (std::size_t i = 0; i < entries; ++i) {
      h_.begin(next_ + i, bytes);
      texts.push_back(entry_text(next_ + i, bytes));
    }
    for (const std::string& t : texts)
      some.push_back(bytes_of(t));
    if (q_->enqueue_burst(some) != room) return h_.fail("a burst has not filled the queue");
    for (std::size_t i = 0; i < room; ++i)
      h_.ack(next_ + i);
    next_ += entries;
  }
  std::vector<durable_queue::taken> take(std::uint32_t stream, std::size_t n) {
    std::vector<durable_queue::taken> out(n);
    out.resize(q_->take(stream, out));
    for (const auto& t : out)
      h_.promise(shown, id_of(t));
    return out;
  }
  void release(std::uint32_t stream, std::span<const durable_queue::taken> some) {
    for (const auto& t : some)
      h_.promise(ending, std::uint64_t{stream} << 32 | id_of(t));
    if (q_->release(stream, some) != queue_status::done) return h_.fail("a release failed");
    for (const auto& t : some)
      h_.promise(ended, std::uint64_t{stream} << 32 | id_of(t));
  }
  void take_and_release(std::uint32_t stream, std::size_t n) {
    const auto some = take(stream, n);
    if (some.size() != n) return h_.fail("there are fewer entries than were put in");
    release(stream, some);
  }

 private:
  std::uint64_t id_of(const durable_queue::taken& t) {
    std::string text(t.bytes, '\0');
    std::uint64_t id = 0;
    if (q_->copy(t, std::as_writable_bytes(std::span(text))) == text.size() && text.size() >= 8)
      std::memcpy(&id, text.data(), sizeof id);
    if (id == 0 || text != entry_text(id, text.size())) h_.fail("an entry is torn");
    return id;
  }

  history& h_;
  queue_layout l_;
  opened_queue q_;
  std::uint64_t next_;
};

verdict check(media& m, const history& h, const queue_layout& l) {
  opened_queue q(m, l);
  if (!q.recovered.clean()) return "damage: " + q.recovered.problems.front().text();
  for (std::uint32_t s = 0; s < l.options.streams; ++s) {
    if (q->statistics(s).mode != l.options.mode)
      return "the mode is not the one that was asked for";
    const auto about = [s](std::uint64_t id) {
      return "stream " + std::to_string(s) + ", entry " + std::to_string(id);
    };
    std::set<std::uint64_t> found;
    std::uint64_t last = 0;
    durable_queue::taken t;
    while (q->take(s, {&t, 1}) == 1) {
      std::string text(t.bytes, '\0');
      std::uint64_t id = 0;
      if (q->copy(t, std::as_writable_bytes(std::span(text))) != text.size() || text.size() < 8)
        return "stream " + std::to_string(s) + ": an entry cannot be read";
      std::memcpy(&id, text.data(), sizeof id);
      if (text != entry_text(id, text.size())) return about(id) + ": torn";
      if (!h.begun(id)) return about(id) + ": nobody put it in";
      if (!found.insert(id).second) return about(id) + ": twice";
      if (id < last) return about(id) + ": behind a later one";
      if (h.has(ended, std::uint64_t{s} << 32 | id)) return about(id) + ": it was released";
      last = id;
    }
    for (const int kind : {static_cast<int>(history::acked), static_cast<int>(shown)})
      for (const std::uint64_t id : h.ids(kind))
        if (!found.contains(id) && !h.has(ending, std::uint64_t{s} << 32 | id))
          return about(id) + ": lost";
  }
  return {};
}

scenario of_queue(const std::string& name, const queue_layout& l, void (*run)(queue_world&)) {
  scenario s;
  s.name = "durable queue: " + name;
  s.size = l.size();
  s.setup = [l](media& m, history&) { // at the start no block is zero
    auto* words = reinterpret_cast<std::uint64_t*>(m.base() + l.blocks_offset());
    for (std::uint64_t i = 0; i < l.blocks * l.block_size / 8; ++i)
      m.store(&words[i], 0x0101'0101'0101'0101 * (i % 200 + 1));
  };
  s.run = [l, run](media& m, history& h) {
    queue_world w(m, h, l);
    run(w);
  };
  s.recover_and_check = [l](media& m, const history& h) { return check(m, h, l); };
  s.continue_after = [l](media& m, history& h) {
    queue_world w(m, h, l);
    const std::size_t bytes = l.options.entry_bytes == 0 ? 70 : l.options.entry_bytes;
    for (std::uint32_t s = 0; s < l.options.streams; ++s)
      if (const auto some = w.take(s, 64); !some.empty()) w.release(s, some);
    w.put(2, bytes);
    for (std::uint32_t s = 0; s < l.options.streams; ++s)
      w.take_and_release(s, 1);
  };
  return s;
}

queue_layout layout_of(const durable_queue_options& o, std::uint64_t blocks = 60) {
  queue_layout l;
  l.options = o;
  if (o.first_entries > o.entries) l.options.first_entries = 7; // few lines to clear
  l.blocks = blocks;
  return l;
}

scenario values() {
  return of_queue("values in slots", layout_of({.entry_bytes = 8, .entries = 6}),
                  [](queue_world& w) {
                    w.put(3, 8);
                    w.take_and_release(0, 2);
                    w.put(1, 8);
                    w.put_some(5, 8, 4);
                  });
}
scenario messages() {
  return of_queue("messages", layout_of({.entry_bytes = 0, .entries = 6}), [](queue_world& w) {
    w.put(2, 8);
    w.put(1, 150);
    w.take_and_release(0, 3);
    w.put(1, 64);
  });
}
scenario streams() {
  return of_queue("several streams", layout_of({.entry_bytes = 70, .entries = 4, .streams = 2}, 80),
                  [](queue_world& w) {
                    w.put(2, 70);
                    w.take_and_release(0, 2);
                    w.take_and_release(1, 1);
                    w.put(1, 70);
                  });
}
scenario out_of_order() {
  return of_queue("released out of order, and given back",
                  layout_of({.entry_bytes = 40, .entries = 6}), [](queue_world& w) {
                    w.put(4, 40);
                    const auto some = w.take(0, 4);
                    w.release(0, std::span(some).subspan(2, 1));
                    w.q().give_back(0, std::span(some).subspan(1, 1));
                    w.release(0, std::span(some).first(1));
                    const auto again = w.take(0, 1);
                    w.release(0, again);
                    w.put(2, 40);
                    w.release(0, std::span(some).subspan(3, 1));
                  });
}
scenario several_consumers() {
  return of_queue("for several consumers",
                  layout_of({.entry_bytes = 8, .entries = 6, .mode = queue_mode::mpmc}),
                  [](queue_world& w) {
                    w.put(4, 8);
                    const auto one = w.take(0, 2), other = w.take(0, 2);
                    w.release(0, other);
                    w.put(1, 8);
                    w.release(0, one);
                    w.take_and_release(0, 1);
                    w.put(2, 8);
                  });
}
/// The mode of the records is another one than the program asks for.
scenario mode_changed() {
  static const queue_layout before = layout_of({.entry_bytes = 8, .entries = 6});
  scenario s = of_queue("opened in another mode",
                        layout_of({.entry_bytes = 8, .entries = 6, .mode = queue_mode::mpmc}),
                        [](queue_world& w) {
                          w.put(1, 8);
                          w.take_and_release(0, 1);
                        });
  s.setup = [](media& m, history&) {
    opened_queue q(m, before);
    const std::uint64_t one = 1;
    if (q->enqueue(bytes_of(one)) == queue_status::done) {
      durable_queue::taken t;
      if (q->take(0, {&t, 1}) == 1) (void)q->release(0, {&t, 1});
    }
  };
  return s;
}
scenario larger_ring() {
  return of_queue("a ring that becomes larger",
                  layout_of({.entry_bytes = 8, .entries = 12, .first_entries = 3}),
                  [](queue_world& w) {
                    w.put(3, 8);
                    w.put(3, 8);
                    w.take_and_release(0, 5);
                    w.put(2, 8);
                  });
}

scenario larger_ring_of_messages() {
  return of_queue("a larger ring of messages",
                  layout_of({.entry_bytes = 24, .entries = 12, .first_entries = 3}, 120),
                  [](queue_world& w) {
                    w.put(3, 24);
                    w.put(2, 24);
                    w.take_and_release(0, 4);
                  });
}

/// The contents of a burst are more than one drain of the medium covers.
scenario in_pieces() {
  scenario s = of_queue("a burst longer than a drain",
                        layout_of({.entry_bytes = 150, .entries = 6}), [](queue_world& w) {
                          w.put(3, 150);
                          w.take_and_release(0, 2);
                        });
  s.drain_bytes_max = 1024;
  return s;
}

const scenario_list all = {values,
                           messages,
                           streams,
                           out_of_order,
                           several_consumers,
                           mode_changed,
                           larger_ring,
                           larger_ring_of_messages,
                           in_pieces};

/// At the gate few states of each point are tried: the queues and messages below have crash tests
/// of their own, and a call that is left out shows in a few states.
explorer_options options() {
  return bounds({.seed = seed_from_environment(1),
                 .states_max = 24,
                 .sample = true,
                 .second_lives = 1,
                 .second_points = 60,
                 .second_states_max = 8},
                {.seed = seed_from_environment(1), .second_lives = 1, .second_states_max = 16});
}

TEST(DurableQueueCrash, NothingIsLostTornOrDoubled) {
  expect_all_hold(all, options());
}

TEST(DurableQueueCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options m;
  m.under = {"lib/ring/durable_queue"};
  const std::string not_here = "only where the media fails or loses memory; a void slot needs no "
                               "flush then, because nobody was told that it is there";
  const std::string narrow = "the drain behind it covers the same lines, where the medium can "
                             "cover so many; ABulkOfMoreThanADrainCovers needs it";
  m.stay = {{"[entries-in-pieces]", narrow},
            {"count_undrained(message_table::flushed_bytes(made[i]));", narrow},
            {"count_undrained(n * sizeof(ring_slot) + 2 * cacheline_size);", narrow},
            {"queues_->maintain(1);",
             "gives rings back while the queue is used; the next open would do it too"},
            {"!queue_consumer(*queues_).set_mode(s, options_.mode))",
             "each open sets the mode again, so a crash that takes it back does no harm"},
            {"queues_->place_void(p);", not_here},
            {"queues_->place_void(placed[s]);", not_here},
            {"if (medium_.failed()) return give_up(streams);", not_here},
            {"if (lost || medium_.failed()) return give_up(streams);", not_here},
            {"if (!place(s, std::span(refs).first(n), placed[s])) return give_up(s);",
             "its second half gives up what another thread left no room for, and flushes nothing"}};
  expect_calls_needed(all, options(), m);
}

} // namespace
} // namespace chainring::test
