// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/broker: payloads that become messages where a port has received them. The
/// functions are in received.cc.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/statistic.h"
#include "block/content_source.h"
#include "broker/counters.h"
#include "message/message.h"

namespace chainring {

class received_content {
 public:
  received_content(message_table& messages, basic_broker_counters<statistic>& count) noexcept
      : messages_(messages), count_(count) {}

  /// Takes payloads of at least so many octets from there. A null source: none are taken.
  void use(content_source* from, std::size_t octets_min) noexcept {
    source_ = from;
    octets_min_ = from == nullptr ? SIZE_MAX : octets_min == 0 ? 1 : octets_min;
  }
  /// True for a payload that is long enough to be taken.
  [[nodiscard]] bool wants(std::size_t octets) const noexcept { return octets >= octets_min_; }
  /// For a payload that is wanted: as message_table::reserve_taken(), or the message that is held.
  /// Where it returns false the payload is copied.
  [[nodiscard]] bool reserve(const message_fields& fields, std::string_view topic,
                             std::span<const std::byte> payload, message& out) noexcept;
  /// For a payload that is wanted: does what message_table::stage_one() does, and takes the
  /// payload. Returns false where it cannot be taken; then reserve() is asked, and counts it.
  /// `fields` returns the message's fields.
  template <class Fields>
  [[nodiscard, gnu::noinline, gnu::cold]] bool stage_one(Fields fields, std::string_view topic,
                                                         std::span<const std::byte> payload,
                                                         staged_message& out) noexcept {
    return stage(fields(), topic, payload, out);
  }
  /// Gives up a message that has just been staged, and for which there was no place. Where its
  /// payload was taken, the message is held until release(): whoever decides about the publish once
  /// more still reads the payload there, and gets the message from reserve().
  [[gnu::noinline, gnu::cold]] void give_up(staged_message& m,
                                            std::span<const std::byte> payload) noexcept;
  /// Ends the burst.
  void release() noexcept {
    if (held_ != nullptr) [[unlikely]]
      drop_held();
  }

 private:
  [[nodiscard]] bool stage(const message_fields& fields, std::string_view topic,
                           std::span<const std::byte> payload, staged_message& out) noexcept;
  void drop_held() noexcept;

  content_source* source_ = nullptr;
  std::size_t octets_min_ = SIZE_MAX;
  message_table& messages_;
  basic_broker_counters<statistic>& count_;
  message taken_; ///< the last one of stage(), before it was staged; without chains: none
  const std::byte* held_ = nullptr; ///< the payload of taken_ while that is held
};

} // namespace chainring
