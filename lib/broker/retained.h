// SPDX-License-Identifier: BSD-3-Clause
/// The retained messages of a broker, as its workers see them in DRAM: one entry for each topic.
/// Internal to the broker.
///
/// The truth is a cell of the map `broker.retained`, topic -> {candidate, current}. Both words name
/// a message in the form of a slot's reference, and each of them is one reference to its message.
/// The topic's message is the candidate if that is published, and else the current one. A message
/// without content is a tombstone: the topic has no retained message.
///
/// **Claims.** A worker that publishes to a topic first claims the topic's entry, so a cell never
/// has more than one candidate that is not published. The claim lasts until the publication is
/// drained. Who meets a claim comes again in later bursts, and a newcomer waits behind those that
/// wait. Parties take turns: the publishes of one worker, its wills and its operators' requests are
/// one party each. A party that does not come for its turn loses it after a while.
///
/// **Against subscriptions.** A publisher claims an entry, makes a full fence, and matches. A
/// subscriber enters the index of filters, makes a full fence, and looks at the entries; it waits
/// for an entry that is claimed. So a subscriber gets each message in one way or the other. It gets
/// it only once where the publisher's match is known to have found the subscription.
///
/// **Limits.** The number of topics, and the blocks of all messages that cells name, are limited.
///
/// **Thread-safety:** any thread may make any call but the constructor and add(). A lock is held
/// for a few instructions, and only for messages that are retained.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/keyed_hash.h"
#include "base/spin_lock.h"
#include "message/message.h"
#include "ring/ring.h"
#include "topic/hash_chains.h"
#include "topic/name_arena.h"

namespace chainring {

/// The value of a cell. A word is 0 where there is no message.
struct retained_value {
  std::uint64_t candidate = 0, current = 0;
  friend bool operator==(const retained_value&, const retained_value&) = default;
};
static_assert(sizeof(retained_value) == 16);

/// The word that names a message. Its retain bit makes it differ from 0.
[[nodiscard]] constexpr std::uint64_t retained_word(message_ref m, std::uint8_t qos) noexcept {
  return slot_ref(m, slot_delivery{qos, true, 0}.pack()).word;
}
/// True for a word that retained_word() can make.
[[nodiscard]] constexpr bool retained_word_formed(std::uint64_t word) noexcept {
  const slot_delivery d = slot_delivery::unpack(slot_ref(word).delivery());
  return d.qos <= 2 && d.pack() == slot_ref(word).delivery() && d.retain && d.front_end == 0;
}

/// A retained message.
struct retained_message {
  message_ref ref;
  std::uint8_t qos = 0;           ///< at which it was published
  std::uint32_t payload_size = 0; ///< 0 means a tombstone
  std::uint64_t published_ns = 0; ///< on the wall clock
  std::uint64_t bytes = 0;        ///< of its blocks
  std::uint64_t expires_ns = 0;   ///< on the wall clock; 0 means never

  [[nodiscard]] bool expired(std::uint64_t now_ns) const noexcept {
    return expires_ns != 0 && expires_ns <= now_ns;
  }
  [[nodiscard]] std::uint64_t word() const noexcept { return retained_word(ref, qos); }
};

class retained_table {
 public:
  static constexpr std::uint32_t none = 0xffffffff;
  struct options {
    std::uint32_t topics = 0;         ///< how many topics the map has cells for
    std::uint32_t topics_ceiling = 0; ///< how many it can ever have
    std::uint32_t messages_max = 0;   ///< the limit of topics
    std::uint64_t bytes_max = 0;      ///< the limit of the blocks of all messages
    std::uint64_t name_bytes_max = 0; ///< octets of all topic names in DRAM
    std::uint64_t block_size = 1;
  };
  /// Throws std::bad_alloc when there is not enough memory.
  explicit retained_table(const options& o);

  /// Adds the entry of a cell that recovery has found, before workers run. `before` is the message
  /// that the cell names as the current one, if any. Returns false when there is no room.
  [[nodiscard]] bool add(std::string_view topic, const retained_message& now,
                         const retained_message* before) noexcept;
  /// Says that the map has more cells.
  void reserve(std::uint32_t topics) noexcept;

  // --- publishing -------------------------------------------------------------------------------

  enum class claim_status : std::uint8_t {
    claimed,
    nothing, ///< the topic is to be cleared and has no retained message
    wait,    ///< another publish has claimed the topic or waits for it, or its cell is tidied up
    full,    ///< a limit is reached
  };
  struct claim {
    std::uint32_t entry = none;
    std::uint64_t before = 0; ///< the word of the topic's message; 0 means none
  };
  /// Who asks for a claim.
  struct asker {
    std::uint16_t party = 0;
    bool newcomer = false; ///< it claims a topic only if nobody waits for it
    bool stays = true;     ///< it comes again when it is told to wait
    std::uint64_t now_tsc = 0;
    std::uint64_t patience_tsc =
        0; ///< how long a free topic is kept for the party whose turn it is
  };
  /// Claims the entry of a topic for a message whose topic and content have `size` octets. With
  /// `clears` the message has no content. A party that is told to wait has a turn from then on, if
  /// it stays.
  [[nodiscard]] claim_status take(std::string_view topic, std::uint64_t size, bool clears,
                                  const asker& by, claim& out) noexcept;
  /// Claims an entry whose message has expired, to clear its topic. Returns false when there is
  /// none or the topic is claimed.
  [[nodiscard]] bool take_expired(std::uint32_t entry, std::uint64_t now_ns, claim& out) noexcept;
  /// Gives up a claim of which no cell was stored.
  void abandon(std::uint32_t entry) noexcept;
  /// The new message is published and drained. Returns the word that the cell names no longer, or
  /// 0; its reference is the caller's to drop. A tombstone stays claimed until tidied().
  /// `matched_version` is the version of the index of filters that the publish was matched with.
  std::uint64_t accept(std::uint32_t entry, const retained_message& m,
                       std::uint64_t matched_version) noexcept;
  /// The new message was refused, or its memory is lost, and its cell is durable all the same.
  /// Returns as accept(). The entry stays claimed until tidied().
  std::uint64_t refuse(std::uint32_t entry, std::uint64_t word) noexcept;

  /// What is to become of a cell whose entry is being tidied up: a value to store, or, where its
  /// candidate is 0, the cell's end.
  [[nodiscard]] retained_value tidy_value(std::uint32_t entry) noexcept;
  /// The cell is durably what tidy_value() said. Returns the words that it names no longer. An
  /// entry without a message is gone, and the claim of another one is over.
  retained_value tidied(std::uint32_t entry) noexcept;
  /// The cell of a claimed entry was erased and drained. Returns the words that it named.
  retained_value erased(std::uint32_t entry) noexcept;

  /// The topic of a claimed entry.
  [[nodiscard]] std::string_view topic(std::uint32_t entry) const noexcept {
    return {arena_.at(entries_[entry].name), entries_[entry].length};
  }

  // --- reading ----------------------------------------------------------------------------------

  enum class look_status : std::uint8_t { nothing, wait, found };
  /// Looks at one entry for a subscription with that filter, which entered the index of filters
  /// before its `version`. Where it finds a message for it, `out` has one more reference, which is
  /// the caller's. Numbers of entries are below size().
  [[nodiscard]] look_status look(std::uint32_t entry, std::string_view filter,
                                 std::uint64_t version, message_table& messages,
                                 retained_message& out) noexcept;
  /// Returns the entry of a topic, or none.
  [[nodiscard]] std::uint32_t find(std::string_view topic) noexcept;
  [[nodiscard]] std::uint32_t size() noexcept;
  /// Copies the topic and the message of an entry. Returns false when it has none.
  [[nodiscard]] bool show(std::uint32_t entry, std::string& topic, retained_message& out);

  struct statistics {
    std::uint64_t messages = 0, bytes = 0, messages_max = 0, bytes_max = 0;
  };
  [[nodiscard]] statistics count() noexcept;

 private:
  /// The parties that wait for a topic, in the order of their turns. Where more of them wait, the
  /// others join as places become free.
  class turn_list {
   public:
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    [[nodiscard]] std::uint16_t first() const noexcept { return parties_[0]; }
    void add(std::uint16_t party) noexcept;
    void remove(std::uint16_t party) noexcept;

   private:
    static constexpr std::size_t parties_max = 8;
    std::array<std::uint16_t, parties_max> parties_{};
    std::size_t count_ = 0;
  };
  enum class claim_state : std::uint8_t { idle, publishing, tidying };
  struct entry {
    detail::hash_link link;
    std::uint32_t name = none, length = 0;
    claim_state state = claim_state::idle;
    bool used = false;
    bool has = false; // whether `now` is a message of the topic
    retained_message now;
    std::uint64_t now_version = 0; // of the index of filters when it was matched
    std::uint64_t current = 0;     // what the cell names beside `now`
    std::uint64_t current_bytes = 0;
    std::uint64_t refused = 0;       // a candidate that was refused and is in the cell
    std::uint64_t claimed_bytes = 0; // of the message that is being published
    turn_list turns;
    std::uint64_t kept_since_tsc = 0; // when the free topic was first kept for a turn; 0: it is not
  };
  [[nodiscard]] static bool must_wait(entry& e, const asker& by) noexcept;
  [[nodiscard]] std::uint32_t find_locked(std::string_view topic, std::uint32_t hash) noexcept;
  [[nodiscard]] std::uint32_t make(std::string_view topic, std::uint32_t hash) noexcept;
  void remove(std::uint32_t n) noexcept;
  [[nodiscard]] std::uint64_t blocks_of(std::uint64_t size) const noexcept {
    return (size + options_.block_size - 1) / options_.block_size * options_.block_size;
  }

  options options_;
  const hash_key key_;
  spin_lock lock_;
  detail::entry_table<entry, &entry::link> entries_;
  detail::hash_chains<entry, &entry::link> chains_;
  detail::name_arena arena_;
  std::uint64_t messages_ = 0; // entries with a message
  std::uint64_t bytes_ = 0;    // of all messages that cells name or that are being published
};

} // namespace chainring
