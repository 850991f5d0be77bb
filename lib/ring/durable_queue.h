// SPDX-License-Identifier: BSD-3-Clause
/// A durable queue of byte strings, or of values of up to 8 bytes, with one set of calls: each is a
/// whole burst with its drains. It is a queue_table of its own, and a message_table where it needs
/// one.
///
/// **When to use:** work that must survive a crash and is handed from some threads to others, or to
/// a later process. **When not:** queues that share the drains of a burst, as sessions of the
/// broker do (ring.h); threads of one process that need nothing durable (`rte_ring`).
///
/// **Values or messages.** A queue with one stream whose entries have at most 8 bytes keeps them in
/// its slots, and a burst of them takes one drain. Any other keeps each entry as a message, which
/// takes a second drain and blocks for its bytes. All entries of a stream have the same length, or
/// any.
///
/// **Streams.** Each entry is put into every stream of the queue at one commit, and each stream has
/// consumers of its own. So one publish serves several readers, each at its own pace.
///
/// **Durability:** an enqueue call returns when its entries are drained, and no consumer sees them
/// before. After a crash during the call some of its entries may be there, also those of a bulk. An
/// entry is handed out again, after a crash too, until release() has returned for it. In class
/// `file`, drained means ordered: what must not be lost when the machine goes down waits for
/// media::mark().
///
/// **Operation ids** (base/operation_id.h): a queue that is made with `clients` takes enqueues with
/// an operation_id. Each takes effect once however often it is repeated, and resolve() says whether
/// it did, after a crash too, also when the entry was released long ago. The id is part of the
/// entry's message, so it costs no drain and no flush; such a queue keeps its entries as messages,
/// also short ones. The last message of each client stays on media until the next one of that
/// client is durable, so there are as many descriptors, and blocks for as many entries, as
/// `entries` and `clients` together.
///
/// **Thread-safety:** any thread may enqueue. An enqueue with an id waits for that of another
/// thread with the same client. In mode mpsc one thread at a time consumes a stream; in mode mpmc
/// any thread may. A consumer may hold as many entries as the queue has.
///
/// **Order and room:** entries are handed out in the order of their tickets, those that were given
/// back first. Room comes back from the oldest entry on: in mode mpmc an entry that is taken and
/// not released keeps the room of all that were released behind it.
///
/// **Errors:** statuses. `failed` means that the media takes no more writes (media::failed()).
/// **Complexity:** O(entries of the burst). No call allocates memory on the heap, except the first
/// of a stream and those that enlarge a ring.
///
///     auto q = durable_queue::create(media, records, {}, blocks,
///                                    {.entry_bytes = 8, .entries = 100});
///     ...its parts recover, or start() where the records are zero...
///     (*q)->enqueue(bytes_of(job));
///     durable_queue::taken t[32];
///     for (std::uint32_t i = 0, n = (*q)->take(0, t); i < n; ++i) {
///       (*q)->copy(t[i], buffer);                // and do the work
///     }
///     (*q)->release(0, {t, n});                  // one drain for all of them
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../base/error.h"
#include "../base/operation_id.h"
#include "../block/block_store.h"
#include "../media/media.h"
#include "../media/recovery_part.h"
#include "../message/message.h"
#include "consumer.h"
#include "ring.h"

namespace chainring {

enum class queue_status : std::uint8_t {
  done,
  full,     ///< there is no room for the entry, or no block for its bytes
  too_long, ///< the entry has another length than the queue takes, or more than a drain covers
  failed,   ///< the media has failed; it takes no more writes
  repeated, ///< the operation took effect before, or a later one of its client did
};
[[nodiscard]] const char* to_string(queue_status s) noexcept;

namespace detail {
class client_table;
}

struct durable_queue_options {
  /// Bytes of each entry; 0: any number up to entry_bytes_max.
  std::uint32_t entry_bytes = 0;
  /// The most in each stream at one time, 1 to 2^24 - 1. Bursts of several producers that come at
  /// one moment may exceed it by what they hold.
  std::uint32_t entries = 1024;
  std::uint32_t streams = 1; ///< 1 to 64
  queue_mode mode = queue_mode::mpsc;
  /// Entries for which a stream's first ring has room, at least 2 and the same at each open. A ring
  /// that is full is followed by a larger one.
  std::uint32_t first_entries = 255;
  /// The most clients whose enqueues have ids, up to 2^20. 0: none has, at any open.
  std::uint32_t clients = 0;
};

class durable_queue {
 public:
  static constexpr std::uint32_t entry_bytes_max = 16u << 20, streams_max = 64,
                                 clients_max = 1u << 20;
  using byte_span = std::span<const std::byte>;

  /// An entry that take() has handed out.
  struct taken {
    leased entry;
    std::uint32_t bytes = 0; ///< its length
    /// True when it may have been handed out before: it was given back, or the process ended.
    [[nodiscard]] bool again() const noexcept { return entry.redelivered(); }
  };

  /// True if such a queue keeps its entries in its slots and needs no descriptors.
  [[nodiscard]] static constexpr bool in_slots(const durable_queue_options& o) noexcept {
    return o.streams == 1 && o.entry_bytes != 0 && o.entry_bytes <= sizeof(std::uint64_t) &&
           o.clients == 0;
  }
  /// Says which of the options is wrong, as create() does.
  [[nodiscard]] static result<void> acceptable(const durable_queue_options& options);
  /// The most descriptors to which add_descriptors() can bring a queue that was made with so many.
  [[nodiscard]] static std::uint64_t descriptors_max(const durable_queue_options& options,
                                                     std::uint64_t made_with) noexcept;
  /// Makes a queue over its records (queue_table::bytes_for(streams) bytes at `records`) and over
  /// its descriptors, which are empty where it keeps its entries in its slots. Both ranges are zero
  /// when they are made. `blocks` and the media outlive the queue. Errors: invalid_argument,
  /// no_space.
  [[nodiscard]] static result<std::unique_ptr<durable_queue>>
  create(media& medium, std::uint64_t records, std::span<const message_segment> descriptors,
         block_store& blocks, const durable_queue_options& options);
  ~durable_queue();
  durable_queue(const durable_queue&) = delete;
  durable_queue& operator=(const durable_queue&) = delete;

  // --- producers --------------------------------------------------------------------------------

  /// Puts an entry into every stream. Returns done, full, too_long or failed.
  queue_status enqueue(byte_span entry) noexcept { return enqueue_bulk({&entry, 1}); }
  /// Puts as many of the first of `entries` into every stream as there is room for, and returns how
  /// many. It stops before one that is too long. A burst of more than burst_max takes its drains
  /// for each burst_max entries.
  std::uint32_t enqueue_burst(std::span<const byte_span> entries) noexcept;
  /// Puts all of at most burst_max entries into every stream, or none of them. Returns done, full,
  /// too_long or failed.
  queue_status enqueue_bulk(std::span<const byte_span> entries) noexcept;
  static constexpr std::uint32_t burst_max = 64;

  /// Puts an entry into every stream as the operation of that id. Returns done, repeated, full
  /// (also where `clients` other clients have made operations), too_long or failed.
  queue_status enqueue(operation_id id, byte_span entry) noexcept;
  /// The same for each entry with its id, in order. Returns how many are done; it stops before one
  /// that is not. The entries up to the second one of a client share the drains of a burst.
  std::uint32_t enqueue_burst(std::span<const operation_id> ids,
                              std::span<const byte_span> entries) noexcept;
  /// Says whether the operation took effect, which it did durably. Any thread may ask.
  [[nodiscard]] operation_outcome resolve(operation_id id) const noexcept {
    return outcome_of(id, last_operation(id.client));
  }
  /// The sequence number of the client's last operation that took effect; 0: none did.
  [[nodiscard]] std::uint64_t last_operation(std::uint32_t client) const noexcept;

  // --- consumers --------------------------------------------------------------------------------

  /// Hands out the next entries of a stream, and returns how many. They are the caller's until
  /// release() or give_back().
  [[nodiscard]] std::uint32_t take(std::uint32_t stream, std::span<taken> out) noexcept;
  /// Copies the bytes of an entry that the caller has taken. Returns how many it copied: all, or as
  /// many as `to` has room for; 0 where the entry turns out to be damaged, which damaged() counts.
  std::size_t copy(const taken& entry, std::span<std::byte> to) const noexcept;
  /// Ends entries that take() handed out. They are out of the queue, durably, when it returns done.
  /// An entry that was given back meanwhile, or whose queue has failed, is left alone.
  queue_status release(std::uint32_t stream, std::span<const taken> entries) noexcept;
  /// Gives entries back: the next take() hands them out again.
  void give_back(std::uint32_t stream, std::span<const taken> entries) noexcept;

  // --- the queue --------------------------------------------------------------------------------

  /// The entries in a stream, also those that are taken and those that wait for older ones.
  [[nodiscard]] std::uint32_t depth(std::uint32_t stream) const noexcept;
  /// The most entries in a stream.
  [[nodiscard]] std::uint32_t capacity() const noexcept { return options_.entries; }
  [[nodiscard]] std::uint32_t streams() const noexcept { return options_.streams; }
  [[nodiscard]] std::uint32_t entry_bytes() const noexcept { return options_.entry_bytes; }
  /// The most clients whose enqueues have ids; 0: none has.
  [[nodiscard]] std::uint32_t clients() const noexcept { return options_.clients; }
  [[nodiscard]] queue_statistics statistics(std::uint32_t stream) const noexcept {
    return queues_->statistics(stream);
  }
  [[nodiscard]] media& medium() const noexcept { return medium_; }
  /// The table that holds its entries, for a message_compactor. Null: they lie in its slots.
  [[nodiscard]] message_table* messages() noexcept { return messages_.get(); }
  /// How often copy() found an entry damaged.
  [[nodiscard]] std::uint64_t damaged() const noexcept;

  /// Serves at once. All records and descriptors are zero.
  [[nodiscard]] result<void> start();
  /// Its recovery, in this order, behind the part of the block store.
  [[nodiscard]] std::vector<recovery_part> parts(const std::string& name);
  /// Adds descriptors to a queue that has some, where options.entries are more than it has. They
  /// are zero, durably, and are given to the next create().
  [[nodiscard]] result<void> add_descriptors(const message_segment& more);

 private:
  struct identified; // an operation with the place of its client
  durable_queue(media& medium, const durable_queue_options& options) noexcept;
  [[nodiscard]] bool accepts(byte_span entry) const noexcept;
  [[nodiscard]] std::uint32_t put(std::span<const byte_span> entries, bool all,
                                  std::span<const identified> ids = {}) noexcept;
  [[nodiscard]] std::uint32_t put_operations(std::span<const operation_id> ids,
                                             std::span<const byte_span> entries,
                                             queue_status& stopped) noexcept;
  void take_effect(const identified& id, message_ref message) noexcept;
  [[nodiscard]] recovery_part clients_part(const std::string& name);
  [[nodiscard]] std::uint32_t put_values(std::span<const byte_span> entries, bool all) noexcept;
  [[nodiscard]] std::uint32_t put_messages(std::span<const byte_span> entries, bool all,
                                           std::span<const identified> ids) noexcept;
  [[nodiscard]] std::uint32_t room(std::uint32_t stream, std::uint32_t n) noexcept;
  [[nodiscard]] bool has_ring(std::uint32_t stream) noexcept;
  [[nodiscard]] bool place(std::uint32_t stream, std::span<const slot_ref> refs,
                           placement& out) noexcept;

  media& medium_;
  durable_queue_options options_;
  bool serves_ = false; ///< its recovery has ended, or it was started
  mutable std::atomic<std::uint64_t> damaged_{0};
  std::unique_ptr<message_table> messages_; ///< null: entries lie in the slots
  std::unique_ptr<queue_table> queues_;     ///< one queue for each stream
  std::unique_ptr<detail::client_table> clients_; ///< null: enqueues have no ids
};

} // namespace chainring
