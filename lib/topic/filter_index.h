// SPDX-License-Identifier: BSD-3-Clause
/// The filter index finds the sessions that a topic name goes to. It holds the filter of every
/// subscription in DRAM, and is rebuilt from the subscription records at every open.
///
/// Filters without wildcards are found by one hash of the whole name. Filters with `+` or `#` lie
/// in a trie of topic levels (MQTT 3.1.1 section 4.7: `#` also matches its parent level, and a
/// leading wildcard matches no topic that begins with `$`).
///
/// **Thread-safety:** many threads may run match() at once, each with a reader number of its own.
/// Any thread may call add() and remove(). A reader holds only its own lock, which no other reader
/// touches. A writer takes all of these locks for the few hundred nanoseconds in which it changes
/// links.
///
/// **Cost:** a match takes one hash look-up, and one more for each trie node it visits. add() and
/// remove() take time in proportion to the octets and levels of their filter, however many sessions
/// subscribe to it. remove_all() takes time in proportion to the session's own subscriptions.
/// Clients choose the filters, so the hashes are keyed.
///
/// **Memory:** the constructor reserves address space, and memory is taken as filters come.
/// reserve() later raises the limits without moving anything.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>

#include "../base/cacheline.h"
#include "../base/keyed_hash.h"
#include "../base/lazy_array.h"
#include "../base/spin_lock.h"
#include "hash_chains.h"

namespace chainring {

/// One subscriber of a topic, as a match gives it.
struct subscriber {
  std::uint32_t session;
  std::uint32_t options; ///< the options that add() was given; the index does not interpret them
  bool operator==(const subscriber&) const = default;
};

/// The limits of a filter_index.
struct filter_index_options {
  std::uint32_t filters_max = 65536;        ///< distinct filters
  std::uint32_t subscriptions_max = 131072; ///< pairs of a session and a filter
  std::uint32_t levels_max = 131072;        ///< distinct trie levels of filters with wildcards
  std::uint32_t sessions_max = 16384;       ///< session numbers are below this
  unsigned readers = 1;                     ///< threads that match
  /// Octets of all filters and trie levels, in pieces of 24. 0: 96 for each filter, 24 for each
  /// level.
  std::uint64_t text_bytes_max = 0;
  /// The most subscriptions that reserve() may allow; the other tables grow in proportion. 0:
  /// subscriptions_max. The ceiling takes only address space.
  std::uint32_t subscriptions_ceiling = 0;
  /// The seed of the hashes. 0: a secret of this process, as everywhere except in tests.
  std::uint64_t seed = 0;
};

/// See the head of this file.
class filter_index {
 public:
  enum class status : std::uint8_t {
    added,
    replaced, ///< the session had this subscription already, which now has the new options
    full,     ///< a table has no room, and nothing was changed
    too_deep, ///< a filter with wildcards has more than filter_levels_max levels
    too_long  ///< the filter has more than filter_size_max octets
  };

  /// True when the session has the subscription after add() returned `s`.
  [[nodiscard]] static constexpr bool accepted(status s) noexcept {
    return s == status::added || s == status::replaced;
  }

  /// Throws std::bad_alloc when there is not enough memory.
  explicit filter_index(const filter_index_options& options);

  /// The most levels of a filter with wildcards.
  static constexpr int filter_levels_max = 255;
  /// The most octets of a filter.
  static constexpr std::size_t filter_size_max = 65535;

  /// Raises the limits so that there may be `subscriptions` in all, when the tables of the store
  /// have grown. It never lowers them. False: `subscriptions` is above subscriptions_ceiling.
  [[nodiscard]] bool reserve(std::uint32_t subscriptions) noexcept;

  /// Adds a subscription, or replaces its options. The filter must be valid (MQTT 3.1.1, 4.7).
  status add(std::string_view filter, std::uint32_t session, std::uint32_t options) noexcept;
  /// Removes a subscription. False: the session did not have it.
  bool remove(std::string_view filter, std::uint32_t session) noexcept;

  /// Calls fn(filter) for each of the session's subscriptions and removes it. The view is valid
  /// only during the call, and fn calls nothing of the index. No other thread may change the
  /// session's subscriptions meanwhile.
  template <class F> void remove_all(std::uint32_t session, F&& fn) noexcept {
    char name[filter_size_max];
    while (const std::size_t n = first_filter(session, name)) {
      fn(std::string_view(name, n));
      remove_first(session);
    }
  }
  /// The most places of filters that one call of for_each() looks at, used and unused.
  static constexpr std::uint32_t places_at_once = 1024;
  /// Calls fn(filter, subscriptions) for up to `max` filters, from position `first` on. Returns the
  /// position for the next call, or 0 at the end. A call may find fewer filters than `max`, or
  /// none, before the end, because it looks at few places: other threads wait to subscribe
  /// meanwhile. They do not wait to match.
  template <class F> std::uint32_t for_each(std::uint32_t first, std::size_t max, F&& fn) {
    const std::lock_guard guard(writer_);
    char name[filter_size_max];
    const std::uint32_t all = filters_.touched();
    if (first >= all) return 0;
    const std::uint32_t end = all - first > places_at_once ? first + places_at_once : all;
    for (std::uint32_t f = first; f < end; ++f) {
      if (filters_[f].subscriptions == 0) continue;
      if (max-- == 0) return f;
      fn(std::string_view(name, copy_text(filters_[f].name, name)), filters_[f].subscriptions);
    }
    return end < all ? end : 0;
  }
  /// Calls fn(filter, options) for up to `max` subscriptions of the session, from position `first`
  /// on, where 0 is the first. Returns the position for the next call, or 0 at the end. A list in
  /// several calls ends early when the session leaves the subscription at which it goes on. Other
  /// threads wait to subscribe meanwhile.
  template <class F>
  std::uint32_t for_each_of(std::uint32_t session, std::uint32_t first, std::size_t max, F&& fn) {
    const std::lock_guard guard(writer_);
    char name[filter_size_max];
    std::uint32_t s = (first != 0 ? first : sessions_[session].first) - 1;
    if (s != none && (s >= subscriptions_.touched() || subscriptions_[s].session != session))
      return 0;
    for (; s != none; s = subscriptions_[s].session_after) {
      if (max-- == 0) return s + 1;
      const subscription_entry& one = subscriptions_[s];
      fn(std::string_view(name, copy_text(filters_[one.filter].name, name)), one.options);
    }
    return 0;
  }
  /// The number of the session's subscriptions. Any thread may call this at any time.
  [[nodiscard]] std::uint32_t count_of(std::uint32_t session) const noexcept {
    return sessions_[session].count.load(std::memory_order_relaxed); // [subscriptions-counted]
  }

  /// Calls fn(subscriber) for every subscription that matches the topic name. A session may come
  /// several times when its filters overlap. fn calls neither add() nor remove().
  template <class F> void match(unsigned reader, std::string_view topic, F&& fn) noexcept {
    const std::lock_guard guard(readers_[reader].held);
    std::uint32_t found[match_filters_max];
    std::uint32_t skip = 0;
    for (;;) { // in pages, in case a topic matches more filters than the array holds
      std::uint32_t total = 0;
      const std::uint32_t n = find(topic, found, skip, total);
      for (std::uint32_t i = 0; i < n; ++i)
        for (std::uint32_t s = filters_[found[i]].first; s != none; s = subscriptions_[s].after)
          fn(subscriber{subscriptions_[s].session, subscriptions_[s].options});
      skip += n;
      if (skip >= total) return;
    }
  }

  /// A number that changes with every add() and remove(). A kept match is valid while it stays the
  /// same. The caller reads the version before it makes the match.
  [[nodiscard]] std::uint64_t version() const noexcept {
    return version_.load(std::memory_order_acquire); // [filters-version]
  }

  /// Says which changes can concern a topic name. A filter without wildcards concerns names of its
  /// own hash. A filter whose first level is literal concerns names with that first level. A filter
  /// that begins with a wildcard concerns all names.
  struct topic_key {
    std::uint32_t name, first_level;
  };
  [[nodiscard]] topic_key key_of(std::string_view topic) const noexcept;
  /// As version(), but it changes only with filters that may match the topic. So the SUBSCRIBE of
  /// one client does not make the kept matches of all other topics invalid.
  [[nodiscard]] std::uint64_t version(const topic_key& key) const noexcept {
    // Each count only grows, so an equal sum means that none of them has changed.
    const change_counts& by_name = changes_[key.name % changes_size];
    const change_counts& by_level = changes_[key.first_level % changes_size];
    return any_changes_.load(std::memory_order_acquire) +  // [filters-version]
           by_name.exact.load(std::memory_order_acquire) + // [filters-version]
           by_level.below.load(std::memory_order_acquire); // [filters-version]
  }
  [[nodiscard]] std::uint32_t filter_count() const noexcept;
  [[nodiscard]] std::uint32_t subscription_count() const noexcept;

 private:
  static constexpr std::uint32_t none = 0xffffffff;
  static constexpr std::uint32_t entries_limit = 1u << 30; // of one table
  static constexpr std::uint32_t match_filters_max = 64;
  static constexpr std::size_t piece_size = 24;

  struct piece {            // a part of a string
    detail::hash_link link; // the next piece of the string, or the next unused piece
    char bytes[piece_size];
  };
  struct text {
    std::uint32_t first = none;
    std::uint32_t length = 0;
  };
  struct filter_entry {
    detail::hash_link link;
    text name;
    std::uint32_t first = none, last = none; // subscriptions
    std::uint32_t subscriptions = 0;
    std::uint32_t node = none; // the node where it ends in the trie; none: it has no wildcards
    std::atomic<std::uint64_t>* changes = nullptr; // the count that a change of the filter raises
  };
  struct subscription_entry {
    detail::hash_link link; // in the chains by session and filter
    std::uint32_t session = none, filter = none;
    std::uint32_t before = none, after = none;                 // in the list of the filter
    std::uint32_t session_before = none, session_after = none; // in the list of the session
    std::uint32_t options = 0;
  };
  struct node_entry {       // one level of a filter with wildcards
    detail::hash_link link; // in the chains by parent and level
    text level;
    std::uint32_t parent = none;
    std::uint32_t plus = none; // the child for `+`
    std::uint32_t hash = none; // the child for `#`
    std::uint32_t filter = none;
    std::uint32_t children = 0;
  };
  struct session_entry {
    std::uint32_t first; // number of the first subscription plus one; 0: none
    std::atomic<std::uint32_t> count;
  };
  struct change_counts {
    std::atomic<std::uint64_t> exact; // changes of filters without wildcards, by hash of the filter
    std::atomic<std::uint64_t>
        below; // changes of filters with wildcards, by hash of the first level
  };
  struct alignas(cacheline_size) reader_lock {
    spin_lock held;
  };
  struct readers_stopped;

  std::uint32_t find(std::string_view topic, std::uint32_t* out, std::uint32_t skip,
                     std::uint32_t& total) const noexcept;
  std::uint32_t text_hash(std::string_view s) const noexcept;
  std::uint32_t level_hash(std::uint32_t parent, std::string_view level) const noexcept;
  std::uint32_t find_filter(std::string_view filter, std::uint32_t hash) const noexcept;
  std::uint32_t find_subscription(std::uint32_t session, std::uint32_t filter) const noexcept;
  std::uint32_t make_filter(std::string_view filter, std::uint32_t hash) noexcept;
  void remove_filter(std::uint32_t f) noexcept;
  void remove_subscription(std::uint32_t s) noexcept;
  std::uint32_t child(std::uint32_t parent, std::string_view level) const noexcept;
  std::uint32_t make_path(std::string_view filter) noexcept;
  void prune(std::uint32_t node) noexcept;
  bool set_text(text& to, std::string_view from) noexcept;
  void free_text(text& t) noexcept;
  bool same(const text& t, std::string_view s) const noexcept;
  std::size_t copy_text(const text& t, char* to) const noexcept;
  std::size_t first_filter(std::uint32_t session, char* name) noexcept;
  void remove_first(std::uint32_t session) noexcept;
  void count_change(const filter_entry& f) noexcept;
  std::atomic<std::uint64_t>* changes_of(std::string_view filter, std::uint32_t hash) noexcept;
  [[nodiscard]] std::uint32_t scaled(std::uint32_t table_max,
                                     std::uint32_t subscriptions) const noexcept;

  static constexpr std::uint32_t changes_size = 4096;

  filter_index_options options_;
  const hash_key key_;
  detail::entry_table<piece, &piece::link> pieces_;
  detail::entry_table<filter_entry, &filter_entry::link> filters_;
  detail::entry_table<subscription_entry, &subscription_entry::link> subscriptions_;
  detail::entry_table<node_entry, &node_entry::link> nodes_; // node 0 is the root
  detail::hash_chains<filter_entry, &filter_entry::link> filter_chains_;
  detail::hash_chains<subscription_entry, &subscription_entry::link> subscription_chains_;
  detail::hash_chains<node_entry, &node_entry::link> node_chains_;
  detail::lazy_array<session_entry> sessions_;
  std::unique_ptr<change_counts[]> changes_;
  std::unique_ptr<reader_lock[]> readers_;
  unsigned reader_count_;
  mutable std::mutex writer_;
  std::atomic<std::uint64_t> version_{1};
  std::atomic<std::uint64_t> any_changes_{1};
};

} // namespace chainring
