// SPDX-License-Identifier: BSD-3-Clause
/// A message table and its block store in one media: descriptors first, blocks behind them.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "message/message.h"

namespace chainring::test {

struct table_layout {
  std::uint32_t descriptors = 16;
  std::uint32_t block_size = 64;
  std::uint32_t blocks = 256;
  std::uint32_t descriptors_max = 0; ///< 0 if the table does not grow
  [[nodiscard]] std::uint64_t size() const {
    return std::uint64_t{64} * descriptors + std::uint64_t{block_size} * blocks;
  }
};

struct table_on_media {
  media& m;
  std::unique_ptr<block_store> store;
  std::vector<message_segment> segments;
  std::unique_ptr<message_table> table;

  /// Everything is free. Without `caches` it is predictable which descriptor and blocks come next.
  /// `more` are the segments behind the first.
  explicit table_on_media(media& medium, const table_layout& l = {}, bool caches = false,
                          const std::vector<message_segment>& more = {})
      : m(medium),
        store(block_store::create(medium, std::uint64_t{64} * l.descriptors, l.block_size, l.blocks,
                                  {.cache_runs_max = caches ? 64u : 0u})
                  .value()),
        segments(all(l, more)),
        table(message_table::create(medium, segments, *store,
                                    {.cache_descriptors_max = caches ? 64u : 0u,
                                     .descriptors_max = l.descriptors_max})
                  .value()) {}

  message_table* operator->() const { return table.get(); }
  [[nodiscard]] message_descriptor& descriptor(std::uint32_t index) const {
    for (const message_segment& s : segments) {
      if (index < s.count) return reinterpret_cast<message_descriptor*>(m.base() + s.offset)[index];
      index -= s.count;
    }
    std::abort();
  }
  [[nodiscard]] static std::vector<message_segment> all(const table_layout& l,
                                                        const std::vector<message_segment>& more) {
    std::vector<message_segment> list{{0, l.descriptors}};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  /// Adds a segment, as its owner does once the segment is drained and listed.
  void add_segment(const message_segment& s) {
    ASSERT_TRUE(table->add_segment(s.offset, s.count).ok());
    segments.push_back(s);
  }
  /// Makes the seal right for whatever word 1 says, so that only the content shows the damage.
  void reseal(std::uint32_t index) const {
    message_descriptor& d = descriptor(index);
    const auto word1 = message_word1::unpack(d.extent);
    std::uint32_t list_crc = 0;
    const std::uint64_t bytes = std::uint64_t{word1.count} * sizeof(message_extent);
    const chain list{word1.first, static_cast<std::uint32_t>(store->blocks_for(bytes))};
    if (word1.list && store->valid(list)) list_crc = crc32c(0, store->address(list), bytes);
    d.seals = message_seal(d.extent, list_crc, index, message_word0::unpack(d.state).generation);
  }
  void begin_recovery(bool several_threads = false) const {
    store->begin_recovery(several_threads);
    table->begin_recovery(several_threads);
  }
  void finish_recovery() const {
    table->finish_recovery();
    store->finish_recovery();
  }
};

/// The bytes of message `id`. Any two ids differ in every word.
inline std::vector<std::byte> content(std::uint64_t id, std::uint64_t size) {
  std::vector<std::byte> bytes(size);
  for (std::uint64_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(id * 37 + i / 8 * 5 + i % 8 + 1);
  return bytes;
}

inline message_fields fields(std::uint64_t id, std::uint32_t payload, std::uint16_t topic = 5,
                             std::uint16_t properties = 3) {
  message_fields f;
  f.payload_size = payload;
  f.topic_size = topic;
  f.properties_size = properties;
  f.qos = static_cast<std::uint8_t>(1 + id % 2);
  f.flags = id % 2 == 0 ? message_flag_retain : 0;
  f.packet_id = static_cast<std::uint16_t>(id);
  f.publisher_session = static_cast<std::uint32_t>(1000 + id);
  f.publisher_incarnation = static_cast<std::uint32_t>(7 + id);
  f.expires_ns = id * 1'000'000'007;
  f.published_ns = id * 998'244'353;
  return f;
}

/// Does everything up to and including stage(). Returns false on congestion.
inline bool stage_message(message_table& table, std::uint64_t id, const message_fields& f,
                          message& m) {
  if (!table.reserve(f, m)) return false;
  const auto bytes = content(id, f.size());
  table.copy_in(m, bytes.data(), bytes.size());
  table.stage(m);
  return true;
}

/// Publishes one message, with both drains.
inline bool publish_message(const table_on_media& t, std::uint64_t id, const message_fields& f,
                            message& m) {
  if (!stage_message(*t.table, id, f, m)) return false;
  t->flush_staged(m);
  t.m.drain();
  t->publish(m);
  t->flush_published(m);
  t.m.drain();
  return true;
}

/// Says how the message differs from `id` with fields `f`; empty if it does not.
inline std::string differs(const message_table& table, message_ref ref, std::uint64_t id,
                           const message_fields& f) {
  message_view v;
  if (const auto s = table.view(ref, v); s != message_status::ok) return to_string(s);
  if (!(v.fields == f)) return "fields differ";
  if (!table.verify(v)) return "CRC differs";
  std::vector<std::byte> all(f.size());
  message_cursor at = v.all;
  if (at.copy_out(all.data(), all.size() + 10) != all.size()) return "size differs";
  return all == content(id, f.size()) ? "" : "content differs";
}

/// A table on ordinary memory, with the steps that the unit tests repeat.
struct fixture {
  std::unique_ptr<media> m;
  table_on_media t;
  explicit fixture(const table_layout& l = {}, bool caches = false)
      : m(memory_media(l.size(), durability_class::process)), t(*m, l, caches) {}
  message_table* operator->() const { return t.table.get(); }

  /// Leaves only free runs of `length` blocks.
  void fragment(std::uint32_t length) const {
    const auto count = static_cast<std::uint32_t>(t.store->block_count());
    chain all;
    ASSERT_TRUE(t.store->allocate_contiguous(count, all));
    for (std::uint32_t b = 0; b + length < count; b += length + 1)
      t.store->release({b, length});
  }
  message published(std::uint64_t id, const message_fields& f) const {
    message msg;
    EXPECT_TRUE(publish_message(t, id, f, msg));
    return msg;
  }
};

} // namespace chainring::test
