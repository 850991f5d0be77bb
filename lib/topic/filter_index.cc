// SPDX-License-Identifier: BSD-3-Clause
// Edges:
//   [F2] release of version_ after a change      -> [F1] acquire in version()
//   [F3] acquire of a reader's lock, by its reader or a writer -> [F4] release of that lock
#include "topic/filter_index.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/crc32c.h"
#include "base/idle.h"
#include "topic/topic.h"

namespace chainring {

namespace {

std::uint32_t hash_text(std::string_view s, std::uint32_t seed = 0) noexcept {
  return crc32c(seed, s.data(), s.size());
}

std::vector<std::uint32_t> free_list(std::uint32_t count, std::uint32_t first = 0) {
  std::vector<std::uint32_t> list;
  list.reserve(count);
  for (std::uint32_t i = count; i > first; --i)
    list.push_back(i - 1);
  return list;
}

std::uint32_t take(std::vector<std::uint32_t>& list) noexcept {
  const std::uint32_t i = list.back();
  list.pop_back();
  return i;
}

std::string_view next_level(std::string_view& rest, bool& last) noexcept {
  const std::size_t slash = rest.find('/');
  last = slash == std::string_view::npos;
  const std::string_view level = rest.substr(0, slash);
  rest = last ? std::string_view{} : rest.substr(slash + 1);
  return level;
}

} // namespace

struct filter_index::writer_guard {
  explicit writer_guard(filter_index& i) noexcept : index(i), one_writer(i.writer_) {
    for (unsigned r = 0; r < index.reader_count_; ++r)
      acquire(index.readers_[r]);
  }
  ~writer_guard() {
    // [F2] release: pairs with [F1]. Before the locks are freed, so that a reader that matches
    // with the change in place can already see that older matches are out of date.
    index.version_.fetch_add(1, std::memory_order_release);
    for (unsigned r = index.reader_count_; r-- > 0;)
      release(index.readers_[r]);
  }
  writer_guard(const writer_guard&) = delete;
  writer_guard& operator=(const writer_guard&) = delete;
  filter_index& index;
  std::lock_guard<std::mutex> one_writer;
};

void filter_index::acquire(reader_lock& lock) noexcept {
  idle_policy policy;
  // [F3] acquire: pairs with [F4]. Without it a match could follow links half made.
  while (lock.held.exchange(true, std::memory_order_acquire))
    policy.idle();
}

void filter_index::release(reader_lock& lock) noexcept {
  // [F4] release: pairs with [F3].
  lock.held.store(false, std::memory_order_release);
}

filter_index::filter_index(const filter_index_options& o)
    : pieces_(o.filters_max * 2 + o.levels_max), filters_(o.filters_max),
      subscriptions_(o.subscriptions_max), nodes_(o.levels_max + 1),
      filter_buckets_(std::bit_ceil(o.filters_max), none),
      node_buckets_(std::bit_ceil(o.levels_max), none), session_heads_(o.sessions_max, none),
      session_counts_(o.sessions_max),
      free_pieces_(free_list(static_cast<std::uint32_t>(pieces_.size()))),
      free_filters_(free_list(o.filters_max)), free_subscriptions_(free_list(o.subscriptions_max)),
      free_nodes_(free_list(o.levels_max + 1, 1)),
      readers_(std::make_unique<reader_lock[]>(o.readers)), reader_count_(o.readers) {}

bool filter_index::set_text(text& to, std::string_view from) noexcept {
  const std::size_t need = (from.size() + piece_size - 1) / piece_size;
  if (free_pieces_.size() < need) return false;
  to.length = static_cast<std::uint32_t>(from.size());
  std::uint32_t* link = &to.first;
  *link = none;
  for (std::size_t at = 0; at < from.size(); at += piece_size) {
    const std::uint32_t p = take(free_pieces_);
    std::memcpy(pieces_[p].bytes, from.data() + at, std::min(piece_size, from.size() - at));
    pieces_[p].next = none;
    *link = p;
    link = &pieces_[p].next;
  }
  return true;
}

void filter_index::free_text(text& t) noexcept {
  for (std::uint32_t p = t.first; p != none; p = pieces_[p].next)
    free_pieces_.push_back(p);
  t = {};
}

bool filter_index::same(const text& t, std::string_view s) const noexcept {
  if (t.length != s.size()) return false;
  std::size_t at = 0;
  for (std::uint32_t p = t.first; p != none; p = pieces_[p].next, at += piece_size)
    if (std::memcmp(pieces_[p].bytes, s.data() + at, std::min(piece_size, s.size() - at)) != 0)
      return false;
  return true;
}

std::uint32_t filter_index::find_filter(std::string_view filter,
                                        std::uint32_t hash) const noexcept {
  std::uint32_t f = filter_buckets_[hash & (filter_buckets_.size() - 1)];
  while (f != none && !(filters_[f].hash == hash && same(filters_[f].name, filter)))
    f = filters_[f].next_in_bucket;
  return f;
}

std::uint32_t filter_index::bucket_of(std::uint32_t parent, std::string_view level) const noexcept {
  return hash_text(level, parent * 2654435761u) & // Knuth's multiplicative hash spreads parents
         static_cast<std::uint32_t>(node_buckets_.size() - 1);
}

std::uint32_t filter_index::child(std::uint32_t parent, std::string_view level) const noexcept {
  if (nodes_[parent].children == 0) return none;
  std::uint32_t n = node_buckets_[bucket_of(parent, level)];
  while (n != none && !(nodes_[n].parent == parent && same(nodes_[n].level, level)))
    n = nodes_[n].next_in_bucket;
  return n;
}

// Makes the nodes of a filter with wildcards; none when a table is full (nothing is left behind).
std::uint32_t filter_index::make_path(std::string_view filter) noexcept {
  std::uint32_t at = 0;
  bool last = false;
  while (!last) {
    const std::string_view level = next_level(filter, last);
    std::uint32_t next = level == "+"   ? nodes_[at].plus
                         : level == "#" ? nodes_[at].hash
                                        : child(at, level);
    if (next == none) {
      if (free_nodes_.empty()) {
        prune(at);
        return none;
      }
      next = take(free_nodes_);
      node_entry& made = nodes_[next] = node_entry{};
      made.parent = at;
      if (level == "+") {
        nodes_[at].plus = next;
      } else if (level == "#") {
        nodes_[at].hash = next;
      } else {
        if (!set_text(made.level, level)) {
          free_nodes_.push_back(next);
          prune(at);
          return none;
        }
        made.bucket = bucket_of(at, level);
        made.next_in_bucket = node_buckets_[made.bucket];
        node_buckets_[made.bucket] = next;
        ++nodes_[at].children;
      }
    }
    at = next;
  }
  return at;
}

// Removes a node and its parents as far as nothing hangs on them.
void filter_index::prune(std::uint32_t n) noexcept {
  while (n != 0) {
    node_entry& node = nodes_[n];
    if (node.filter != none || node.children != 0 || node.plus != none || node.hash != none) return;
    node_entry& parent = nodes_[node.parent];
    if (parent.plus == n) {
      parent.plus = none;
    } else if (parent.hash == n) {
      parent.hash = none;
    } else {
      std::uint32_t* link = &node_buckets_[node.bucket];
      while (*link != n)
        link = &nodes_[*link].next_in_bucket;
      *link = node.next_in_bucket;
      --parent.children;
      free_text(node.level);
    }
    const std::uint32_t up = node.parent;
    free_nodes_.push_back(n);
    n = up;
  }
}

filter_index::status filter_index::add(std::string_view filter, std::uint32_t session,
                                       std::uint8_t options) noexcept {
  if (filter.size() > filter_size_max || std::ranges::count(filter, '/') >= filter_levels_max)
    return status::full;
  const writer_guard guard(*this);
  const std::uint32_t hash = hash_text(filter);
  std::uint32_t f = find_filter(filter, hash);
  if (f != none)
    for (std::uint32_t s = filters_[f].first_subscription; s != none; s = subscriptions_[s].next)
      if (subscriptions_[s].session == session) {
        subscriptions_[s].options = options;
        return status::replaced;
      }
  if (free_subscriptions_.empty()) return status::full;
  if (f == none) {
    if (free_filters_.empty()) return status::full;
    filter_entry made;
    made.hash = hash;
    if (!set_text(made.name, filter)) return status::full;
    if (has_wildcard(filter)) {
      made.node = make_path(filter);
      if (made.node == none) {
        free_text(made.name);
        return status::full;
      }
    }
    f = take(free_filters_);
    std::uint32_t& bucket = filter_buckets_[hash & (filter_buckets_.size() - 1)];
    made.next_in_bucket = bucket;
    bucket = f;
    filters_[f] = made;
    if (made.node != none) nodes_[made.node].filter = f;
  }
  const std::uint32_t s = take(free_subscriptions_);
  subscriptions_[s] = {session, filters_[f].first_subscription, f, session_heads_[session],
                       options};
  filters_[f].first_subscription = s;
  session_heads_[session] = s;
  ++session_counts_[session];
  return status::added;
}

bool filter_index::remove(std::string_view filter, std::uint32_t session) noexcept {
  const writer_guard guard(*this);
  const std::uint32_t hash = hash_text(filter);
  const std::uint32_t f = find_filter(filter, hash);
  if (f == none) return false;
  std::uint32_t* link = &filters_[f].first_subscription;
  while (*link != none && subscriptions_[*link].session != session)
    link = &subscriptions_[*link].next;
  if (*link == none) return false;
  const std::uint32_t s = *link;
  *link = subscriptions_[s].next;
  link = &session_heads_[session];
  while (*link != s)
    link = &subscriptions_[*link].next_of_session;
  *link = subscriptions_[s].next_of_session;
  --session_counts_[session];
  free_subscriptions_.push_back(s);
  if (filters_[f].first_subscription != none) return true;

  std::uint32_t* bucket = &filter_buckets_[hash & (filter_buckets_.size() - 1)];
  while (*bucket != f)
    bucket = &filters_[*bucket].next_in_bucket;
  *bucket = filters_[f].next_in_bucket;
  if (const std::uint32_t node = filters_[f].node; node != none) {
    nodes_[node].filter = none;
    prune(node);
  }
  free_text(filters_[f].name);
  filters_[f] = filter_entry{};
  free_filters_.push_back(f);
  return true;
}

// Collects the filters that match: the total, and those from number `skip` on as far as `out`
// holds. Walks the trie with a stack of its own.
std::uint32_t filter_index::find(std::string_view topic, std::uint32_t* out, std::uint32_t skip,
                                 std::uint32_t& total) const noexcept {
  std::uint32_t n = 0;
  auto emit = [&](std::uint32_t f) noexcept {
    if (f == none) return;
    if (total >= skip && n < match_filters_max) out[n++] = f;
    ++total;
  };
  const std::uint32_t exact = find_filter(topic, hash_text(topic));
  if (exact != none && filters_[exact].node == none) emit(exact);

  const node_entry& root = nodes_[0];
  if (root.children == 0 && root.plus == none && root.hash == none) return n;
  struct step {
    std::uint32_t node;
    std::uint32_t offset; // where the rest of the topic begins
  };
  std::array<step, filter_levels_max + 1> stack; // one sibling waits at each level, no more
  std::uint32_t depth = 0;
  stack[depth++] = {0, 0};
  const bool dollar = !topic.empty() && topic.front() == '$';
  while (depth > 0) {
    const step here = stack[--depth];
    const node_entry& node = nodes_[here.node];
    const bool wild = !(dollar && here.node == 0);
    if (node.hash != none && wild) emit(nodes_[node.hash].filter);
    std::string_view rest = topic.substr(here.offset);
    bool last = false;
    const std::string_view level = next_level(rest, last);
    const auto offset = static_cast<std::uint32_t>(topic.size() - rest.size());
    for (const std::uint32_t next : {wild ? node.plus : none, child(here.node, level)}) {
      if (next == none) continue;
      if (!last) {
        stack[depth++] = {next, offset};
        continue;
      }
      emit(nodes_[next].filter);
      if (nodes_[next].hash != none) emit(nodes_[nodes_[next].hash].filter); // # takes its parent
    }
  }
  return n;
}

std::size_t filter_index::copy_text(const text& t, char* to) const noexcept {
  std::size_t at = 0;
  for (std::uint32_t p = t.first; p != none; p = pieces_[p].next, at += piece_size)
    std::memcpy(to + at, pieces_[p].bytes, std::min<std::size_t>(piece_size, t.length - at));
  return t.length;
}

// Only the session's home changes its subscriptions, so the name stays good after the lock is
// freed.
std::size_t filter_index::first_filter(std::uint32_t session, char* name) noexcept {
  const std::lock_guard guard(writer_);
  const std::uint32_t s = session_heads_[session];
  if (s == none) return 0;
  return copy_text(filters_[subscriptions_[s].filter].name, name);
}

std::uint32_t filter_index::filter_count() const noexcept {
  const std::lock_guard guard(writer_);
  return static_cast<std::uint32_t>(filters_.size() - free_filters_.size());
}

std::uint32_t filter_index::subscription_count() const noexcept {
  const std::lock_guard guard(writer_);
  return static_cast<std::uint32_t>(subscriptions_.size() - free_subscriptions_.size());
}

} // namespace chainring
