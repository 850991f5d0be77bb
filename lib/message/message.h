// SPDX-License-Identifier: BSD-3-Clause
/// Message table: durable messages, named by index and generation, made durable by one commit word.
///
/// A message is a 64-byte descriptor in a table and the chains of a block store that hold its
/// topic, properties and payload. Queues, retained cells and sessions name it by `message_ref`.
///
/// **Publishing, for a burst** (all stores, then all flushes, then the drain):
/// ```
/// for each message: table.reserve(fields, m)           // descriptor and chains, or nothing
///                   table.copy_in(m, bytes, n)...      // topic, properties, payload, in pieces
///                   table.stage(m)                     // descriptor: staged, next generation
///                   table.add_references(m.ref.index, n);  ...place m.ref in n slots...
/// for each message: table.flush_staged(m)              ...flush the slots...
/// media.drain();                                       // [P1 < P2]
/// for each message: table.publish(m)                   // the one commit
/// for each message: table.flush_published(m)
/// media.drain();                                       // now it may be acknowledged
/// for each message: table.drop_reference(m.ref.index)  // the publisher's own
/// ```
/// **Durability:** published and drained means whole, at the next open, for whoever names it with
/// that generation; before, it means nothing. The table drains nothing itself: the caller's one
/// drain covers the burst.
///
/// **References** are counts in DRAM, one for the publisher from reserve() on, one for every place
/// on media that names the message, *whatever its state*: a void slot counts until the head has
/// passed it. A place is removed in this order: store, flush, the same thread's drain, then
/// drop_reference(). At zero the chains and the descriptor may be reused, at once.
///
/// **Generations** are 16 bits and wrap. That is safe because a descriptor is reused only at zero
/// references: then no place on media, of any generation, names it, in what is durable as little as
/// in what is visible. A crash can bring back one more: a slot that landed while its descriptor did
/// not. Recovery finds that generation unpublished, and the slot is void, durably, before anything
/// is allocated. So two neighbouring generations are all that ever must be told apart.
///
/// **Thread-safety:** one thread a message until it is published; then any thread that holds a
/// reference may read it. reserve(), add_references() and drop_reference() from any thread. No call
/// below "data path" allocates or throws.
///
/// **Growth:** a table starts with some segments and takes up to 16 while it is open. What other
/// threads hold does not move: neither descriptors nor what DRAM keeps of them.
///
/// **Untrusted media:** view() checks every length and extent against the store before anything is
/// touched, verify() the CRC32C; describe() makes the sentence that names a bad descriptor.
///
/// **Lost memory:** content that lay in memory the media lost (media::tolerate_loss()) fails
/// verify(). What is copied out is what was verified only if media::losses() is behind the copy
/// what it was before verify().
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "../base/error.h"
#include "../block/block_store.h"
#include "../media/media.h"
#include "../media/recovery_part.h"
#include "message_media.h"

namespace chainring {

/// What a place on media stores to name a message.
struct message_ref {
  std::uint32_t index = 0;
  std::uint16_t generation = 0;
  friend bool operator==(const message_ref&, const message_ref&) = default;
};

struct message_fields {
  std::uint32_t payload_size = 0;    ///< bytes
  std::uint16_t topic_size = 0;      ///< bytes
  std::uint32_t properties_size = 0; ///< bytes, at most message_properties_max
  std::uint8_t qos = 0;              ///< 0 to 2
  std::uint8_t flags = 0;            ///< message_flag_*
  bool held = false;                 ///< a will: publish() holds it, publish_held() publishes it
  bool identifier_open = false;      ///< a QoS 2 identifier, from publication to close_identifier()
  std::uint16_t packet_id = 0;       ///< of the publisher
  std::uint32_t publisher_session = 0;
  std::uint32_t publisher_incarnation = 0;
  std::uint64_t expires_ns = 0;   ///< wall clock; 0: never
  std::uint64_t published_ns = 0; ///< wall clock
  [[nodiscard]] std::uint64_t size() const noexcept {
    return std::uint64_t{payload_size} + topic_size + properties_size;
  }
  friend bool operator==(const message_fields&, const message_fields&) = default;
};

/// A position in a message's bytes, which may lie in many extents. Cheap to copy; a copy kept is a
/// place to resume from. Valid while its holder has a reference.
class message_cursor {
 public:
  /// Bytes from here to the end.
  [[nodiscard]] std::uint64_t remaining() const noexcept { return remaining_; }
  /// The bytes from here that are contiguous in memory; empty at the end.
  [[nodiscard]] std::span<const std::byte> contiguous() const noexcept {
    return {at_, static_cast<std::size_t>(in_extent_ < remaining_ ? in_extent_ : remaining_)};
  }
  /// Goes on by `n` bytes, or to the end. Returns how many.
  std::uint64_t advance(std::uint64_t n) noexcept;
  /// Copies out up to `n` bytes and goes on behind them. Returns how many.
  std::uint64_t copy_out(void* to, std::uint64_t n) noexcept;
  /// The `n` bytes (at most remaining()) from here, as a cursor of its own.
  [[nodiscard]] message_cursor first(std::uint64_t n) const noexcept {
    message_cursor c = *this;
    if (n < c.remaining_) c.remaining_ = n;
    return c;
  }

 private:
  friend class message_table;
  void next_extent() noexcept;

  const std::byte* at_ = nullptr;
  std::uint64_t in_extent_ = 0; ///< bytes left in the extent at_ is in
  std::uint64_t remaining_ = 0;
  const std::uint64_t* list_ = nullptr; ///< the extent list on media; nullptr: one chain
  std::uint32_t next_ = 0;              ///< the extent behind this one
  std::uint32_t count_ = 0;
  const block_store* blocks_ = nullptr;
};

/// A message on its way to publication. Plain data: it may be kept across bursts, by one owner.
struct message {
  message_ref ref; ///< what slots will store
  message_fields fields;
  message_word1 chains;       ///< where its bytes go
  std::uint32_t crc = 0;      ///< of what was copied in so far
  std::uint32_t list_crc = 0; ///< of the extent list; 0: there is none
  message_cursor to_write;    ///< where copy_in() goes on
};

/// What view() and the recovery calls found at a descriptor.
enum class message_status : std::uint8_t {
  ok,               ///< whole as far as can be told without its CRC
  not_published,    ///< this generation, and free, staged or (where that does not count) held
  stale_generation, ///< the descriptor belongs to another message, or to none yet
  out_of_range,     ///< no such descriptor
  damaged,          ///< published, and not valid
};
[[nodiscard]] const char* to_string(message_status s) noexcept;

/// A published message, for reading.
struct message_view {
  message_ref ref;
  message_fields fields;
  std::uint32_t crc = 0;
  message_cursor topic, properties, payload;
  message_cursor all; ///< the three in order
};

struct message_table_options {
  /// Descriptors one thread may keep for itself, 0 to 256.
  std::uint32_t cache_descriptors_max = 64;
  /// Descriptors add_segment() may reach later, at most 2^31; 0: those of create(), no growth.
  /// Costs addresses, and memory only as far as descriptors are used.
  std::uint32_t descriptors_max = 0;
};

/// `count` descriptors from `offset` (a multiple of 64) of the media. A table is a list of
/// segments, whose descriptors are numbered on from one segment to the next.
struct message_segment {
  std::uint64_t offset = 0;
  std::uint32_t count = 0;
};

/// Counts as in block_store_statistics.
struct message_table_statistics {
  std::uint64_t descriptors = 0;
  std::uint64_t free = 0;
  std::uint64_t live = 0;                ///< with a reference
  std::uint64_t damaged = 0;             ///< found by recovery, out of use until the next open
  std::uint64_t cached = 0;              ///< of the free ones, those in threads' caches
  std::uint64_t refused_descriptors = 0; ///< reserve() without a free descriptor
  std::uint64_t refused_blocks = 0;      ///< reserve() without enough blocks
};

/// What check() read.
struct message_check {
  std::uint64_t free = 0, staged = 0, held = 0, published = 0;
  std::uint64_t identifiers_open = 0;
  std::uint64_t malformed = 0; ///< published or held and not valid, or word 0 not well formed
  std::uint32_t first_malformed = 0;
  const char* first_reason = nullptr;
};

class message_table {
 public:
  /// Most extents of one message.
  static constexpr std::uint32_t extents_max = 4096;

  /// Most segments of one table.
  static constexpr std::uint32_t segments_max = 16;

  /// Over the descriptors (at most 2^31) of 1 to 16 segments of the media, which were zero when the
  /// region was made or when add_segment() got them, and which come in the same order at each open.
  /// `blocks` (over the same media) and the media outlive the table. Every descriptor is free; to
  /// open a table that holds something, go on with begin_recovery().
  static result<std::unique_ptr<message_table>> create(media& on,
                                                       std::span<const message_segment> segments,
                                                       block_store& blocks,
                                                       message_table_options options = {});
  /// The same with one segment.
  static result<std::unique_ptr<message_table>> create(media& on, std::uint64_t offset,
                                                       std::uint32_t count, block_store& blocks,
                                                       message_table_options options = {});
  ~message_table();
  message_table(const message_table&) = delete;
  message_table& operator=(const message_table&) = delete;

  // --- data path: the publisher -----------------------------------------------------------------

  /// A descriptor and every block for fields.size() bytes, or nothing: false is congestion. `out`
  /// has one reference, the publisher's, and out.ref is what slots name it by. QoS at most 2, known
  /// flags only (asserted).
  [[nodiscard]] bool reserve(const message_fields& fields, message& out) noexcept;
  /// Writes the next `n` bytes of topic, properties and payload, in this order, in as many calls as
  /// it takes; at most m.to_write.remaining().
  void copy_in(message& m, const void* from, std::uint64_t n) noexcept;
  /// Stores the descriptor: `staged` with the next generation first, then the rest. Everything is
  /// copied in.
  void stage(message& m) noexcept;
  /// What flush_staged() flushes at most, beside parts of lines at both ends: for callers whose
  /// medium bounds what one drain covers.
  [[nodiscard]] static std::uint64_t flushed_bytes(const message& m) noexcept {
    const std::uint64_t extents = m.chains.list ? m.chains.count : 0;
    return m.fields.size() + extents * (2 * cacheline_size + sizeof(message_extent)) +
           cacheline_size;
  }
  /// Flushes the content and the extent list; the caller drains before publish(). The descriptor
  /// becomes durable with its commit word, which is in the same line and behind it.
  void flush_staged(const message& m) noexcept;
  /// Whether memory that the content lies in is lost (media::lost()): asked behind the last drain,
  /// where media::losses() has changed since reserve(). Such a message is not acknowledged.
  [[nodiscard]] bool lost(const message& m) const noexcept;
  /// The one commit. The caller then flush_published()es and drains, and only then is the message
  /// ready for consumers and acknowledged. A message with fields.held is held instead: it is whole,
  /// and is delivered only once publish_held().
  void publish(const message& m) noexcept;
  void flush_published(const message& m) noexcept { flush_descriptor(m.ref.index); }
  /// Gives up a message that was not published: drops the publisher's reference, and its blocks and
  /// descriptor are free when no other is left. Safe at once when no slot was stored, staged or
  /// not; else each slot that names it was counted by add_references(), is void, and is dropped
  /// like any other, after the drain of its removal: until then a crash may show the slot as it was
  /// placed, and the descriptor must not be published for anybody else in that generation.
  void discard(message& m) noexcept;

  // --- data path: what is published -------------------------------------------------------------

  /// A held message becomes published (a will fires). The caller holds a reference,
  /// flush_descriptor()s and drains. False: it is not held.
  [[nodiscard]] bool publish_held(message_ref ref) noexcept;
  /// The QoS 2 identifier is closed: durable once flush_descriptor()ed and drained, then the
  /// identifier's reference is dropped and PUBCOMP may leave. False: it is not open.
  [[nodiscard]] bool close_identifier(message_ref ref) noexcept;
  void flush_descriptor(std::uint32_t index) noexcept;

  /// `n` more places name the message. The caller holds a reference. Before the burst's flushes.
  void add_references(std::uint32_t index, std::uint32_t n) noexcept;
  /// `n` places less; the caller has drained their removal itself. True: those were the last, and
  /// chains and descriptor are free.
  bool drop_reference(std::uint32_t index, std::uint32_t n = 1) noexcept;
  [[nodiscard]] std::uint32_t references(std::uint32_t index) const noexcept;

  /// Whether the descriptor is published with that generation.
  [[nodiscard]] bool published(message_ref ref) const noexcept;
  [[nodiscard]] bool held(message_ref ref) const noexcept;
  /// The message's parts, every bound checked. The caller holds a reference.
  [[nodiscard]] message_status view(message_ref ref, message_view& out) const noexcept;
  /// view() of a message that is published or held.
  [[nodiscard]] message_status view_held(message_ref ref, message_view& out) const noexcept;
  /// Whether content and fields agree with the CRC.
  [[nodiscard]] bool verify(const message_view& v) const noexcept;
  /// Brings the descriptor's line and its count closer, some calls before view(), drop_reference()
  /// or recover_reference().
  void prefetch(std::uint32_t index) const noexcept;

  // --- growth, recovery and inspection; not the data path ---------------------------------------

  /// `count` descriptors more, as the last segment. They are zero, and drained as such; whoever
  /// opens the table next must find the segment in its list, so that list is drained as well before
  /// this call. One thread at a time, not during recovery, while others use the table. An error
  /// names the argument, and nothing changed.
  [[nodiscard]] result<void> add_segment(std::uint64_t offset, std::uint32_t count);

  /// Nothing has a reference, nothing is free. The block store's begin_recovery() comes first. No
  /// data-path call until finish_recovery(). One thread recovers, or `several`: that costs locked
  /// instructions. `checking`: nothing is stored on media.
  void begin_recovery(bool several = false, bool checking = false) noexcept;
  /// Reads every descriptor and changes nothing.
  [[nodiscard]] message_check check() const noexcept;
  /// Makes durable what was read (media::flush_read); the caller drains before it acts on it.
  void persist_as_read() noexcept;
  /// A place on media names `ref`. ok: it has one reference more, and with the first its chains are
  /// live in the block store. Anything else: no reference; the place is to be void, durably, before
  /// anything is allocated. A damaged descriptor stays out of use. Thread-safe where several
  /// threads were announced.
  ///
  /// Where two messages claim a block, the one whose content agrees with its CRC32C keeps it,
  /// whichever was recovered first. A message that loses blocks it had been given keeps its
  /// references, and view() finds it not published. A block that its other owner marked by itself
  /// (a ring, a value of a map) stays with that owner, whose record has a check of its own.
  [[nodiscard]] message_status recover_reference(message_ref ref) noexcept;
  /// The same for a place that may name a held message (a session's will).
  [[nodiscard]] message_status recover_held(message_ref ref) noexcept;
  /// Calls fn(view) for each valid published message whose QoS 2 identifier is open, referenced or
  /// not; the caller decides by session and incarnation and recover_reference()s those that count.
  template <class F> void for_each_open_identifier(F&& fn) const {
    message_view v;
    for (std::uint64_t from = 0; next_open_identifier(from, v);
         from = std::uint64_t{v.ref.index} + 1)
      fn(static_cast<const message_view&>(v));
  }
  /// For recover_reference(), behind prefetch() and nearer to the call: the line that says whether
  /// the message's blocks are live.
  void prefetch_blocks(std::uint32_t index) const noexcept;
  /// Descriptors never referenced are free. The block store's finish_recovery() comes after, when
  /// every other owner has marked its chains too.
  void finish_recovery() noexcept;

  /// The table's share of an open or a check, one thread. Its `repair` begins the recovery, so it
  /// stands behind block_store::part() and in front of the parts that refer to messages; its
  /// `rebuild` finishes it.
  [[nodiscard]] recovery_part part();

  [[nodiscard]] message_table_statistics statistics() const noexcept;
  [[nodiscard]] std::uint32_t count() const noexcept {
    return count_.load(std::memory_order_acquire); // [G1] pairs with [G1] in add_segment()
  }
  [[nodiscard]] block_store& blocks() const noexcept { return blocks_; }
  /// The sentence for a status that is not ok, naming the descriptor and what is wrong with it.
  [[nodiscard]] error describe(message_ref ref, message_status status) const;

 private:
  struct state;
  struct segment {
    message_descriptor* table = nullptr;
    std::uint32_t first = 0; ///< the number of its first descriptor
    std::uint32_t count = 0;
  };
  message_table(media& on, block_store& blocks, std::unique_ptr<state> s) noexcept;
  [[nodiscard]] result<void> attach(const message_segment& s);
  /// `index` is below a count() that this thread, or one that it synchronised with, has read.
  [[nodiscard]] message_descriptor& descriptor_of(std::uint32_t index) const noexcept {
    if (index < segments_[0].count) [[likely]]
      return segments_[0].table[index];
    std::uint32_t n = 1;
    while (index - segments_[n].first >= segments_[n].count)
      ++n;
    return segments_[n].table[index - segments_[n].first];
  }
  [[nodiscard]] std::uint32_t segments() const noexcept {
    return static_cast<std::uint32_t>(
        std::count_if(segments_.begin(), segments_.end(), [](auto& s) { return s.count != 0; }));
  }
  void report_robbed(recovery_context& c) const;
  /// What a descriptor's validity depends on beside word 0, read once.
  struct words {
    message_word1 extent;
    std::uint64_t sizes, check, seals;
    [[nodiscard]] std::uint32_t properties() const noexcept {
      return static_cast<std::uint32_t>(sizes >> 48 | check >> 56 << 16);
    }
    [[nodiscard]] std::uint64_t size() const noexcept {
      return (sizes & 0xffff'ffff) + (sizes >> 32 & 0xffff) + properties();
    }
  };
  [[nodiscard]] words words_of(std::uint32_t index) const noexcept;
  /// What is wrong with them; nullptr: nothing.
  [[nodiscard]] const char* invalid(message_ref ref, const words& w) const noexcept;
  /// Checks all but word 0; nullptr: valid, and `out` is filled in but for what word 0 says. Else
  /// what is wrong.
  [[nodiscard]] const char* examine(message_ref ref, message_view& out) const noexcept;
  [[nodiscard]] const char* examine(std::uint32_t index, message_view& out) const noexcept;
  /// Checks word 0; ok: `word` is filled in.
  [[nodiscard]] message_status look_at_state(message_ref ref, bool held_counts,
                                             message_word0& word) const noexcept;
  [[nodiscard]] message_status look(message_ref ref, bool held_counts,
                                    message_view& out) const noexcept;
  [[nodiscard]] message_status recover(message_ref ref, bool held_counts) noexcept;
  [[nodiscard]] message_status first_reference(message_ref ref, message_status seen) noexcept;
  [[nodiscard]] bool claim(message_ref ref, message_word1 extent) noexcept;
  [[nodiscard]] bool judge(message_ref ref, message_word1 extent) noexcept;
  [[nodiscard]] bool meets(message_word1 a, message_word1 b) const noexcept;
  template <class F> bool for_each_chain(message_word1 extent, F&& fn) const noexcept;
  void rob(std::uint32_t index) noexcept;
  [[nodiscard]] bool mark_chains(std::uint32_t index, message_word1 extent) noexcept;
  [[nodiscard]] bool next_open_identifier(std::uint64_t from, message_view& out) const noexcept;
  void release_chains(message_word1 chains) noexcept;
  void give_back(std::uint32_t index) noexcept;
  [[nodiscard]] bool place_chains(std::uint64_t size, message& out) noexcept;

  media& media_;
  std::array<segment, segments_max> segments_{};
  std::atomic<std::uint32_t> count_{0};
  block_store& blocks_;
  std::unique_ptr<state> state_;
};

} // namespace chainring
