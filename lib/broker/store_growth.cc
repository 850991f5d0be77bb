// SPDX-License-Identifier: BSD-3-Clause
// Growth of tables while the region is open.
//
// Ordering labels:
//   [range-cleared]  A new segment is cleared and drained before the root that names it is
//     committed.
//   [range-named]  The root is durable before the table gives out a place in the segment. Queue
//     records are added before the sessions they are for, so that no session is without one.
#include <algorithm>

#include "base/hook.h"
#include "broker/store.h"
#include "ring/ring_media.h"

namespace chainring {

result<std::optional<std::uint64_t>> store::add_range(const char* name, std::uint64_t count,
                                                      std::uint64_t record_size) {
  static constexpr std::byte zeros[1024]{};
  const std::uint64_t size = count * record_size;
  const std::uint64_t blocks = blocks_->blocks_for(size);
  if (region_.roots().size() >= root_directory_entries ||
      blocks > blocks_->statistics().free_blocks / 2)
    return std::optional<std::uint64_t>();
  const auto offset = blocks_->reserve_run(static_cast<std::uint32_t>(blocks));
  if (!offset) return offset;
  std::byte* at = region_.at(*offset);
  for (std::uint64_t done = 0; done < size; done += sizeof zeros)
    media_.write(at + done, zeros, std::min<std::uint64_t>(size - done, sizeof zeros));
  // [range-cleared] Crash between: the blocks are free.
  if (!seeded_bug("store.range_not_drained")) persist_range(media_, at, size);
  hook_point("store.range.cleared");
  // [range-named] Crash between: the table has the segment at the next open, and nothing is in it.
  if (auto named = region_.add_range(name, store_area::version, *offset, size); !named) {
    blocks_->release_run(*offset, static_cast<std::uint32_t>(blocks));
    return named.error();
  }
  hook_point("store.range.named");
  return offset;
}

result<std::uint32_t> store::grow_table(table which) {
  const auto count = [&]() -> std::uint32_t {
    switch (which) {
    case table::sessions:
      return sessions_->count();
    case table::groups:
      return groups_->count();
    case table::subscriptions:
      return static_cast<std::uint32_t>(subscriptions_->capacity());
    case table::messages:
      return messages_->count();
    case table::retained:
      return static_cast<std::uint32_t>(retained_->capacity());
    }
    return 0;
  }();
  const std::uint32_t limit = which == table::sessions        ? sessions_limit_
                              : which == table::groups        ? groups_limit_
                              : which == table::subscriptions ? subscriptions_limit_
                              : which == table::retained      ? retained_limit_
                                                              : messages_limit_;
  const std::uint32_t more = std::min(count, limit - count);
  if (more == 0) return 0u;
  const char* name = store_area::messages;
  std::uint64_t record_size = sizeof(message_descriptor);
  if (which == table::subscriptions || which == table::retained) {
    name = which == table::retained ? store_area::retained : store_area::subscriptions;
    record_size = sizeof(map_cell);
  } else if (which == table::sessions || which == table::groups) {
    const bool sessions = which == table::sessions;
    name = sessions ? store_area::sessions : store_area::groups;
    record_size = sizeof(session_record);
    queue_table& of = sessions ? *queues_ : *group_queues_;
    // Queue records come first; a growth that a crash cut off may have left some.
    if (const std::uint32_t have = of.count(); have < count + more) {
      auto queues = add_range(sessions ? store_area::queues : store_area::group_queues,
                              count + more - have, sizeof(queue_record));
      if (!queues) return queues.error();
      if (!*queues) return 0u;
      if (auto added = of.add_segment({**queues, count + more - have}); !added)
        return added.error();
    }
  }
  auto offset = add_range(name, more, record_size);
  if (!offset) return offset.error();
  if (!*offset) return 0u;
  auto added = which == table::sessions        ? sessions_->add_segment({**offset, more})
               : which == table::groups        ? groups_->add_segment({**offset, more})
               : which == table::subscriptions ? subscriptions_->add_segment(**offset, more)
               : which == table::retained      ? retained_->add_segment(**offset, more)
                                               : messages_->add_segment(**offset, more);
  if (!added) return added.error();
  return more;
}

bool store::nearly_full(table which) const noexcept {
  switch (which) {
  case table::subscriptions:
    return subscriptions_->capacity() - subscriptions_->len() <
           (subscriptions_->capacity() + 7) / 8;
  case table::messages:
    return messages_->statistics().free < (messages_->count() + 7u) / 8;
  case table::retained:
    return retained_->capacity() - retained_->len() < (retained_->capacity() + 7) / 8;
  case table::sessions:
  case table::groups:
    break;
  }
  return false;
}

} // namespace chainring
