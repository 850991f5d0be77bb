// SPDX-License-Identifier: BSD-3-Clause
/// Session records on media: who has which session number, in which incarnation, with which
/// settings. Internal to the broker; groups of shared subscriptions use a table of their own.
///
/// Staged calls: `x_start` stores, `flush_record(number)` flushes what was stored, and the caller's
/// next drain makes it durable.
///
/// Thread-safety: the calls that store are for the session's home worker, one session at a time;
/// the others are for any thread.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "block/block_store.h"
#include "broker/broker_media.h"
#include "media/media.h"
#include "media/recovery_part.h"

namespace chainring {

/// A part of a table: `count` records from `offset` of the media on.
struct table_segment {
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
};

/// What may change while the session lives.
struct session_settings {
  std::uint64_t disconnected_ns = 0; ///< wall clock; 0: connected, or not known
  std::uint32_t expiry_s = 0;        ///< 0: never
  std::uint32_t will_delay_s = 0;
  std::uint64_t will = 0; ///< as a slot's reference; 0: none
  friend bool operator==(const session_settings&, const session_settings&) = default;
};

/// What recovery asks of the table's owner.
struct session_rules {
  std::uint64_t now_ns = 0;   ///< wall clock
  std::uint32_t expiry_s = 0; ///< of sessions that name no time of their own; 0: they stay
  /// Whether the number's queue record has a ring in that incarnation. Empty: none has.
  std::function<bool(std::uint32_t number, std::uint32_t incarnation)> has_queue = {};
};

/// What recovery found and did.
struct session_recovery {
  std::uint64_t used = 0;    ///< sessions that are there
  std::uint64_t voided = 0;  ///< records that are nobody's since
  std::uint64_t expired = 0; ///< of these, sessions whose time was over
};

class session_table {
 public:
  static constexpr std::size_t segments_max = 16;
  /// `noun`: what a record is called in notes.
  session_table(media& on, block_store& blocks, const char* noun) noexcept
      : media_(on), blocks_(blocks), noun_(noun) {}
  /// Further records, on media that is zero, durably, or that recovery is about to read. Numbers
  /// follow on. One thread at a time.
  [[nodiscard]] result<void> add_segment(const table_segment& segment);

  [[nodiscard]] std::uint32_t count() const noexcept {
    return count_.load(std::memory_order_acquire); // [table-grown] pairs with add_segment()
  }
  [[nodiscard]] session_word0 word0(std::uint32_t number) const noexcept;
  [[nodiscard]] std::uint32_t incarnation(std::uint32_t number) const noexcept {
    return word0(number).incarnation;
  }
  /// By the session's home, or where nobody changes it.
  [[nodiscard]] std::string_view identity(std::uint32_t number) const noexcept;
  /// From any thread, as of some moment.
  [[nodiscard]] std::string identity_seen(std::uint32_t number) const;
  [[nodiscard]] session_settings settings(std::uint32_t number) const noexcept;

  /// A free record becomes the identity's. False: no blocks for a long identity.
  [[nodiscard]] bool create_start(std::uint32_t number, std::string_view identity,
                                  std::uint8_t flags, const session_settings& s) noexcept;
  /// The next incarnation: of the same identity (keep), or of nobody. What was of the old one is
  /// unreachable. The settings are those of a new session.
  void end_start(std::uint32_t number, bool keep, std::uint8_t flags,
                 const session_settings& s) noexcept;
  /// After the drain of an end_start() without keep: gives the blocks of a long identity back.
  void end_finish(std::uint32_t number) noexcept;
  /// Gives the session other flags, in the same incarnation.
  void flags_start(std::uint32_t number, std::uint8_t flags) noexcept;
  void settings_start(std::uint32_t number, const session_settings& s) noexcept;
  /// Flushes both lines of the record.
  void flush_record(std::uint32_t number) noexcept;

  // --- recovery ---------------------------------------------------------------------------------

  void persist_as_read() noexcept;
  /// What is wrong with the record; nullptr: nothing.
  [[nodiscard]] const char* examine(std::uint32_t number) const noexcept;
  /// The table's share of an open or a check, one thread; it stands behind the block store's part
  /// and in front of the parts that ask it for incarnations. Deletes what is damaged, what has the
  /// identity of a lower number, what ended with its connection, and what expired. What it did is
  /// put into `found`, which outlives the recovery, where it is given.
  [[nodiscard]] recovery_part part(std::string name, session_rules rules,
                                   session_recovery* found = nullptr);
  [[nodiscard]] const char* noun() const noexcept { return noun_; }

 private:
  struct extent {
    std::uint32_t first, count;
    session_record* records;
  };
  [[nodiscard]] session_record& record(std::uint32_t number) const noexcept;
  [[nodiscard]] chain long_identity(const session_record& r) const noexcept {
    return {static_cast<std::uint32_t>(r.identity[1]),
            static_cast<std::uint32_t>(r.identity[1] >> 32)};
  }
  /// Numbers whose record is whole and has the identity of another, lower one, in order.
  [[nodiscard]] std::vector<std::uint32_t> doubled() const;
  /// Whether a valid session ends at an open of itself.
  [[nodiscard]] bool expired(std::uint32_t number, const session_rules& rules) const noexcept;
  /// A valid record's long identity is live in the block store. False: its blocks are somebody
  /// else's, or their memory is lost.
  [[nodiscard]] bool mark_live(std::uint32_t number) noexcept;
  /// The record is nobody's from here on, in a later incarnation than its own that is not `taken`.
  void void_record(std::uint32_t number, std::uint32_t taken, recovery_context& c) noexcept;
  void repair(recovery_context& c, const session_rules& rules, session_recovery& found);
  void store_settings(std::uint32_t number, session_record& r, std::uint32_t incarnation,
                      const session_settings& s) noexcept;

  media& media_;
  block_store& blocks_;
  const char* noun_;
  extent extents_[segments_max] = {};
  std::atomic<std::uint32_t> extent_count_{0};
  std::atomic<std::uint32_t> count_{0};
};

} // namespace chainring
