// SPDX-License-Identifier: BSD-3-Clause
/// Queues as named objects: durable<queue<T>> of objects.h.
///
///     auto opened = objects::open_or_create("/var/tmp/jobs", durable<queue<job>>{"jobs", 1000});
///     auto jobs = (*opened)->get<queue<job>>("jobs").value();
///
/// A queue has room for as many entries in each of its streams as the program asks for at each
/// open: to ask for more is to have more, and objects::grow() is not for queues. Its mode may be
/// another at each open too. The number of streams, and whether enqueues have ids, is part of its
/// type; the number of clients may be another at each open. For a std::string the
/// region keeps 256 bytes for each entry.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../ring/durable_queue.h"
#include "../ring/queue.h"
#include "objects.h"

namespace chainring {

/// A queue that a program wants.
template <class T> struct durable<queue<T>> {
  std::string name;                   ///< 1 to 24 characters, none of them #
  std::uint64_t entries;              ///< in each stream, 1 to 2^24 - 1
  std::uint32_t version = 1;          ///< of the content
  queue_mode mode = queue_mode::mpsc; ///< consumers of each stream: one thread, or several
  std::uint32_t streams = 1;          ///< 1 to 64
  std::uint32_t clients = 0;          ///< whose enqueues have ids (base/operation_id.h); 0: none
};

namespace detail {

/// A durable_queue as a named object.
class queue_object final : public named_object {
 public:
  queue_object(std::string name, std::uint32_t version, const durable_queue_options& options);
  [[nodiscard]] static std::string type_of(std::uint32_t entry_bytes, std::uint32_t streams,
                                           bool with_ids = false);
  [[nodiscard]] std::uint64_t range_bytes(std::uint64_t entries) const noexcept override;
  [[nodiscard]] std::uint64_t content_blocks(std::uint64_t entries,
                                             std::uint32_t block_size) const noexcept override;
  [[nodiscard]] durable_queue& bytes() noexcept { return *queue_; }
  [[nodiscard]] result<void> acceptable() const override {
    return durable_queue::acceptable(options_);
  }
  [[nodiscard]] message_table* messages() noexcept override {
    return queue_ == nullptr ? nullptr : queue_->messages();
  }

 private:
  [[nodiscard]] result<void> make(media& medium, block_store& blocks, std::span<const range> ranges,
                                  bool fresh) override;
  [[nodiscard]] std::vector<recovery_part> parts() override;
  [[nodiscard]] result<void> add(const range& more) override;
  [[nodiscard]] std::uint64_t room() const noexcept override;
  [[nodiscard]] std::uint64_t missing() const noexcept override;
  [[nodiscard]] std::uint64_t room_max() const noexcept override;
  [[nodiscard]] bool recovers_late() const noexcept override { return true; }
  [[nodiscard]] bool grows_in_use() const noexcept override { return false; }
  /// The records of the streams, which stand before the descriptors in the first range.
  [[nodiscard]] std::uint64_t record_bytes() const noexcept;
  /// The entries that are kept beside those in the streams, where a range is the first.
  [[nodiscard]] std::uint64_t kept() const noexcept {
    return queue_ == nullptr ? options_.clients : 0;
  }

  durable_queue_options options_;
  std::uint64_t descriptors_ = 0, descriptors_at_open_ = 0;
  std::unique_ptr<durable_queue> queue_;
};

} // namespace detail

template <class T> struct object_of<queue<T>> {
  static std::unique_ptr<named_object> make(const durable<queue<T>>& wanted) {
    return std::make_unique<detail::queue_object>(
        wanted.name, wanted.version,
        durable_queue_options{
            .entry_bytes = static_cast<std::uint32_t>(detail::stored_as_bytes<T>::fixed),
            .entries =
                static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted.entries, UINT32_MAX)),
            .streams = wanted.streams,
            .mode = wanted.mode,
            .clients = wanted.clients});
  }
  /// Whether the words of a type are those of such a queue, with whatever number of streams,
  /// with ids or without.
  static bool is(std::string_view type) {
    const std::string one = detail::queue_object::type_of(detail::stored_as_bytes<T>::fixed, 1);
    return type == one || type.starts_with(one + ", ");
  }
  static std::string type() {
    return detail::queue_object::type_of(detail::stored_as_bytes<T>::fixed, 1);
  }
  static queue<T> view(named_object& o) noexcept {
    return queue<T>(static_cast<detail::queue_object&>(o).bytes());
  }
};

} // namespace chainring
