// SPDX-License-Identifier: BSD-3-Clause
// Creating a message table, and adding descriptors to one in use.
//
// Tables in DRAM with an entry for each descriptor are allocated once, for descriptors_max, and
// take memory only where they are touched.
//
// Ordering labels:
//   [descriptors-counted]  attach() stores the count with release after the new segment is in the
//     list and before the pool has its numbers; count() loads it with acquire; pairs with
//     [descriptors-counted].
#include <string>

#include "message/message.h"
#include "message/message_state.h"

namespace chainring {

namespace {

constexpr std::uint32_t count_max = 1u << 31;

error refuse(const char* what, std::uint64_t value, const std::string& expected) {
  return {errc::invalid_argument,
          std::string(what) + " " + std::to_string(value) + ": expected " + expected};
}

} // namespace

message_table::message_table(media& medium, block_store& blocks, std::unique_ptr<state> s) noexcept
    : media_(medium), blocks_(blocks), state_(std::move(s)) {}

message_table::~message_table() = default;

result<std::unique_ptr<message_table>> message_table::create(media& medium, std::uint64_t offset,
                                                             std::uint32_t count,
                                                             block_store& blocks,
                                                             message_table_options options) {
  const message_segment only{offset, count};
  return create(medium, std::span(&only, 1), blocks, options);
}

result<std::unique_ptr<message_table>>
message_table::create(media& medium, std::span<const message_segment> segments, block_store& blocks,
                      message_table_options options) {
  if (&blocks.medium() != &medium)
    return error{errc::invalid_argument,
                 "block store: expected one over the same media as the table"};
  if (options.cache_descriptors_max > detail::index_pool::cache_limit)
    return refuse("cache_descriptors_max", options.cache_descriptors_max, "at most 256");
  if (segments.empty() || segments.size() > segments_max)
    return refuse("message table segments", segments.size(), "1 to 16");
  std::uint64_t all = 0;
  for (const message_segment& s : segments)
    all += s.count;
  const std::uint64_t most = options.descriptors_max == 0 ? all : options.descriptors_max;
  if (all == 0 || all > count_max)
    return refuse("message descriptors", all, "1 to " + std::to_string(count_max));
  if (most < all || most > count_max)
    return refuse("descriptors_max", most,
                  "the " + std::to_string(all) + " of the segments, to " +
                      std::to_string(count_max));

  auto s = std::make_unique<state>();
  s->descriptors_max = static_cast<std::uint32_t>(most);
  std::unique_ptr<message_table> table(new message_table(medium, blocks, std::move(s)));
  for (const message_segment& each : segments)
    if (auto attached = table->attach(each); !attached) return attached.error();
  state& made = *table->state_;
  if (!made.entries.make(most, true) || !made.scratches.make(max_thread_slots) ||
      !made.markers.make(max_thread_slots) || !made.readers.make() ||
      !made.pool.reserve(static_cast<std::uint32_t>(most), options.cache_descriptors_max))
    return error{errc::no_space, "message table of " + std::to_string(most) +
                                     " descriptors: there is no memory for it; ask for fewer"};
  made.pool.add_range(0, static_cast<std::uint32_t>(all));
  return table;
}

// Checks a segment and appends it to the list.
result<void> message_table::attach(const message_segment& s) {
  const std::uint32_t before = count();
  if (s.offset % cacheline_size != 0)
    return refuse("message table offset", s.offset, "a multiple of 64");
  if (s.count == 0 || s.count > count_max)
    return refuse("message descriptors", s.count, "1 to " + std::to_string(count_max));
  if (s.offset > media_.size() || s.count > (media_.size() - s.offset) / sizeof(message_descriptor))
    return refuse("message descriptors", s.count,
                  "what fits behind offset " + std::to_string(s.offset) + " of " + media_.path());
  const std::uint64_t most = state_->descriptors_max;
  if (s.count > most - before)
    return refuse("message descriptors", s.count,
                  "at most the " + std::to_string(most - before) + " left of descriptors_max " +
                      std::to_string(most));
  const std::uint32_t n = segments();
  if (n == segments_max) return refuse("message table segments", n + 1, "1 to 16");
  auto* table = reinterpret_cast<message_descriptor*>(media_.base() + s.offset);
  for (std::uint32_t i = 0; i < n; ++i)
    if (table < segments_[i].table + segments_[i].count && segments_[i].table < table + s.count)
      return refuse("message table offset", s.offset,
                    "a segment that does not overlap segment " + std::to_string(i));
  segments_[n] = {table, before, s.count};
  count_.store(before + s.count, std::memory_order_release); // [descriptors-counted]
  return {};
}

result<void> message_table::add_segment(std::uint64_t offset, std::uint32_t count) {
  const std::uint32_t before = this->count();
  if (offset % cacheline_size == 0 && offset <= media_.size() &&
      count <= (media_.size() - offset) / sizeof(message_descriptor)) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(media_.base() + offset);
    const std::uint64_t n = std::uint64_t{count} * sizeof(message_descriptor) / sizeof(*words);
    if (const auto* found = std::find_if(words, words + n, [](std::uint64_t w) { return w != 0; });
        found != words + n)
      return refuse("message table offset", offset,
                    "zeroed descriptors; the word at offset " +
                        std::to_string(offset + static_cast<std::uint64_t>(found - words) * 8) +
                        " is not zero");
  }
  if (auto attached = attach({offset, count}); !attached) return attached;
  state_->pool.add_range(before, before + count);
  return {};
}

} // namespace chainring
