// SPDX-License-Identifier: BSD-3-Clause
// The filter index.
//
// Ordering labels:
//   [filters-version]  A change raises the count of its filter and then the version of the whole
//     index with release; version() loads them with acquire; pairs with [filters-version].
//   [subscriptions-counted]  A writer, which holds writer_, changes the number of a session's
//     subscriptions, and any thread may load it, as operators do; the access orders nothing,
//     because nothing is read on the strength of the number.
#include "topic/filter_index.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "topic/topic.h"

namespace chainring {

namespace {

std::string_view next_level(std::string_view& rest, bool& last) noexcept {
  const std::size_t slash = rest.find('/');
  last = slash == std::string_view::npos;
  const std::string_view level = rest.substr(0, slash);
  rest = last ? std::string_view{} : rest.substr(slash + 1);
  return level;
}

} // namespace

// All readers wait while an object of this class lives. A writer looks up and copies what it needs
// before it makes one.
struct filter_index::readers_stopped {
  explicit readers_stopped(filter_index& i) noexcept : index(i) {
    for (unsigned r = 0; r < index.reader_count_; ++r)
      index.readers_[r].held.lock();
  }
  ~readers_stopped() {
    for (unsigned r = index.reader_count_; r-- > 0;)
      index.readers_[r].held.unlock();
  }
  readers_stopped(const readers_stopped&) = delete;
  readers_stopped& operator=(const readers_stopped&) = delete;
  filter_index& index;
};

filter_index::filter_index(const filter_index_options& o)
    : options_(o), key_(make_hash_key(o.seed)),
      changes_(std::make_unique<change_counts[]>(changes_size)),
      readers_(std::make_unique<reader_lock[]>(o.readers)), reader_count_(o.readers) {
  std::uint32_t& ceiling = options_.subscriptions_ceiling;
  ceiling = std::max(ceiling, o.subscriptions_max);
  if (options_.text_bytes_max == 0)
    options_.text_bytes_max = std::uint64_t{96} * o.filters_max + std::uint64_t{24} * o.levels_max;
  const auto pieces = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(options_.text_bytes_max / piece_size + 1, entries_limit));
  options_.text_bytes_max = std::uint64_t{pieces} * piece_size;
  pieces_.make(pieces, scaled(pieces, ceiling));
  filters_.make(o.filters_max, scaled(o.filters_max, ceiling));
  subscriptions_.make(o.subscriptions_max, ceiling);
  nodes_.make(o.levels_max + 1, scaled(o.levels_max + 1, ceiling));
  filter_chains_.make(scaled(o.filters_max, ceiling));
  subscription_chains_.make(ceiling);
  node_chains_.make(scaled(o.levels_max + 1, ceiling));
  if (!sessions_.make(o.sessions_max)) throw std::bad_alloc();
  nodes_.take(); // the root
}

// Returns the limit for a table that has `table_max` entries for subscriptions_max subscriptions.
std::uint32_t filter_index::scaled(std::uint32_t table_max,
                                   std::uint32_t subscriptions) const noexcept {
  const std::uint64_t n =
      (std::uint64_t{table_max} * subscriptions + options_.subscriptions_max - 1) /
      std::max(options_.subscriptions_max, 1u);
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(n, table_max, entries_limit));
}

bool filter_index::reserve(std::uint32_t subscriptions) noexcept {
  const std::lock_guard one_writer(writer_);
  const auto pieces = static_cast<std::uint32_t>(options_.text_bytes_max / piece_size);
  return subscriptions_.raise_limit(subscriptions) &&
         pieces_.raise_limit(scaled(pieces, subscriptions)) &&
         filters_.raise_limit(scaled(options_.filters_max, subscriptions)) &&
         nodes_.raise_limit(scaled(options_.levels_max + 1, subscriptions));
}

bool filter_index::set_text(text& to, std::string_view from) noexcept {
  const std::size_t need = (from.size() + piece_size - 1) / piece_size;
  if (pieces_.limit() - pieces_.used() < need) return false;
  to.length = static_cast<std::uint32_t>(from.size());
  std::uint32_t* link = &to.first;
  *link = none;
  for (std::size_t at = 0; at < from.size(); at += piece_size) {
    const std::uint32_t p = pieces_.take();
    std::memcpy(pieces_[p].bytes, from.data() + at, std::min(piece_size, from.size() - at));
    *link = p;
    link = &pieces_[p].link.next;
  }
  return true;
}

void filter_index::free_text(text& t) noexcept {
  for (std::uint32_t p = t.first; p != none;) {
    const std::uint32_t next = pieces_[p].link.next;
    pieces_.give(p);
    p = next;
  }
  t = {};
}

bool filter_index::same(const text& t, std::string_view s) const noexcept {
  if (t.length != s.size()) return false;
  std::size_t at = 0;
  for (std::uint32_t p = t.first; p != none; p = pieces_[p].link.next, at += piece_size)
    if (std::memcmp(pieces_[p].bytes, s.data() + at, std::min(piece_size, s.size() - at)) != 0)
      return false;
  return true;
}

std::uint32_t filter_index::text_hash(std::string_view s) const noexcept {
  return static_cast<std::uint32_t>(keyed_hash(key_, s));
}

std::uint32_t filter_index::level_hash(std::uint32_t parent,
                                       std::string_view level) const noexcept {
  return static_cast<std::uint32_t>(keyed_hash({key_.k0 + parent, key_.k1}, level));
}

std::uint32_t filter_index::find_filter(std::string_view filter,
                                        std::uint32_t hash) const noexcept {
  return filter_chains_.find(
      filters_, hash, [&](std::uint32_t f) noexcept { return same(filters_[f].name, filter); });
}

std::uint32_t filter_index::find_subscription(std::uint32_t session,
                                              std::uint32_t filter) const noexcept {
  return subscription_chains_.find(
      subscriptions_, keyed_mix(key_, session, filter), [&](std::uint32_t s) noexcept {
        return subscriptions_[s].session == session && subscriptions_[s].filter == filter;
      });
}

std::uint32_t filter_index::child(std::uint32_t parent, std::string_view level) const noexcept {
  if (nodes_[parent].children == 0) return none;
  return node_chains_.find(nodes_, level_hash(parent, level), [&](std::uint32_t n) noexcept {
    return nodes_[n].parent == parent && same(nodes_[n].level, level);
  });
}

filter_index::topic_key filter_index::key_of(std::string_view topic) const noexcept {
  return {text_hash(topic), text_hash(topic.substr(0, topic.find('/')))};
}

std::atomic<std::uint64_t>* filter_index::changes_of(std::string_view filter,
                                                     std::uint32_t hash) noexcept {
  if (!has_wildcard(filter)) return &changes_[hash % changes_size].exact;
  if (filter.front() == '+' || filter.front() == '#') return &any_changes_;
  return &changes_[key_of(filter).first_level % changes_size].below;
}

// Counts a change of the filter. Called before the readers go on, so that a reader which matches
// with the change in place can already see that older matches are out of date.
void filter_index::count_change(const filter_entry& f) noexcept {
  // The filter's own count is raised first. A reader that finds it unchanged takes its match to be
  // as new as the version of the whole index that it read before.
  // [filters-version] Without it a kept match could be used although it lacks a subscription that
  // was already acknowledged.
  f.changes->fetch_add(1, std::memory_order_release); // [filters-version]
  version_.fetch_add(1, std::memory_order_release);   // [filters-version]
}

// Makes the trie nodes of a filter with wildcards. Returns none when a table is full; the nodes
// that it made are then removed again.
std::uint32_t filter_index::make_path(std::string_view filter) noexcept {
  std::uint32_t at = 0;
  bool last = false;
  while (!last) {
    const std::string_view level = next_level(filter, last);
    std::uint32_t next = level == "+"   ? nodes_[at].plus
                         : level == "#" ? nodes_[at].hash
                                        : child(at, level);
    if (next == none) {
      next = nodes_.take();
      if (next == none) {
        prune(at);
        return none;
      }
      node_entry& made = nodes_[next];
      made.parent = at;
      if (level == "+") {
        nodes_[at].plus = next;
      } else if (level == "#") {
        nodes_[at].hash = next;
      } else {
        if (!set_text(made.level, level)) {
          nodes_.give(next);
          prune(at);
          return none;
        }
        node_chains_.insert(nodes_, next, level_hash(at, level));
        ++nodes_[at].children;
      }
    }
    at = next;
  }
  return at;
}

// Removes a node that nothing uses, and then its parents as far as nothing uses them.
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
      node_chains_.erase(nodes_, n);
      --parent.children;
      free_text(node.level);
    }
    const std::uint32_t up = node.parent;
    nodes_.give(n);
    n = up;
  }
}

// Makes a filter that has no subscriptions. Readers can see at most its trie nodes, which are
// empty. Returns none when a table is full; what it made is then removed again.
std::uint32_t filter_index::make_filter(std::string_view filter, std::uint32_t hash) noexcept {
  const std::uint32_t f = filters_.take();
  if (f == none) return none;
  filter_entry& made = filters_[f];
  bool room = set_text(made.name, filter);
  if (room && has_wildcard(filter)) {
    const readers_stopped guard(*this);
    made.node = make_path(filter);
    room = made.node != none;
  }
  if (!room) {
    free_text(made.name);
    filters_.give(f);
    return none;
  }
  made.changes = changes_of(filter, hash);
  return f;
}

filter_index::status filter_index::add(std::string_view filter, std::uint32_t session,
                                       std::uint32_t options) noexcept {
  if (filter.size() > filter_size_max) return status::too_long;
  if (has_wildcard(filter) && std::ranges::count(filter, '/') >= filter_levels_max)
    return status::too_deep;
  const std::uint32_t hash = text_hash(filter);
  const std::lock_guard one_writer(writer_);
  std::uint32_t f = find_filter(filter, hash);
  if (f != none)
    if (const std::uint32_t s = find_subscription(session, f); s != none) {
      const readers_stopped guard(*this);
      subscriptions_[s].options = options;
      count_change(filters_[f]);
      return status::replaced;
    }
  if (subscriptions_.full()) return status::full;
  const bool fresh = f == none;
  if (fresh && (f = make_filter(filter, hash)) == none) return status::full;

  const readers_stopped guard(*this);
  filter_entry& at = filters_[f];
  if (fresh) {
    filter_chains_.insert(filters_, f, hash);
    if (at.node != none) nodes_[at.node].filter = f;
  }
  const std::uint32_t s = subscriptions_.take();
  subscription_entry& made = subscriptions_[s];
  made.session = session;
  made.filter = f;
  made.options = options;
  subscription_chains_.insert(subscriptions_, s, keyed_mix(key_, session, f));
  made.before = at.last;
  (at.last == none ? at.first : subscriptions_[at.last].after) = s;
  at.last = s;
  ++at.subscriptions;
  session_entry& owner = sessions_[session];
  made.session_after = owner.first - 1;
  if (made.session_after != none) subscriptions_[made.session_after].session_before = s;
  owner.first = s + 1;
  owner.count.fetch_add(1, std::memory_order_relaxed); // [subscriptions-counted]
  count_change(at);
  return status::added;
}

bool filter_index::remove(std::string_view filter, std::uint32_t session) noexcept {
  if (filter.size() > filter_size_max) return false;
  const std::uint32_t hash = text_hash(filter);
  const std::lock_guard one_writer(writer_);
  const std::uint32_t f = find_filter(filter, hash);
  if (f == none) return false;
  const std::uint32_t s = find_subscription(session, f);
  if (s == none) return false;
  remove_subscription(s);
  return true;
}

void filter_index::remove_first(std::uint32_t session) noexcept {
  const std::lock_guard one_writer(writer_);
  if (sessions_[session].first != 0) remove_subscription(sessions_[session].first - 1);
}

void filter_index::remove_subscription(std::uint32_t s) noexcept {
  const subscription_entry gone = subscriptions_[s];
  filter_entry& filter = filters_[gone.filter];
  {
    const readers_stopped guard(*this);
    (gone.before == none ? filter.first : subscriptions_[gone.before].after) = gone.after;
    (gone.after == none ? filter.last : subscriptions_[gone.after].before) = gone.before;
    count_change(filter);
    if (--filter.subscriptions == 0) {
      filter_chains_.erase(filters_, gone.filter);
      if (filter.node != none) {
        nodes_[filter.node].filter = none;
        prune(filter.node);
      }
    }
  }
  // Readers do not use the links that follow.
  session_entry& owner = sessions_[gone.session];
  if (gone.session_before == none)
    owner.first = gone.session_after + 1;
  else
    subscriptions_[gone.session_before].session_after = gone.session_after;
  if (gone.session_after != none)
    subscriptions_[gone.session_after].session_before = gone.session_before;
  owner.count.fetch_sub(1, std::memory_order_relaxed); // [subscriptions-counted]
  subscription_chains_.erase(subscriptions_, s);
  subscriptions_.give(s);
  if (filter.subscriptions == 0) {
    free_text(filter.name);
    filters_.give(gone.filter);
  }
}

// Finds the filters that match. Counts them all in `total`, and stores those from number `skip` on
// in `out` as far as it has room. Walks the trie with a stack of its own.
std::uint32_t filter_index::find(std::string_view topic, std::uint32_t* out, std::uint32_t skip,
                                 std::uint32_t& total) const noexcept {
  std::uint32_t n = 0;
  auto emit = [&](std::uint32_t f) noexcept {
    if (f == none) return;
    if (total >= skip && n < match_filters_max) out[n++] = f;
    ++total;
  };
  const std::uint32_t exact = find_filter(topic, text_hash(topic));
  if (exact != none && filters_[exact].node == none) emit(exact);

  const node_entry& root = nodes_[0];
  if (root.children == 0 && root.plus == none && root.hash == none) return n;
  struct step {
    std::uint32_t node;
    std::uint32_t offset; // where the rest of the topic begins
  };
  std::array<step, filter_levels_max + 1> stack; // at most one sibling waits at each level
  std::uint32_t depth = 0;
  stack[depth++] = {0, 0};
  const bool dollar = !topic.empty() && topic.front() == '$';
  while (depth > 0) {
    const step current = stack[--depth];
    const node_entry& node = nodes_[current.node];
    const bool wild = !(dollar && current.node == 0);
    if (node.hash != none && wild) emit(nodes_[node.hash].filter);
    std::string_view rest = topic.substr(current.offset);
    bool last = false;
    const std::string_view level = next_level(rest, last);
    const auto offset = static_cast<std::uint32_t>(topic.size() - rest.size());
    for (const std::uint32_t next : {wild ? node.plus : none, child(current.node, level)}) {
      if (next == none) continue;
      if (!last) {
        stack[depth++] = {next, offset};
        continue;
      }
      emit(nodes_[next].filter);
      // A `#` below the last level matches its parent level, too.
      if (nodes_[next].hash != none) emit(nodes_[nodes_[next].hash].filter);
    }
  }
  return n;
}

std::size_t filter_index::copy_text(const text& t, char* to) const noexcept {
  std::size_t at = 0;
  for (std::uint32_t p = t.first; p != none; p = pieces_[p].link.next, at += piece_size)
    std::memcpy(to + at, pieces_[p].bytes, std::min<std::size_t>(piece_size, t.length - at));
  return t.length;
}

// Only the worker that owns the session changes its subscriptions, so the name stays valid after
// the lock is freed.
std::size_t filter_index::first_filter(std::uint32_t session, char* name) noexcept {
  const std::lock_guard guard(writer_);
  const std::uint32_t s = sessions_[session].first;
  return s == 0 ? 0 : copy_text(filters_[subscriptions_[s - 1].filter].name, name);
}

std::uint32_t filter_index::filter_count() const noexcept {
  const std::lock_guard guard(writer_);
  return filters_.used();
}

std::uint32_t filter_index::subscription_count() const noexcept {
  const std::lock_guard guard(writer_);
  return subscriptions_.used();
}

} // namespace chainring
