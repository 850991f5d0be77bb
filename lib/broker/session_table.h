// SPDX-License-Identifier: BSD-3-Clause
/// Session records on media: the identity, incarnation and settings of each session number.
/// Internal to the broker; groups of shared subscriptions use a table of their own.
///
/// The calls stage: `x_start` stores, `flush_record(number)` flushes what was stored, and the
/// caller's next drain makes it durable.
///
/// Thread-safety: the home worker of a session makes the calls that store, one session at a time.
/// Any thread may make the other calls.
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

/// The settings that may change while the session lives.
struct session_settings {
  std::uint64_t disconnected_ns = 0; ///< on the wall clock; 0 means connected or not known
  std::uint32_t expiry_s = 0;        ///< 0 means never
  std::uint32_t will_delay_s = 0;
  std::uint64_t will = 0; ///< a slot_ref with will flags as its delivery bits; 0 means none
  friend bool operator==(const session_settings&, const session_settings&) = default;
};

/// What recovery needs to know from the table's owner.
struct session_rules {
  std::uint64_t now_ns = 0; ///< the time on the wall clock
  /// For sessions without an expiry of their own; 0 means that they stay.
  std::uint32_t expiry_s = 0;
  /// Returns true when the queue record of the number has a ring in that incarnation. An empty
  /// function means that none has.
  std::function<bool(std::uint32_t number, std::uint32_t incarnation)> has_queue = {};
  enum class will_state : std::uint8_t {
    unsent, ///< the will is held, and may be sent yet
    sent,   ///< the will has been published
    bad,    ///< there is no such message
  };
  /// Says what became of a will, and with `count` counts the reference of the session that names
  /// it.
  std::function<will_state(std::uint64_t will, bool count)> will = {};
};

/// The results of a recovery.
struct session_recovery {
  std::uint64_t used = 0;    ///< sessions that exist
  std::uint64_t voided = 0;  ///< records that were freed
  std::uint64_t expired = 0; ///< sessions among these that had expired
};

class session_table {
 public:
  static constexpr std::size_t segments_max = 16;
  /// `noun` is the name of a record in notes.
  session_table(media& medium, block_store& blocks, const char* noun) noexcept
      : media_(medium), blocks_(blocks), noun_(noun) {}
  /// Adds records on media that are durably zero or that recovery is about to read. Their numbers
  /// follow the present ones. One thread at a time may call it.
  [[nodiscard]] result<void> add_segment(const table_segment& segment);

  [[nodiscard]] std::uint32_t count() const noexcept {
    // [table-seen] Without it a thread could use a number whose segment it does not see yet.
    return count_.load(std::memory_order_acquire);
  }
  [[nodiscard]] session_word0 word0(std::uint32_t number) const noexcept;
  [[nodiscard]] std::uint32_t incarnation(std::uint32_t number) const noexcept {
    return word0(number).incarnation;
  }
  /// The identity, for the session's home or while no thread changes it.
  [[nodiscard]] std::string_view identity(std::uint32_t number) const noexcept;
  /// The identity as it was at some moment of the call. Any thread may call it.
  [[nodiscard]] std::string identity_seen(std::uint32_t number) const;
  [[nodiscard]] session_settings settings(std::uint32_t number) const noexcept;

  /// Gives a free record to an identity. Returns false when there are no blocks for a long
  /// identity.
  [[nodiscard]] bool create_start(std::uint32_t number, std::string_view identity,
                                  std::uint8_t flags, const session_settings& s) noexcept;
  /// Makes the settings of the next incarnation durable before it begins, so that no crash
  /// separates the will that they carry from its session. Drains once. end_start() with the same
  /// settings follows in this burst.
  void pass_settings(std::uint32_t number, const session_settings& s) noexcept;
  /// Begins the next incarnation, of the same identity (`keep`) or of none. Everything that carries
  /// the old incarnation becomes unreachable. The settings are those of the new session.
  void end_start(std::uint32_t number, bool keep, std::uint8_t flags,
                 const session_settings& s) noexcept;
  /// Gives the blocks of a long identity back, after the drain of an end_start() without `keep`.
  void end_finish(std::uint32_t number) noexcept;
  /// Changes the flags of a session in the same incarnation.
  void flags_start(std::uint32_t number, std::uint8_t flags) noexcept;
  /// Changes the settings of a session.
  void settings_start(std::uint32_t number, const session_settings& s) noexcept;
  /// Flushes both lines of the record.
  void flush_record(std::uint32_t number) noexcept;

  // --- recovery ---------------------------------------------------------------------------------

  void persist_as_read() noexcept;
  /// Says what is wrong with the record, or returns nullptr.
  [[nodiscard]] const char* examine(std::uint32_t number) const noexcept;
  /// The table's part of an open or a check, for one thread. It stands behind the block store's
  /// part, and before the parts that ask it for incarnations. It deletes records that are damaged,
  /// that have the identity of a lower number, that ended with their connection, or that expired.
  /// A session that ended or expired and whose will is not sent yet stays until its owner has sent
  /// it.
  /// It writes its results to `found`, if given, which must outlive the recovery.
  [[nodiscard]] recovery_part part(std::string name, session_rules rules,
                                   session_recovery* found = nullptr);
  /// Frees a valid record during a repair, in a later incarnation than its own that is not `taken`.
  /// Its blocks are not live any more.
  void void_at_open(std::uint32_t number, std::uint32_t taken, recovery_context& c) noexcept;
  /// The wills' part of an open or a check, which counts a reference for each will of a session.
  /// It stands behind all parts that mark blocks of their own.
  [[nodiscard]] recovery_part wills_part(std::string name, session_rules rules);
  [[nodiscard]] const char* noun() const noexcept { return noun_; }
  /// True when a valid session ends at an open because of its expiry.
  [[nodiscard]] bool expired(std::uint32_t number, const session_rules& rules) const noexcept;

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
  /// The numbers, in order, of valid records with the identity of a lower number.
  [[nodiscard]] std::vector<std::uint32_t> doubled() const;
  /// Settles the will of a record that stays: counts its reference, or clears it durably.
  void settle_will(std::uint32_t number, const session_rules& rules, recovery_context& c);
  /// Marks the blocks of a valid record's long identity as live. Returns false when they belong to
  /// something else or their memory is lost.
  [[nodiscard]] bool mark_live(std::uint32_t number) noexcept;
  /// Frees the record, in a later incarnation than its own that is not `taken`.
  void void_record(std::uint32_t number, std::uint32_t taken, recovery_context& c) noexcept;
  void repair(recovery_context& c, const session_rules& rules, session_recovery& found);
  /// The settings that were stored for that incarnation; without settings if there are none.
  [[nodiscard]] session_settings settings_in(std::uint32_t number,
                                             std::uint32_t incarnation) const noexcept;
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
