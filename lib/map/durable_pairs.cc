// SPDX-License-Identifier: BSD-3-Clause
// Pairs: entries of a durable map, and chains in DRAM that find them by a half.
//
// Each direction has buckets with a chain of nodes each; the number of a node is that of its cell
// plus one. A bucket belongs to a stripe, whose lock writers take and whose version readers check
// as with a seqlock. Buckets are added one by one (Litwin, "Linear hashing", 1980): a new one takes
// its pairs from one bucket, which is of the same stripe because there are never fewer buckets
// than stripes.
//
// A pair is linked after the drain of its entry, and unlinked after the drain of its erase and
// before its cell can be reused. So a reader whose stripe has not changed has read cells that
// belonged to their pairs all the time.
//
// Writers may wait for the end of a reading section of the map, where chains are given up, and do
// so outside of every stripe. So a reader may wait for a stripe, but never inside of its section.
//
// Ordering labels:
//   [pair-stripe-marked]  A writer marks the version of a stripe as odd, and a release fence
//     follows before it stores a link; pairs with [pair-stripe-checked].
//   [pair-stripe-checked]  A reader has an acquire fence between the links and cells and its second
//     load of the version; pairs with [pair-stripe-marked].
//   [pair-stripe-left]  A writer stores the next even version with release behind the links; pairs
//     with [pair-stripe-entered].
//   [pair-stripe-entered]  A reader loads the version with acquire before the links; pairs with
//     [pair-stripe-left].
//   [pair-links]  Links, tags and the number of buckets are accessed under the lock of the stripe,
//     or checked by its version afterwards; the accesses themselves order nothing.
//   [pair-count]  The number of pairs is a statistic, and says when a bucket is added; it orders
//     nothing.
//   [pair-before-link]  The entry of a pair, or its erase, is drained before listings know of it.
#include "map/durable_pairs.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/hook.h"
#include "base/lazy_array.h"
#include "map/durable_map_state.h"
#include "seqlock/seqlock.h"

namespace chainring {

namespace {

using byte_span = std::span<const std::byte>;
using tag_pair = std::array<std::uint32_t, 2>;
constexpr std::size_t size_bytes = 4;
constexpr std::uint32_t stripes_count = 256;

struct halves {
  byte_span first, second;
  [[nodiscard]] byte_span of(pair_half h) const noexcept {
    return h == pair_half::first ? first : second;
  }
  [[nodiscard]] byte_span other_than(pair_half h) const noexcept {
    return h == pair_half::first ? second : first;
  }
};

/// Takes the key of an entry apart. False: it is no pair.
bool split_key(byte_span key, halves& out) noexcept {
  std::uint32_t first = 0;
  if (key.size() < size_bytes) return false;
  std::memcpy(&first, key.data(), size_bytes);
  key = key.subspan(size_bytes);
  if (first > key.size()) return false;
  out = {key.first(first), key.subspan(first)};
  return true;
}

/// The key of the entry of a pair.
class joined_key {
 public:
  joined_key(byte_span first, byte_span second) : size_(size_bytes + first.size() + second.size()) {
    if (size_ > inline_.size()) long_ = std::make_unique_for_overwrite<std::byte[]>(size_);
    std::byte* to = long_ ? long_.get() : inline_.data();
    const auto n = static_cast<std::uint32_t>(first.size());
    std::memcpy(to, &n, size_bytes);
    std::ranges::copy(first, to + size_bytes);
    std::ranges::copy(second, to + size_bytes + first.size());
  }
  [[nodiscard]] byte_span bytes() const noexcept {
    return {long_ ? long_.get() : inline_.data(), size_};
  }

 private:
  std::size_t size_;
  std::array<std::byte, 256> inline_;
  std::unique_ptr<std::byte[]> long_;
};

/// True for halves that fit into a key together.
bool accepted(byte_span first, byte_span second) noexcept {
  return first.size() <= durable_pairs::bytes_max &&
         second.size() <= durable_pairs::bytes_max - first.size();
}

/// A pair in the chains of both directions. 0 stands for no node.
struct node {
  std::atomic<std::uint64_t> word; ///< word 0 of its cell, as published
  std::atomic<std::uint32_t> tag[2], next[2], previous[2];
};
static_assert(sizeof(node) == 32);

struct alignas(cacheline_size) stripe {
  spin_lock lock;
  std::atomic<std::uint64_t> version{0}; ///< odd while links change

  void enter() noexcept {
    lock.lock();
    const std::uint64_t was = version.load(std::memory_order_relaxed); // [pair-links]
    version.store(was + 1, std::memory_order_relaxed);                 // [pair-stripe-marked]
    // [pair-stripe-marked] Without it a reader could see a new link under the old version.
    std::atomic_thread_fence(std::memory_order_release);
  }
  void leave() noexcept {
    const std::uint64_t was = version.load(std::memory_order_relaxed); // [pair-links]
    // [pair-stripe-left] Without it a reader could see the new version with old links.
    version.store(was + 1, std::memory_order_release);
    lock.unlock();
  }
  [[nodiscard]] bool changed_since(std::uint64_t before) const noexcept {
    // [pair-stripe-checked] Without it a reader could see a new link and then still the old
    // version.
    std::atomic_thread_fence(std::memory_order_acquire);
    return version.load(std::memory_order_relaxed) != before; // [pair-stripe-checked]
  }
};

/// The chains of one direction.
struct direction {
  std::array<stripe, stripes_count> stripes;
  detail::lazy_array<std::atomic<std::uint32_t>> heads; ///< by bucket
  std::uint32_t buckets_max = 0;
  std::atomic<std::uint32_t> buckets{stripes_count};
  spin_lock splitting;

  [[nodiscard]] stripe& stripe_of(std::uint32_t tag) noexcept {
    return stripes[tag % stripes_count];
  }
  /// The caller holds the stripe, or checks its version afterwards.
  [[nodiscard]] std::atomic<std::uint32_t>& head_of(std::uint32_t tag) const noexcept {
    const std::uint32_t n = buckets.load(std::memory_order_relaxed); // [pair-links]
    const std::uint32_t low = std::bit_floor(n);
    const std::uint32_t wide = tag & (2 * low - 1);
    return heads[wide < n ? wide : tag & (low - 1)];
  }
};

} // namespace

struct durable_pairs::state {
  durable_map& records;
  const std::uint64_t seed = random_seed();
  const unsigned ways; ///< 1, or 2: by the second half, too
  detail::lazy_array<node> nodes;
  std::array<direction, 2> by;
  alignas(cacheline_size) std::atomic<std::uint64_t> pairs{0};

  state(durable_map& map, unsigned directions) : records(map), ways(directions) {}

  [[nodiscard]] std::uint32_t tag_of(byte_span half) const noexcept {
    return static_cast<std::uint32_t>(hash_bytes(half, seed));
  }
  [[nodiscard]] tag_pair tags_of(const halves& h) const noexcept {
    return {tag_of(h.first), tag_of(h.second)};
  }

  // Each of these runs in the stripe of the tag, in the direction `d`.
  void push(unsigned d, std::uint32_t number, std::uint32_t tag) noexcept {
    node& n = nodes[number];
    std::atomic<std::uint32_t>& head = by[d].head_of(tag);
    const std::uint32_t behind = head.load(std::memory_order_relaxed); // [pair-links]
    n.tag[d].store(tag, std::memory_order_relaxed);                    // [pair-links]
    n.next[d].store(behind, std::memory_order_relaxed);                // [pair-links]
    n.previous[d].store(0, std::memory_order_relaxed);                 // [pair-links]
    if (behind != 0)
      nodes[behind].previous[d].store(number, std::memory_order_relaxed); // [pair-links]
    head.store(number, std::memory_order_relaxed);                        // [pair-links]
  }
  void take_out(unsigned d, std::uint32_t number, std::atomic<std::uint32_t>& head) noexcept {
    node& n = nodes[number];
    const std::uint32_t next = n.next[d].load(std::memory_order_relaxed);            // [pair-links]
    const std::uint32_t before = n.previous[d].load(std::memory_order_relaxed);      // [pair-links]
    if (next != 0) nodes[next].previous[d].store(before, std::memory_order_relaxed); // [pair-links]
    if (before != 0)
      nodes[before].next[d].store(next, std::memory_order_relaxed); // [pair-links]
    else
      head.store(next, std::memory_order_relaxed); // [pair-links]
  }

  /// Links or unlinks a pair in all directions at one moment.
  void relink(const map_change& c, const tag_pair& tags, bool inserts) noexcept {
    const std::uint32_t number = c.cell + 1;
    for (unsigned d = 0; d < ways; ++d)
      by[d].stripe_of(tags[d]).enter();
    if (inserts) nodes[number].word.store(c.word, std::memory_order_relaxed); // [pair-links]
    for (unsigned d = 0; d < ways; ++d) {
      if (inserts)
        push(d, number, tags[d]);
      else
        take_out(d, number, by[d].head_of(tags[d]));
    }
    for (unsigned d = 0; d < ways; ++d)
      by[d].stripe_of(tags[d]).leave();
    if (!inserts) {
      pairs.fetch_sub(1, std::memory_order_relaxed); // [pair-count]
      return;
    }
    const std::uint64_t now = pairs.fetch_add(1, std::memory_order_relaxed) + 1; // [pair-count]
    for (unsigned d = 0; d < ways; ++d)
      if (now > by[d].buckets.load(std::memory_order_relaxed)) // [pair-links]
        add_bucket(d);
  }

  void add_bucket(unsigned d) noexcept {
    direction& to = by[d];
    if (!to.splitting.try_lock()) return; // another thread adds one
    const std::lock_guard guard(to.splitting, std::adopt_lock);
    const std::uint32_t n = to.buckets.load(std::memory_order_relaxed); // [pair-links]
    if (n >= to.buckets_max) return;
    const std::uint32_t low = std::bit_floor(n);
    std::atomic<std::uint32_t>& from = to.heads[n - low];
    stripe& both = to.stripe_of(n);
    both.enter();
    to.buckets.store(n + 1, std::memory_order_relaxed);                            // [pair-links]
    for (std::uint32_t i = from.load(std::memory_order_relaxed); i != 0;) {        // [pair-links]
      const std::uint32_t next = nodes[i].next[d].load(std::memory_order_relaxed); // [pair-links]
      const std::uint32_t tag = nodes[i].tag[d].load(std::memory_order_relaxed);   // [pair-links]
      if ((tag & (2 * low - 1)) == n) {
        take_out(d, i, from);
        push(d, i, tag);
      }
      i = next;
    }
    both.leave();
  }

  /// Calls take(other half) for each pair of a key, inside a reading section. False: a writer
  /// interfered, and what was taken means nothing. `before` is the version found; 0 with the lock
  /// held.
  template <class Take>
  bool walk(unsigned d, std::uint32_t tag, byte_span key, const std::uint64_t* before,
            Take&& take) {
    const durable_map::reading section(records);
    const auto half = static_cast<pair_half>(d);
    const stripe& in = by[d].stripe_of(tag);
    unsigned steps = 0;
    std::uint32_t i = by[d].head_of(tag).load(std::memory_order_relaxed); // [pair-links]
    while (i != 0) {
      const node& n = nodes[i];
      if (n.tag[d].load(std::memory_order_relaxed) == tag) { // [pair-links]
        const durable_map::payload entry = {i - 1,
                                            n.word.load(std::memory_order_relaxed)}; // [pair-links]
        std::uint64_t copy[3];
        halves h;
        if (split_key(records.key_at(entry, copy), h) && std::ranges::equal(h.of(half), key))
          take(h.other_than(half));
      }
      // Links that change may lead anywhere, also in a circle.
      if (before != nullptr && ++steps % 64 == 0 && in.changed_since(*before)) return false;
      i = n.next[d].load(std::memory_order_relaxed); // [pair-links]
    }
    return before == nullptr || !in.changed_since(*before);
  }

  /// Runs walk() until it was not disturbed. `begin` forgets what was taken before.
  template <class Begin, class Take>
  void list(pair_half half, byte_span key, Begin&& begin, Take&& take) {
    constexpr unsigned tries_max = 16;
    const auto d = static_cast<unsigned>(half);
    CHAINRING_EXPECTS(
        d < ways, "a look-up by the second half in pairs that are found by the first half only; "
                  "make them with both, as a bimap is");
    const std::uint32_t tag = tag_of(key);
    stripe& in = by[d].stripe_of(tag);
    detail::short_wait wait;
    for (unsigned tries = 0; tries < tries_max; ++tries) {
      // [pair-stripe-entered] Without it a reader could see the version of later links.
      const std::uint64_t before = in.version.load(std::memory_order_acquire);
      if (before % 2 != 0) {
        wait.round();
        continue;
      }
      begin();
      if (walk(d, tag, key, &before, take)) return;
    }
    const std::lock_guard guard(in.lock);
    begin();
    (void)walk(d, tag, key, nullptr, take);
  }
};

durable_pairs::durable_pairs(std::unique_ptr<state> s) : state_(std::move(s)) {}
durable_pairs::~durable_pairs() = default;

result<std::unique_ptr<durable_pairs>> durable_pairs::create(durable_map& records, bool by_second) {
  auto s = std::make_unique<state>(records, by_second ? 2u : 1u);
  const std::uint64_t cells = records.cells_max_;
  const error none{errc::no_space, "not enough memory for an index of " + std::to_string(cells) +
                                       " pairs; make the map smaller"};
  if (!s->nodes.make(cells + 1)) return none;
  for (unsigned d = 0; d < s->ways; ++d) {
    s->by[d].buckets_max = static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(cells, stripes_count, std::uint64_t{1} << 31));
    if (!s->by[d].heads.make(s->by[d].buckets_max)) return none;
  }
  return std::unique_ptr<durable_pairs>(new durable_pairs(std::move(s)));
}

void durable_pairs::rebuild() {
  state& s = *state_;
  s.records.walk([&](const durable_map::copied& k) {
    halves h;
    if (!split_key(s.records.key_in(k.entry, k.key), h)) return;
    map_change c{};
    c.cell = static_cast<std::uint32_t>(k.entry[0]);
    c.word = k.entry[1];
    s.relink(c, s.tags_of(h), true);
  });
}

durable_map& durable_pairs::records() const noexcept {
  return state_->records;
}

bool durable_pairs::contains(byte_span first, byte_span second) const {
  return accepted(first, second) && state_->records.contains(joined_key(first, second).bytes());
}

void durable_pairs::for_each_with(pair_half by, byte_span key,
                                  const std::function<void(byte_span)>& fn) const {
  std::vector<std::byte> bytes;
  std::vector<std::size_t> ends;
  state_->list(
      by, key,
      [&] {
        bytes.clear();
        ends.clear();
      },
      [&](byte_span other) {
        bytes.insert(bytes.end(), other.begin(), other.end());
        ends.push_back(bytes.size());
      });
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    fn(byte_span(bytes).subspan(begin, end - begin));
    begin = end;
  }
}

std::uint64_t durable_pairs::count_with(pair_half by, byte_span key) const {
  std::uint64_t count = 0;
  state_->list(
      by, key, [&] { count = 0; }, [&](byte_span) { ++count; });
  return count;
}

void durable_pairs::for_each(const std::function<void(byte_span, byte_span)>& fn) const {
  state_->records.for_each([&](byte_span key, byte_span) {
    halves h;
    if (split_key(key, h)) fn(h.first, h.second);
  });
}

std::uint64_t durable_pairs::misfits(std::size_t first_bytes, std::size_t second_bytes) const {
  std::uint64_t found = 0;
  state_->records.for_each([&](byte_span key, byte_span) {
    halves h;
    const bool fits = split_key(key, h) && (first_bytes == 0 || h.first.size() == first_bytes) &&
                      (second_bytes == 0 || h.second.size() == second_bytes);
    found += !fits;
  });
  return found;
}

std::uint64_t durable_pairs::len() const noexcept {
  return state_->pairs.load(std::memory_order_relaxed); // [pair-count]
}
std::uint64_t durable_pairs::capacity() const noexcept {
  return state_->records.capacity();
}

map_status durable_pairs::insert(byte_span first, byte_span second) {
  return batch(*this).insert(first, second);
}

map_status durable_pairs::erase(byte_span first, byte_span second) {
  batch one(*this);
  return one.erase(first, second);
}

std::uint64_t durable_pairs::erase_with(pair_half by, byte_span key) {
  std::uint64_t erased = 0;
  batch changes(*this);
  for_each_with(by, key, [&](byte_span other) {
    const map_status status =
        by == pair_half::first ? changes.erase(key, other) : changes.erase(other, key);
    erased += status == map_status::done;
  });
  return erased;
}

map_status durable_pairs::batch::stage(byte_span first, byte_span second, bool inserts) {
  if (!accepted(first, second)) return map_status::too_long;
  const joined_key key(first, second);
  if (size_ == changes_max) commit();
  detail::short_wait wait;
  for (;;) {
    open_change& next = changes_[size_];
    const map_status status = inserts ? state_.records.insert_start(key.bytes(), {}, next.change)
                                      : state_.records.erase_start(key.bytes(), next.change);
    if (status == map_status::done) {
      next.tags = state_.tags_of({first, second});
      next.inserts = inserts;
      ++size_;
      return status;
    }
    // What this batch erases gives room after its commit only.
    const bool again = status == map_status::busy || (status == map_status::full && size_ != 0);
    if (!again) return status;
    if (size_ != 0)
      commit();
    else
      wait.round();
  }
}

void durable_pairs::batch::commit() noexcept {
  if (size_ == 0) return;
  const std::span open(changes_.data(), size_);
  for (const open_change& o : open)
    state_.records.change_flush(o.change); // [pair-before-link]
  const auto link_all = [&] {
    for (const open_change& o : open)
      state_.relink(o.change, o.tags, o.inserts);
  };
  const bool early = seeded_bug("pairs.link_undrained");
  if (early) link_all();
  hook_point("pairs.flushed");
  // [pair-before-link] Without it a listing could have a pair that a crash takes back.
  state_.records.media_.drain(); // [pair-before-link]
  hook_point("pairs.drained");
  if (!early) link_all();
  for (open_change& o : open)
    state_.records.change_finish(o.change);
  size_ = 0;
}

} // namespace chainring
