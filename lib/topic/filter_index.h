// SPDX-License-Identifier: BSD-3-Clause
/// Which sessions a topic name goes to: every subscription's filter, in DRAM, rebuilt from the
/// subscription records at open.
///
/// Filters without wildcards are found by one hash of the whole name; those with `+` or `#` lie in
/// a trie of topic levels (MQTT 3.1.1 section 4.7: `#` matches its parent level too, and no leading
/// wildcard matches a topic that begins with `$`).
///
/// Thread-safety: match() runs on many threads at once, each with a reader number of its own; add()
/// and remove() from any thread. A reader holds only its own lock, which no other reader touches; a
/// writer takes them all, for the few hundred nanoseconds its links take.
/// Memory: everything is allocated by create(); add() says full when a table is.
/// Cost: a match is one hash look-up plus one per trie node visited.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "../base/cacheline.h"

namespace chainring {

/// One subscriber of a topic, as a match gives it.
struct subscriber {
  std::uint32_t session;
  std::uint8_t options; ///< what add() was given: the queue slot's delivery bits
  bool operator==(const subscriber&) const = default;
};

struct filter_index_options {
  std::uint32_t filters_max = 65536;        ///< distinct filters
  std::uint32_t subscriptions_max = 131072; ///< session x filter pairs
  std::uint32_t levels_max = 131072;        ///< distinct trie levels of filters with wildcards
  std::uint32_t sessions_max = 16384;       ///< session numbers are below this
  unsigned readers = 1;                     ///< threads that match
};

class filter_index {
 public:
  enum class status : std::uint8_t { added, replaced, full };

  explicit filter_index(const filter_index_options& options);

  /// Levels a filter may have; one with more is refused as full.
  static constexpr int filter_levels_max = 255;
  /// Octets a filter may have.
  static constexpr std::size_t filter_size_max = 1024;

  /// Adds a subscription, or replaces its options. The filter must be a valid one (MQTT 4.7).
  status add(std::string_view filter, std::uint32_t session, std::uint8_t options) noexcept;
  /// True when there was such a subscription.
  bool remove(std::string_view filter, std::uint32_t session) noexcept;

  /// Calls fn(filter) for each of the session's subscriptions and removes it. The view is good
  /// during the call only; fn calls nothing of the index.
  template <class F> void remove_all(std::uint32_t session, F&& fn) noexcept {
    char name[filter_size_max];
    while (const std::size_t n = first_filter(session, name)) {
      fn(std::string_view(name, n));
      remove({name, n}, session);
    }
  }
  /// Calls fn(filter, subscriptions) for up to `max` filters, subscriptions held up meanwhile.
  template <class F> void for_each(std::size_t max, F&& fn) {
    const std::lock_guard guard(writer_);
    char name[filter_size_max];
    for (std::size_t f = 0; f < filters_.size() && max > 0; ++f) {
      if (filters_[f].first_subscription == none) continue;
      std::uint32_t n = 0;
      for (std::uint32_t s = filters_[f].first_subscription; s != none; s = subscriptions_[s].next)
        ++n;
      fn(std::string_view(name, copy_text(filters_[f].name, name)), n);
      --max;
    }
  }
  /// Subscriptions of the session.
  [[nodiscard]] std::uint32_t count_of(std::uint32_t session) const noexcept {
    return session_counts_[session];
  }

  /// Calls fn(subscriber) for every subscription that matches the topic name. One session may come
  /// several times, for overlapping filters. Neither add() nor remove() from within fn.
  template <class F> void match(unsigned reader, std::string_view topic, F&& fn) noexcept {
    const reader_guard guard(readers_[reader]);
    std::uint32_t found[match_filters_max];
    std::uint32_t skip = 0;
    for (;;) { // in pages, should one topic ever match more filters than the array holds
      std::uint32_t total = 0;
      const std::uint32_t n = find(topic, found, skip, total);
      for (std::uint32_t i = 0; i < n; ++i)
        for (std::uint32_t s = filters_[found[i]].first_subscription; s != none;
             s = subscriptions_[s].next)
          fn(subscriber{subscriptions_[s].session, subscriptions_[s].options});
      skip += n;
      if (skip >= total) return;
    }
  }

  /// Changes with every add and remove: a match kept aside is good while this stays the same.
  /// Read it before the match whose result it vouches for.
  [[nodiscard]] std::uint64_t version() const noexcept {
    // [F1] acquire: pairs with the release [F2] of a change. Without it a kept match could be
    // taken as newer than a subscription already acknowledged.
    return version_.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::uint32_t filter_count() const noexcept;
  [[nodiscard]] std::uint32_t subscription_count() const noexcept;

 private:
  static constexpr std::uint32_t none = 0xffffffff;
  static constexpr std::uint32_t match_filters_max = 64;
  static constexpr std::size_t piece_size = 28;

  struct piece { // of a string
    char bytes[piece_size];
    std::uint32_t next;
  };
  struct text {
    std::uint32_t first = none;
    std::uint32_t length = 0;
  };
  struct filter_entry {
    text name;
    std::uint32_t hash = 0;
    std::uint32_t next_in_bucket = none;
    std::uint32_t first_subscription = none;
    std::uint32_t node = none; // its end in the trie; none without wildcards
  };
  struct subscription_entry {
    std::uint32_t session = 0;
    std::uint32_t next = none; // of the same filter
    std::uint32_t filter = none;
    std::uint32_t next_of_session = none;
    std::uint8_t options = 0;
  };
  struct node_entry { // one level of a filter with wildcards
    text level;
    std::uint32_t parent = none;
    std::uint32_t next_in_bucket = none;
    std::uint32_t plus = none; // child for +
    std::uint32_t hash = none; // child for #
    std::uint32_t filter = none;
    std::uint32_t children = 0;
    std::uint32_t bucket = 0;
  };
  struct alignas(cacheline_size) reader_lock {
    std::atomic<bool> held{false};
  };
  struct reader_guard {
    explicit reader_guard(reader_lock& l) noexcept : lock(l) { acquire(l); }
    ~reader_guard() { release(lock); }
    reader_guard(const reader_guard&) = delete;
    reader_guard& operator=(const reader_guard&) = delete;
    reader_lock& lock;
  };
  struct writer_guard;

  static void acquire(reader_lock& lock) noexcept;
  static void release(reader_lock& lock) noexcept;
  std::uint32_t find(std::string_view topic, std::uint32_t* out, std::uint32_t skip,
                     std::uint32_t& total) const noexcept;
  std::uint32_t find_filter(std::string_view filter, std::uint32_t hash) const noexcept;
  std::uint32_t child(std::uint32_t parent, std::string_view level) const noexcept;
  std::uint32_t bucket_of(std::uint32_t parent, std::string_view level) const noexcept;
  std::uint32_t make_path(std::string_view filter) noexcept;
  void prune(std::uint32_t node) noexcept;
  bool set_text(text& to, std::string_view from) noexcept;
  void free_text(text& t) noexcept;
  bool same(const text& t, std::string_view s) const noexcept;
  std::size_t copy_text(const text& t, char* to) const noexcept;
  std::size_t first_filter(std::uint32_t session, char* name) noexcept;

  std::vector<piece> pieces_;
  std::vector<filter_entry> filters_;
  std::vector<subscription_entry> subscriptions_;
  std::vector<node_entry> nodes_; // node 0 is the root
  std::vector<std::uint32_t> filter_buckets_, node_buckets_;
  std::vector<std::uint32_t> session_heads_, session_counts_;
  std::vector<std::uint32_t> free_pieces_, free_filters_, free_subscriptions_, free_nodes_;
  std::unique_ptr<reader_lock[]> readers_;
  unsigned reader_count_;
  mutable std::mutex writer_;
  std::atomic<std::uint64_t> version_{1};
};

} // namespace chainring
