// SPDX-License-Identifier: BSD-3-Clause
/// The QoS 2 identifiers of publishers that are not closed yet, by session and packet id. Internal
/// to the broker.
///
/// On media an identifier is one bit of its message's descriptor, so it opens with the message's
/// one commit. This table in DRAM finds it: each worker has one for its sessions. The entries of a
/// session form a short list, whose length the configuration limits.
///
/// Thread-safety: a table belongs to one worker.
#pragma once
#include <cstdint>
#include <vector>

#include "message/message.h"

namespace chainring {

/// The identifiers of one session.
struct identifier_list {
  static constexpr std::uint32_t none = 0xffffffff;
  std::uint32_t first = none;
  std::uint16_t count = 0;
};

/// An identifier that recovery found open.
struct open_identifier {
  std::uint32_t session = 0;
  std::uint16_t packet_id = 0;
  message_ref message;
};

class identifier_table {
 public:
  static constexpr std::uint32_t none = identifier_list::none;

  struct entry {
    message_ref message;
    std::uint16_t packet_id = 0;
    /// The message is published, durably, and the entry has a reference to it. Otherwise the
    /// message is staged or set aside, and its publish has the reference.
    bool open = false;
    std::uint32_t next = none;
  };

  explicit identifier_table(std::uint32_t entries_max) : entries_(entries_max) {
    free_.reserve(entries_max);
    for (std::uint32_t i = entries_max; i-- > 0;)
      free_.push_back(i);
  }

  /// Returns the entry of that packet id, or nullptr.
  [[nodiscard]] entry* find(const identifier_list& of, std::uint16_t packet_id) noexcept {
    for (std::uint32_t i = of.first; i != none; i = entries_[i].next)
      if (entries_[i].packet_id == packet_id) return &entries_[i];
    return nullptr;
  }
  /// Adds an entry for a packet id that has none. Returns false when the table is full.
  [[nodiscard]] bool add(identifier_list& to, std::uint16_t packet_id, message_ref message,
                         bool open) noexcept {
    if (free_.empty()) return false;
    const std::uint32_t i = free_.back();
    free_.pop_back();
    entries_[i] = {message, packet_id, open, to.first};
    to.first = i;
    ++to.count;
    return true;
  }
  [[nodiscard]] bool full() const noexcept { return free_.empty(); }
  void remove(identifier_list& from, std::uint16_t packet_id) noexcept {
    for (std::uint32_t* link = &from.first; *link != none; link = &entries_[*link].next) {
      const std::uint32_t i = *link;
      if (entries_[i].packet_id != packet_id) continue;
      *link = entries_[i].next;
      free_.push_back(i);
      --from.count;
      return;
    }
  }
  /// Empties a list that was taken from a session, and calls fn(entry) for each entry.
  template <class F> void clear(identifier_list& list, F&& fn) noexcept {
    for (std::uint32_t i = list.first; i != none; i = entries_[i].next) {
      fn(static_cast<const entry&>(entries_[i]));
      free_.push_back(i);
    }
    list = {};
  }
  /// Makes room for `n` more entries, for what recovery found. Not for the data path.
  void reserve_more(std::uint32_t n) {
    const auto from = static_cast<std::uint32_t>(entries_.size());
    entries_.resize(from + n);
    free_.reserve(entries_.size());
    for (std::uint32_t i = from + n; i-- > from;)
      free_.push_back(i);
  }

 private:
  std::vector<entry> entries_;
  std::vector<std::uint32_t> free_;
};

} // namespace chainring
