// SPDX-License-Identifier: BSD-3-Clause
/// Which members of a group have declined a message, so that it is dropped only once every member
/// that could take it was asked. Internal to the broker.
///
/// It remembers a fixed number of messages. A further one takes the place of the one that was first
/// declined longest ago, whose round begins anew if it is declined once more. A member rests for a
/// while after it has declined, so messages that all members decline are few. A ticket of a group's
/// queue never comes again, also after the group has ended and its number has another one.
///
/// **Thread-safety:** any thread may call note(). It takes one lock, and allocates nothing.
#pragma once
#include <array>
#include <cstdint>
#include <mutex>

#include "base/lazy_array.h"
#include "base/spin_lock.h"

namespace chainring {

class declined_messages {
 public:
  static constexpr std::uint32_t entries = 64;

  /// `members_max` is the most members that a group may have. Returns false when there is no
  /// memory.
  [[nodiscard]] bool make(std::uint32_t members_max) {
    words_ = members_max / 64 + 1;
    return members_.make(std::size_t{entries} * words_);
  }
  /// Notes that the member with that number has declined the entry of the group's queue. Returns
  /// whether there is another member, of the first `count`, that has not declined it and for which
  /// `can_take(number)` is true. Where there is none, the entry is forgotten. Sets `replaced` if
  /// the entry took the place of another one.
  template <class F>
  [[nodiscard]] bool note(std::uint32_t group, std::uint64_t ticket, std::uint32_t member,
                          std::uint32_t count, F&& can_take, bool& replaced) noexcept {
    const std::lock_guard guard(lock_);
    const std::uint32_t at = find(group, ticket, replaced);
    std::uint64_t* const declined = &members_[std::size_t{at} * words_];
    declined[member / 64] |= std::uint64_t{1} << member % 64;
    for (std::uint32_t i = 0; i < count; ++i)
      if ((declined[i / 64] >> i % 64 & 1) == 0 && can_take(i)) return true;
    known_[at].ticket = 0;
    return false;
  }

 private:
  struct entry {
    std::uint32_t group = 0;
    std::uint64_t ticket = 0; ///< 0: free
  };
  std::uint32_t find(std::uint32_t group, std::uint64_t ticket, bool& replaced) noexcept {
    for (std::uint32_t i = 0; i < entries; ++i)
      if (known_[i].ticket == ticket && known_[i].group == group) return i;
    const std::uint32_t at = next_;
    next_ = (next_ + 1) % entries;
    replaced = known_[at].ticket != 0;
    known_[at] = {group, ticket};
    for (std::uint32_t w = 0; w < words_; ++w)
      members_[std::size_t{at} * words_ + w] = 0;
    return at;
  }

  spin_lock lock_;
  std::array<entry, entries> known_{};
  std::uint32_t next_ = 0, words_ = 1;
  detail::lazy_array<std::uint64_t> members_; ///< a bit for each member of each entry's group
};

} // namespace chainring
