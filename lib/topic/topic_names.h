// SPDX-License-Identifier: BSD-3-Clause
/// The topic names that one worker knows, each with a number, and the sessions that each name goes
/// to.
///
/// Each name is kept once, and its number stands for it. A publish by number costs one array
/// look-up, and a second one where it goes to several sessions, because the list of subscribers
/// that the name matched last is kept with it. A number
/// is valid while the topic is held. A name that is not held stays known until its room is needed.
/// Then the name that was used longest ago is given up first, at a cost that does not depend on the
/// number of names.
///
/// **When to use:** for names that come again and again. **When not:** a name that comes once is
/// matched by the filter_index itself.
///
/// **Memory:** the constructor reserves address space, and memory is taken as names come; no call
/// allocates. Names are contiguous, in blocks of powers of two between 32 and 65,536 octets.
///
/// **Thread-safety:** none. Each worker has an object of its own.
///
///     const std::uint32_t topic = names.intern("site/7/temp");
///     if (topic == topic_names::none) return refuse();   // all room is taken by held names
///     for (const subscriber& s : names.subscribers(topic, filters, reader)) place(s);
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "../base/assert.h"
#include "../base/cacheline.h"
#include "../base/keyed_hash.h"
#include "../base/lazy_array.h"
#include "filter_index.h"
#include "hash_chains.h"
#include "name_arena.h"

namespace chainring {

/// See the head of this file.
class topic_names {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  struct options {
    std::uint32_t topics_max = 65536;         ///< 1 to 2^30 names
    std::uint32_t fan_out_max = 16384;        ///< the most sessions that a name can ever go to
    std::uint64_t name_bytes_max = 64u << 20; ///< octets of all names, rounded up to 65,536
    /// The seed of the hashes. 0: a secret of this process, as everywhere except in tests.
    std::uint64_t seed = 0;
  };

  /// Throws std::invalid_argument for an option out of range, and std::bad_alloc when there is not
  /// enough memory.
  explicit topic_names(const options& o);

  /// Returns the number of that name, and makes one for a name that is not known. Returns none when
  /// the name is longer than 65,535 octets, or when no room can be made because the other names are
  /// held. Without hold() the number is valid until the next intern(), which may give it to another
  /// name.
  std::uint32_t intern(std::string_view name) noexcept;
  /// Returns the number of that name, or none when it is not known. This counts as a use of the
  /// name.
  std::uint32_t find(std::string_view name) noexcept;
  /// Returns the name of a topic. It is valid as long as the number is.
  [[nodiscard]] std::string_view name(std::uint32_t topic) const noexcept {
    const topic_entry& e = topics_[topic];
    return {arena_.at(e.name), e.length};
  }

  /// Adds a reference to the topic, or drops one. A topic with references keeps its number and
  /// name.
  void hold(std::uint32_t topic) noexcept {
    if (topics_[topic].references++ == 0) [[unlikely]]
      begin_hold(topic);
  }
  void release(std::uint32_t topic) noexcept {
    CHAINRING_ASSERT(topics_[topic].references > 0);
    if (--topics_[topic].references == 0) [[unlikely]]
      end_hold(topic);
  }

  /// Returns the sessions that the topic goes to, by ascending number. Each session comes once,
  /// with the options of its subscription of the highest QoS (the lowest two option bits). The list
  /// is valid until the next call.
  std::span<const subscriber> subscribers(std::uint32_t topic, filter_index& filters,
                                          unsigned reader) noexcept {
    // Where no client has subscribed since, one comparison is enough.
    const topic_entry& e = topics_[topic];
    if (e.checked != filters.version() + fan_out_epoch_) [[unlikely]]
      check(topic, filters, reader);
    return {e.match_count == 1 ? &e.only : fan_out_.data() + e.match_first, e.match_count};
  }

  [[nodiscard]] std::uint32_t topic_count() const noexcept { return topics_.used(); }
  /// The number of topics that have references.
  [[nodiscard]] std::uint32_t held_count() const noexcept { return held_; }
  /// Octets of the blocks in which the names lie.
  [[nodiscard]] std::uint64_t name_bytes() const noexcept { return arena_.bytes_used(); }
  /// How often a name was given up so that another one got its room.
  [[nodiscard]] std::uint64_t reuse_count() const noexcept { return reused_; }
  /// How often subscribers() had to ask the filter index.
  [[nodiscard]] std::uint64_t match_count() const noexcept { return matches_; }

 private:
  /// What a publish by number touches, in one line.
  struct alignas(cacheline_size) topic_entry {
    detail::hash_link link;
    std::uint32_t references = 0;
    std::uint32_t name = none; // the block of its name in the arena
    std::uint32_t length = 0;
    std::uint32_t match_count = 0; // how many sessions the last match found
    subscriber only{};             // the session, where it found one
    std::uint64_t match_first = 0; // else the place of the match in fan_out_
    std::uint64_t match_epoch = 0; // the epoch of that place; 0 means that there was no match yet
    // The sum of the version of the whole index and the epoch, when the match was last valid. Both
    // only grow, so while the sum is the same neither has changed.
    std::uint64_t checked = 0;
    std::uint32_t older = none, newer = none; // in the list of topics that are not held
  };
  static_assert(sizeof(topic_entry) == cacheline_size);
  /// What tells whether a change of the index concerns the matches of a topic.
  struct match_origin {
    std::uint64_t version;       // of the key, before the last match
    filter_index::topic_key key; // set with the first match
  };
  void begin_hold(std::uint32_t topic) noexcept;
  void end_hold(std::uint32_t topic) noexcept;
  void check(std::uint32_t topic, filter_index& filters, unsigned reader) noexcept;
  std::uint32_t lookup(std::string_view name, std::uint32_t hash) const noexcept;
  void append(std::uint32_t topic) noexcept;
  void unlink(std::uint32_t topic) noexcept;
  void reuse_oldest() noexcept;
  void touch(std::uint32_t topic) noexcept;
  void compact() noexcept;

  const hash_key key_;
  const std::uint32_t fan_out_max_;
  detail::entry_table<topic_entry, &topic_entry::link> topics_;
  detail::hash_chains<topic_entry, &topic_entry::link> chains_;
  detail::name_arena arena_;
  std::uint32_t oldest_ = none, newest_ = none; // of the topics that are not held
  std::uint32_t held_ = 0;
  detail::lazy_array<match_origin> origins_; // like topics_
  // Kept matches of several sessions, one behind the other; it is emptied when it is full.
  detail::lazy_array<subscriber> fan_out_;
  detail::lazy_array<subscriber> scratch_; // a match while it is made
  std::uint32_t scratch_used_ = 0;
  std::uint64_t fan_out_size_ = 0, fan_out_used_ = 0, fan_out_epoch_ = 1;
  std::uint64_t reused_ = 0, matches_ = 0;
};

} // namespace chainring
