// SPDX-License-Identifier: BSD-3-Clause
#include "objects/object_queue.h"

#include <algorithm>

#include "message/message_media.h"

namespace chainring::detail {

namespace {
constexpr std::uint64_t string_bytes = 256; ///< that a string is taken to have
/// Bytes of a stream's rings: 16 for each slot, with up to twice as many slots as entries, and two
/// smaller rings that come before the largest one.
constexpr std::uint64_t ring_bytes_least = 16u << 10, ring_bytes_each = 48;
} // namespace

queue_object::queue_object(std::string name, std::uint32_t version,
                           const durable_queue_options& options)
    : named_object(std::move(name),
                   type_of(options.entry_bytes, options.streams, options.clients != 0),
                   options.entries, version),
      options_(options) {}

std::string queue_object::type_of(std::uint32_t entry_bytes, std::uint32_t streams, bool with_ids) {
  return "queue of " + bytes_in_words(entry_bytes) +
         (streams == 1 ? "" : ", " + std::to_string(streams) + " streams") +
         (with_ids ? ", with ids" : "");
}

std::uint64_t queue_object::record_bytes() const noexcept {
  return queue_table::bytes_for(options_.streams);
}

std::uint64_t queue_object::range_bytes(std::uint64_t entries) const noexcept {
  const std::uint64_t descriptors =
      durable_queue::in_slots(options_) ? 0 : (entries + kept()) * sizeof(message_descriptor);
  return queue_ == nullptr ? record_bytes() + descriptors : descriptors;
}

std::uint64_t queue_object::content_blocks(std::uint64_t entries,
                                           std::uint32_t block_size) const noexcept {
  const std::uint64_t each = options_.entry_bytes == 0 ? string_bytes : options_.entry_bytes;
  const std::uint64_t contents = durable_queue::in_slots(options_)
                                     ? 0
                                     : (entries + kept()) * ((each + block_size - 1) / block_size);
  return contents + options_.streams * (ring_bytes_least + entries * ring_bytes_each) / block_size;
}

result<void> queue_object::make(media& medium, block_store& blocks, std::span<const range> ranges,
                                bool fresh) {
  std::vector<message_segment> descriptors;
  if (!durable_queue::in_slots(options_))
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      const std::uint64_t before = i == 0 ? record_bytes() : 0;
      descriptors.push_back(
          {ranges[i].offset + before,
           static_cast<std::uint32_t>((ranges[i].bytes - before) / sizeof(message_descriptor))});
      descriptors_ += descriptors.back().count;
    }
  descriptors_at_open_ = descriptors_;
  auto made = durable_queue::create(medium, ranges[0].offset, descriptors, blocks, options_);
  if (!made) return made.error();
  queue_ = std::move(made).value();
  return fresh ? queue_->start() : result<void>{};
}

std::vector<recovery_part> queue_object::parts() {
  return queue_->parts("queue '" + name() + "'");
}

std::uint64_t queue_object::room() const noexcept {
  if (durable_queue::in_slots(options_)) return options_.entries;
  return descriptors_ - std::min<std::uint64_t>(descriptors_, options_.clients);
}

// Clients that are added need messages as entries do.
std::uint64_t queue_object::missing() const noexcept {
  if (durable_queue::in_slots(options_)) return 0;
  const std::uint64_t wanted = std::uint64_t{options_.entries} + options_.clients;
  return wanted - std::min(wanted, descriptors_);
}

std::uint64_t queue_object::room_max() const noexcept {
  return durable_queue::in_slots(options_)
             ? options_.entries
             : durable_queue::descriptors_max(options_, descriptors_at_open_) - options_.clients;
}

result<void> queue_object::add(const range& more) {
  const auto count = static_cast<std::uint32_t>(more.bytes / sizeof(message_descriptor));
  descriptors_ += count;
  return queue_->add_descriptors({more.offset, count});
}

} // namespace chainring::detail
