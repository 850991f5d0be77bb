// SPDX-License-Identifier: BSD-3-Clause
/// A durable queue on a media, which is opened as in a region.
#pragma once
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <vector>

#include "region/recovery.h"
#include "ring/queue.h"

namespace chainring::test {

struct queue_layout {
  durable_queue_options options;
  std::uint64_t blocks = 512;
  std::uint32_t block_size = 64;
  std::uint32_t descriptors = 0; ///< 0: one for each entry
  [[nodiscard]] std::uint32_t count() const {
    return descriptors != 0 ? descriptors : options.entries;
  }
  [[nodiscard]] std::uint64_t descriptors_offset() const {
    return queue_table::bytes_for(options.streams);
  }
  [[nodiscard]] std::uint64_t blocks_offset() const {
    return align_up(descriptors_offset() + count() * sizeof(message_descriptor), 4096);
  }
  [[nodiscard]] std::uint64_t size() const { return blocks_offset() + blocks * block_size; }
};

struct opened_queue {
  std::unique_ptr<block_store> blocks;
  std::unique_ptr<durable_queue> q;
  recovery_report recovered;

  opened_queue(media& on, const queue_layout& l) {
    auto store = block_store::create(on, l.blocks_offset(), l.block_size, l.blocks);
    EXPECT_TRUE(store) << store.error().message;
    blocks = std::move(store).value();
    std::vector<message_segment> descriptors;
    if (!durable_queue::in_slots(l.options))
      descriptors.push_back({l.descriptors_offset(), l.count()});
    auto made = durable_queue::create(on, 0, descriptors, *blocks, l.options);
    EXPECT_TRUE(made) << made.error().message;
    q = std::move(made).value();
    recovery all;
    all.add(blocks->part());
    for (recovery_part& part : q->parts("queue"))
      all.add(std::move(part));
    auto report = all.run(on);
    EXPECT_TRUE(report) << report.error().message;
    recovered = std::move(report).value();
  }
  ~opened_queue() {
    q.reset(); // gives blocks back
  }
  durable_queue* operator->() const { return q.get(); }
  durable_queue& operator*() const { return *q; }
};

} // namespace chainring::test
