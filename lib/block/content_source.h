// SPDX-License-Identifier: BSD-3-Clause
/// An owner of blocks that gives them away together with what they hold: the data rooms of received
/// packets (mqttsn/taking_sink.h), whose payloads become messages without a copy
/// (message_table::reserve_taken()).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "block_store.h"

namespace chainring {

/// Blocks that have become the caller's. Every byte of them may be written, and they are released
/// like blocks that were allocated.
struct taken_content {
  chain blocks;
  std::uint32_t offset = 0; ///< bytes from the first block's beginning to the content
};

class content_source {
 public:
  virtual ~content_source() = default;
  /// Makes the blocks in which `content` lies the caller's, if they can be given away, there are no
  /// others behind the content, and `front` bytes or more lie in front of it. The content stays
  /// where it is. With the answer false nothing has changed. For the data path: it neither
  /// allocates memory nor throws.
  [[nodiscard]] virtual bool take(std::span<const std::byte> content, std::uint32_t front,
                                  taken_content& out) noexcept = 0;
};

} // namespace chainring
