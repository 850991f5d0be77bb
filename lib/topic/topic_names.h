// SPDX-License-Identifier: BSD-3-Clause
/// The topic names one worker knows, each with a number, and the sessions each name goes to.
///
/// A name is kept once and its number stands for it: a publish by number costs two array look-ups,
/// because the list of subscribers that a name matched last is kept with it. A number is valid
/// while somebody holds it. A name that nobody holds stays known until its room is needed; then the
/// one that was used longest ago goes first, at a cost that does not depend on the number of names.
///
/// When to use: for names that come again and again. When not: for a name that is looked at once,
/// match it in the filter_index itself.
/// Memory: address space is reserved by the constructor and memory is taken as names come; no call
/// allocates. Names are contiguous, in blocks of powers of two between 32 and 65,536 octets.
/// Not thread-safe: one object a worker.
///
///     const std::uint32_t topic = names.intern("site/7/temp");
///     if (topic == topic_names::none) return refuse();   // everything is held
///     for (const subscriber& s : names.subscribers(topic, filters, reader)) place(s);
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "../base/keyed_hash.h"
#include "../base/lazy_array.h"
#include "filter_index.h"
#include "hash_chains.h"
#include "name_arena.h"

namespace chainring {

class topic_names {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  struct options {
    std::uint32_t topics_max = 65536;  ///< 1 to 2^30 names
    std::uint32_t fan_out_max = 16384; ///< sessions one name can go to: all there can ever be
    std::uint64_t name_bytes_max = 64u << 20; ///< octets of all names, rounded up to 65,536
    std::uint64_t seed = 0; ///< of the hashes; 0: a secret of this process, as outside of tests
  };

  /// Throws std::invalid_argument for an option out of range, std::bad_alloc without memory.
  explicit topic_names(const options& o);

  /// The number of that name, made if need be; none when the name is longer than 65,535 octets or
  /// no room can be made because other names are held. Without hold() the number is valid until
  /// the next intern(), which may give it to another name.
  std::uint32_t intern(std::string_view name) noexcept;
  /// The number of that name where it is known, else none. It counts as a use of the name.
  std::uint32_t find(std::string_view name) noexcept;
  /// Valid as long as the number is.
  [[nodiscard]] std::string_view name(std::uint32_t topic) const noexcept;

  /// References: a topic that has any keeps its number and its name.
  void hold(std::uint32_t topic) noexcept;
  void release(std::uint32_t topic) noexcept;

  /// The sessions the topic goes to, by ascending number, each once, with the options of its
  /// subscription with the highest QoS (the lowest two option bits). Valid until the next call.
  std::span<const subscriber> subscribers(std::uint32_t topic, filter_index& filters,
                                          unsigned reader) noexcept;

  [[nodiscard]] std::uint32_t topic_count() const noexcept { return topics_.used(); }
  /// Topics that have references.
  [[nodiscard]] std::uint32_t held_count() const noexcept { return held_; }
  /// Octets of the blocks the names lie in.
  [[nodiscard]] std::uint64_t name_bytes() const noexcept { return arena_.bytes_used(); }
  /// Times a name went so that another found room.
  [[nodiscard]] std::uint64_t reuse_count() const noexcept { return reused_; }
  /// Times subscribers() had to ask the filter index.
  [[nodiscard]] std::uint64_t match_count() const noexcept { return matches_; }

 private:
  struct topic_entry {
    detail::hash_link link;
    std::uint32_t references = 0;
    std::uint32_t older = none, newer = none; // among the topics that nobody holds
    std::uint32_t name = none;                // its block in the arena
    std::uint32_t length = 0;
    std::uint32_t match_count = 0;
    std::uint64_t match_first = 0; // in fan_out_
    std::uint64_t match_version = 0, match_epoch = 0;
    std::uint64_t checked_version = 0; // of the whole index, when the match was valid last
    filter_index::topic_key key{};     // once `keyed`: what changes may concern its matches
    bool keyed = false;
  };
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
  std::uint32_t oldest_ = none, newest_ = none; // of the topics that nobody holds
  std::uint32_t held_ = 0;
  detail::lazy_array<subscriber> fan_out_; // matches kept, one behind the other, emptied when full
  detail::lazy_array<subscriber> scratch_; // one match while it is made
  std::uint32_t scratch_used_ = 0;
  std::uint64_t fan_out_size_ = 0, fan_out_used_ = 0, fan_out_epoch_ = 1;
  std::uint64_t reused_ = 0, matches_ = 0;
};

} // namespace chainring
