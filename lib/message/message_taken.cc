// SPDX-License-Identifier: BSD-3-Clause
// Messages whose payload lies in blocks of the store already, where a port has received it. Their
// labels are those of message.cc: flush_staged() flushes the whole content, and so also what the
// port has stored round the media.
//
// The topic is written to the beginning of the first block. What lies between it and the payload,
// such as the headers of the packet, becomes properties that are all zero.
#include <algorithm>

#include "base/crc32c.h"
#include "base/hook.h"
#include "message/message.h"
#include "message/message_state.h"

namespace chainring {

namespace {

/// What a fill is made of. Few packets have longer headers.
constexpr std::byte zeros[256]{};

} // namespace

bool message_table::reserve_taken(const message_fields& fields, std::string_view topic,
                                  std::span<const std::byte> payload, content_source& from,
                                  message& out) noexcept {
  CHAINRING_ASSERT(fields.qos <= 2 && (fields.flags & ~message_flags_known) == 0 &&
                   fields.properties_size == 0 && fields.topic_size == topic.size() &&
                   fields.payload_size == payload.size() && !payload.empty());
  std::uint32_t index = 0, next = 0;
  if (!state_->pool.take(index, next)) return false;
  taken_content taken;
  if (!from.take(payload, fields.topic_size, taken)) {
    state_->pool.give(index);
    return false;
  }
  prefetch(next);
  out = message{};
  out.fields = fields;
  out.fields.properties_size = taken.offset - fields.topic_size;
  CHAINRING_ASSERT(blocks_.valid(taken.blocks) && taken.offset >= fields.topic_size &&
                   blocks_.blocks_for(out.fields.size()) == taken.blocks.blocks);
  out.chains = {taken.blocks.first, taken.blocks.blocks, false};
  out.ref = own(index, out.chains);
  std::byte* at = blocks_.address(taken.blocks);
  out.crc = media_.write_summed(at, topic.data(), topic.size(), 0);
  at += topic.size();
  for (std::uint32_t left = out.fields.properties_size; left != 0;) {
    const auto n = std::min<std::uint32_t>(left, sizeof zeros);
    out.crc = media_.write_summed(at, zeros, n, out.crc);
    at += n;
    left -= n;
  }
  out.crc = crc32c(out.crc, at, payload.size());
  out.to_write.blocks_ = &blocks_;
  return true;
}

staged_message message_table::as_staged(const message& m) const noexcept {
  const std::uint32_t payload_at = m.fields.topic_size + m.fields.properties_size;
  const std::uint32_t size = payload_at + m.fields.payload_size;
  return {m.ref, seeded_bug("chain.taken_not_flushed") ? payload_at : size, payload_at,
          blocks_.address({m.chains.first, m.chains.count})};
}

} // namespace chainring
