// SPDX-License-Identifier: BSD-3-Clause
/// Reads single records of a region to which an owner may be storing. Internal to lib/inspect.
///
/// Everything is copied before it is judged (media/line_copy.h). A judge sees a copy of the record,
/// follows what the copy names, and returns why the record is not valid, or nullptr.
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "base/hook.h"
#include "base/idle.h"
#include "inspect/inspect.h"
#include "map/map_media.h"
#include "media/line_copy.h"
#include "message/message.h"
#include "ring/ring_media.h"

namespace chainring::detail {

enum class reading : std::uint8_t {
  done,     ///< the record is valid; it may also be free
  damaged,  ///< it is not valid, and stayed the same
  changing, ///< it was different each time
};

/// One range after the other, in which records of one size are numbered.
class record_table {
 public:
  explicit record_table(std::uint64_t record_bytes) noexcept : record_bytes_(record_bytes) {}
  void add(const std::byte* at, std::uint64_t bytes) {
    ranges_.push_back({at, bytes / record_bytes_});
    count_ += ranges_.back().count;
  }
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// The record, or nullptr if there are not so many.
  [[nodiscard]] const std::byte* at(std::uint64_t n) const noexcept {
    for (const range& r : ranges_) {
      if (n < r.count) return r.at + n * record_bytes_;
      n -= r.count;
    }
    return nullptr;
  }

 private:
  struct range {
    const std::byte* at;
    std::uint64_t count;
  };
  std::uint64_t record_bytes_;
  std::uint64_t count_ = 0;
  std::vector<range> ranges_;
};

/// The entry of a used map cell.
struct cell_entry {
  bool used = false;
  std::vector<std::byte> key, value;
};

/// What a queue's record and its slots say.
struct queue_reading {
  struct entry {
    entry_look look;
    const ring_slot* slot;
  };
  queue_look look;
  std::vector<entry> entries; ///< oldest first
  std::vector<const ring_slot*> damaged;
};

/// What is needed to read a queue.
struct queue_place {
  const std::byte* record = nullptr;
  std::uint32_t number = 0;
  const record_table* messages = nullptr; ///< nullptr: the entries are values
  bool sealed = false;                    ///< the slots have slot_delivery's check
  std::uint32_t sealed_for = 0;           ///< for this number
};

/// The records of a named object. Those that its kind does not have are empty.
struct object_tables {
  record_table cells{sizeof(map_cell)};
  record_table streams{cacheline_size};
  record_table messages{cacheline_size};

  object_tables(const region& in, const object_look& object);
  [[nodiscard]] queue_place place(std::uint32_t stream, bool values) const noexcept;
};

class record_reader {
 public:
  explicit record_reader(const region& of) noexcept : region_(of), geometry_(of.geometry()) {}

  /// All ranges of a name, as one table.
  [[nodiscard]] record_table table(const char* name, std::uint64_t record_bytes) const;

  /// Reads a record until judge(copy, led) finds it valid. `led` is set by a judge that has
  /// followed a chain; then the record must still be the same behind that.
  template <class Record, class Judge>
  reading read(const std::byte* at, Record& copy, const char*& why, Judge&& judge) const {
    static_assert(sizeof(Record) % cacheline_size == 0);
    Record before{}, behind;
    unsigned same = 0;
    idle_policy wait;
    for (unsigned attempt = 0; attempt < attempts_max; ++attempt) {
      if (attempt != 0) wait.idle();
      const bool still = copy_lines(&copy, at, sizeof copy);
      hook_point("inspect.copied");
      bool led = false;
      why = judge(static_cast<const Record&>(copy), led);
      if (led) copy_lines(&behind, at, sizeof behind);
      const bool stayed = still && (!led || std::memcmp(&behind, &copy, sizeof copy) == 0);
      if (why == nullptr && (!led || stayed)) return reading::done;
      if (seeded_bug("inspect.read_once")) return reading::damaged;
      if (stayed && (attempt == 0 || std::memcmp(&before, &copy, sizeof copy) == 0)) ++same;
      before = copy;
    }
    return same == attempts_max ? reading::damaged : reading::changing;
  }

  reading cell(const std::byte* at, std::uint64_t number, cell_entry& out, const char*& why) const;
  /// `present` is false where word 0 says that there is no such message (any more).
  reading message(const record_table& messages, message_ref ref, bool held_counts,
                  message_look& out, bool& present, const char*& why) const;
  reading queue(const queue_place& of, queue_reading& out, const char*& why) const;
  /// The octets of a chain, or false if it does not lie in the region or has another length.
  [[nodiscard]] bool chain_bytes(std::uint64_t first, std::uint64_t blocks, std::uint64_t size,
                                 std::vector<std::byte>& out) const;
  /// True if the entry is still to be delivered from that slot.
  [[nodiscard]] bool still_there(const queue_place& of, const queue_reading::entry& e) const;

  static constexpr unsigned attempts_max = 6;

 private:
  [[nodiscard]] const std::byte* chain(std::uint64_t first, std::uint64_t blocks) const noexcept;
  [[nodiscard]] std::uint64_t blocks_for(std::uint64_t bytes) const noexcept {
    return (bytes + geometry_.block_size - 1) / geometry_.block_size;
  }
  [[nodiscard]] const char* judge_cell(const map_cell& c, std::uint64_t number, cell_entry& out,
                                       bool& led) const;
  [[nodiscard]] const char* judge_message(const message_descriptor& d, message_ref ref,
                                          message_look& out, bool& led) const;
  [[nodiscard]] const char* content(const message_descriptor& d, message_ref ref,
                                    std::uint64_t size, std::vector<std::byte>& out) const;
  [[nodiscard]] const char* judge_queue(const queue_record& q, std::uint32_t number) const;
  /// False: the slots belong to a later moment than the record.
  bool slots(const queue_record& q, const queue_place& of, queue_reading& out) const;

  const region& region_;
  const region_geometry& geometry_;
};

} // namespace chainring::detail
