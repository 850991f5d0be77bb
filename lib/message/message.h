// SPDX-License-Identifier: BSD-3-Clause
/// Message table: durable messages, named by index and generation. One commit word publishes a
/// message.
///
/// A message consists of a 64-byte descriptor in a table and of chains of a block store that hold
/// its topic, properties and payload. Queues, retained cells and sessions name it by `message_ref`.
///
/// **Publishing a burst** (first all stores, then all flushes, then the drain):
/// ```
/// for each message: table.reserve(fields, m)           // descriptor and chains, or nothing
///                   table.copy_in(m, bytes, n)...      // topic, properties, payload, in pieces
///                   table.stage(m)                     // descriptor: staged, next generation
///                   (stage_one() does these three in one)
///                   table.add_references(m.ref.index, n);  ...place m.ref in n slots...
/// for each message: table.flush_staged(m)              ...flush the slots...
/// media.drain();                                       // [content-before-publish]
/// for each message: table.publish(m)                   // the one commit
/// for each message: table.flush_published(m)
/// media.drain();                                       // from now on it may be acknowledged
/// for each message: table.drop_reference(m.ref.index)  // the publisher's own reference
/// ```
/// **Durability:** once a message is published and drained, the next open finds it whole under its
/// index and generation. Before that, the generation means nothing. The table itself drains
/// nothing: the caller's one drain covers the burst.
///
/// **References** are counts in DRAM: one for the publisher from reserve() on, and one for every
/// place on media that names the message, *whatever the state of the place*. A void slot also
/// counts until the head has passed it. A caller removes a place in this order: store, flush, drain
/// on the same thread, then drop_reference(). When the count reaches zero the chains and the
/// descriptor may be reused at once.
///
/// **Generations** are 16 bits and wrap around. This is safe because a descriptor is reused only at
/// zero references, when no place on media names it in any generation, neither in what is visible
/// nor in what is durable. A crash can bring back one more generation: that of a slot that became
/// durable while its descriptor did not. Recovery finds that generation unpublished, and voids the
/// slot durably before anything is allocated. So recovery only ever has to distinguish two
/// neighbouring generations.
///
/// **Thread-safety:** one thread owns a message until it is published. Then any thread that holds a
/// reference may read it. reserve(), add_references() and drop_reference() may be called from any
/// thread. No call of the data path allocates memory or throws.
///
/// **Moving:** where a message_compactor works (compactor.h), the bytes of a message stay where
/// they are only inside a message_table::reading and while the message is pinned.
///
/// **Growth:** a table begins with some segments and accepts up to 16 while it is open.
/// Descriptors, and the entries about them in DRAM, never move.
///
/// **Untrusted media:** view() checks every length and extent against the store before it touches
/// them. verify() checks the CRC32C. describe() makes the sentence that names a bad descriptor.
///
/// **Lost memory:** content that lay in memory which the media lost (media::tolerate_loss()) fails
/// verify(). Copied bytes count as verified only if media::losses() did not change between verify()
/// and the copy.
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "../base/error.h"
#include "../block/block_store.h"
#include "../block/content_source.h"
#include "../media/media.h"
#include "../media/recovery_part.h"
#include "message_media.h"

namespace chainring {

/// The name of a message that a place on media stores.
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
  bool held = false; ///< a will: publish() holds the message, publish_held() publishes it
  /// a QoS 2 identifier is open, from publication to close_identifier()
  bool identifier_open = false;
  std::uint16_t packet_id = 0; ///< the publisher's
  std::uint32_t publisher_session = 0;
  std::uint32_t publisher_incarnation = 0;
  std::uint64_t expires_ns = 0;   ///< wall clock; 0 if it never expires
  std::uint64_t published_ns = 0; ///< wall clock
  [[nodiscard]] std::uint64_t size() const noexcept {
    return std::uint64_t{payload_size} + topic_size + properties_size;
  }
  friend bool operator==(const message_fields&, const message_fields&) = default;
};

/// A position in the bytes of a message, which may lie in many extents. A cursor is cheap to copy,
/// and a copy is a place to resume from. It is valid while its holder has a reference to the
/// message; where a message_compactor works, it must also be inside a message_table::reading that
/// began before the cursor was made, or have the message pinned.
class message_cursor {
 public:
  /// The number of bytes from here to the end.
  [[nodiscard]] std::uint64_t remaining() const noexcept { return remaining_; }
  /// The bytes from here on that are contiguous in memory. Empty at the end.
  [[nodiscard]] std::span<const std::byte> contiguous() const noexcept {
    return {at_, static_cast<std::size_t>(in_extent_ < remaining_ ? in_extent_ : remaining_)};
  }
  /// Moves forward by `n` bytes, or to the end. Returns by how many bytes it moved.
  std::uint64_t advance(std::uint64_t n) noexcept {
    if (n < in_extent_ && n <= remaining_) [[likely]] {
      step(n);
      return n;
    }
    return advance_far(n);
  }
  /// Copies up to `n` bytes and moves behind them. Returns how many bytes it copied.
  std::uint64_t copy_out(void* to, std::uint64_t n) noexcept {
    if (n < in_extent_ && n <= remaining_) [[likely]] {
      std::memcpy(to, at_, n);
      step(n);
      return n;
    }
    return copy_out_far(to, n);
  }
  /// A cursor over the `n` bytes from here on, or over remaining() bytes if there are fewer.
  [[nodiscard]] message_cursor first(std::uint64_t n) const noexcept {
    message_cursor c = *this;
    if (n < c.remaining_) c.remaining_ = n;
    return c;
  }

 private:
  friend class message_table;
  void next_extent() noexcept;
  /// Moves forward inside an extent.
  void step(std::uint64_t n) noexcept {
    at_ += n;
    in_extent_ -= n;
    remaining_ -= n;
  }
  std::uint64_t advance_far(std::uint64_t n) noexcept;
  std::uint64_t copy_out_far(void* to, std::uint64_t n) noexcept;

  const std::byte* at_ = nullptr;
  std::uint64_t in_extent_ = 0; ///< bytes left in the extent that contains at_
  std::uint64_t remaining_ = 0;
  /// the extent list on media; nullptr if the message has one chain
  const std::uint64_t* list_ = nullptr;
  std::uint32_t next_ = 0; ///< index of the extent behind this one
  std::uint32_t count_ = 0;
  const block_store* blocks_ = nullptr;
};

/// A message before its publication. It is plain data; its one owner may keep it across bursts.
struct message {
  message_ref ref; ///< what slots will store to name it
  message_fields fields;
  message_word1 chains;       ///< the chain or the extent list that holds its bytes
  std::uint32_t crc = 0;      ///< of what was copied in so far; stage() seals it
  std::uint32_t list_crc = 0; ///< of the extent list; 0 if there is none
  message_cursor to_write;    ///< where copy_in() continues
};

/// What stage_one() makes: a message before its publication whose bytes lie in one chain.
struct staged_message {
  message_ref ref;            ///< what slots will store to name it
  std::uint32_t size = 0;     ///< of topic, properties and payload
  std::uint32_t payload_at = 0; ///< bytes from the topic's beginning to the payload
  std::byte* bytes = nullptr;   ///< where these are, the topic first
};

/// What view() and the recovery calls found at a descriptor.
enum class message_status : std::uint8_t {
  ok, ///< valid, as far as can be known without checking its CRC
  /// the generation fits, and the message is free, staged, or held where that does not count
  not_published,
  stale_generation, ///< the descriptor belongs to another message, or to none yet
  out_of_range,     ///< the table has no such descriptor
  damaged,          ///< published and not valid
};
[[nodiscard]] const char* to_string(message_status s) noexcept;

/// A published message, for reading.
struct message_view {
  message_ref ref;
  message_fields fields;
  std::uint32_t crc = 0;
  message_cursor topic, properties, payload;
  message_cursor all; ///< topic, properties and payload, in this order
};

struct message_table_options {
  /// Most descriptors that one thread may keep in its cache, 0 to 256.
  std::uint32_t cache_descriptors_max = 256;
  /// Most descriptors that add_segment() may reach later, at most 2^31. 0 stands for those of
  /// create(), so the table cannot grow. It costs addresses; memory is used only as far as
  /// descriptors are used.
  std::uint32_t descriptors_max = 0;
};

/// `count` descriptors that begin at `offset` (a multiple of 64) of the media. A table is a list of
/// segments, and descriptor numbers continue from one segment to the next.
struct message_segment {
  std::uint64_t offset = 0;
  std::uint32_t count = 0;
};

/// How exact the counts are: see block_store_statistics.
struct message_table_statistics {
  std::uint64_t descriptors = 0;
  std::uint64_t free = 0;
  std::uint64_t live = 0;    ///< descriptors with a reference
  std::uint64_t damaged = 0; ///< found damaged by recovery, and out of use until the next open
  std::uint64_t cached = 0;  ///< free descriptors that lie in the caches of threads
  std::uint64_t refused_descriptors = 0; ///< calls of reserve() that found no free descriptor
  std::uint64_t refused_blocks = 0;      ///< calls of reserve() that found too few free blocks
};

/// What check() found.
struct message_check {
  std::uint64_t free = 0, staged = 0, held = 0, published = 0;
  std::uint64_t identifiers_open = 0;
  std::uint64_t malformed = 0; ///< published or held and not valid, or word 0 is not well formed
  std::uint32_t first_malformed = 0;
  const char* first_reason = nullptr;
};

/// Where the messages of a table lie.
struct message_chains {
  std::uint64_t messages = 0; ///< with a reference and at least one byte
  std::uint64_t chains = 0;   ///< in which their bytes lie; without the lists of these
  std::uint64_t blocks = 0;   ///< of these chains and lists
  std::uint64_t end = 0;      ///< the block behind the last of them
};

class message_table {
 public:
  /// Most extents that one message can have.
  static constexpr std::uint32_t extents_max = 4096;

  /// Most segments that one table can have.
  static constexpr std::uint32_t segments_max = 16;

  /// Makes a table over the descriptors (at most 2^31) of 1 to 16 segments of the media. The
  /// segments were zero when the region was created or when add_segment() got them, and they come
  /// in the same order at each open. `blocks` must be over the same media, and both must outlive
  /// the table. Every descriptor is free at first; to open a table with content, go on with
  /// begin_recovery().
  static result<std::unique_ptr<message_table>> create(media& medium,
                                                       std::span<const message_segment> segments,
                                                       block_store& blocks,
                                                       message_table_options options = {});
  /// Makes a table of one segment.
  static result<std::unique_ptr<message_table>> create(media& medium, std::uint64_t offset,
                                                       std::uint32_t count, block_store& blocks,
                                                       message_table_options options = {});
  ~message_table();
  message_table(const message_table&) = delete;
  message_table& operator=(const message_table&) = delete;

  // --- data path: the publisher -----------------------------------------------------------------

  /// Reserves a descriptor and all blocks for fields.size() bytes, or nothing: false means
  /// congestion. `out` gets one reference, the publisher's, and slots name it by out.ref. Asserts
  /// that the QoS is at most 2 and the flags are known.
  [[nodiscard]] bool reserve(const message_fields& fields, message& out) noexcept;
  /// Writes the next `n` bytes of topic, properties and payload, in this order. The caller may use
  /// as many calls as it likes; `n` is at most m.to_write.remaining().
  void copy_in(message& m, const void* from, std::uint64_t n) noexcept;
  /// Stores the descriptor: first `staged` with the next generation, then the other words.
  /// Everything must be copied in.
  void stage(message& m) noexcept;
  /// Does what reserve(), copy_in() and stage() do, for a message without properties whose bytes
  /// are all there and lie in one chain: `fields` has the sizes of `topic` and `payload`. False:
  /// the chain or the descriptor cannot be had at once, and nothing is reserved. Then reserve()
  /// decides.
  [[nodiscard]] bool stage_one(const message_fields& fields, std::string_view topic,
                               std::span<const std::byte> payload, staged_message& out) noexcept;
  /// Does what reserve() and copy_in() do, for a message without properties whose payload, of at
  /// least one byte, lies in blocks that `from` gives away: they become the message's chain, and
  /// the payload is not copied. The message gets properties of zeros, which fill what lies in front
  /// of the payload. False: the source does not give the blocks, or no descriptor is free, and
  /// nothing has changed. Once it is true, the payload stays readable until the message is
  /// published or discarded.
  [[nodiscard]] bool reserve_taken(const message_fields& fields, std::string_view topic,
                                   std::span<const std::byte> payload, content_source& from,
                                   message& out) noexcept;
  /// What stage_one() makes of a message, for one that has been staged and has one chain.
  [[nodiscard]] staged_message as_staged(const message& m) const noexcept;
  /// Most bytes that flush_staged() flushes, beside parts of lines at both ends. For callers whose
  /// medium bounds what one drain covers.
  [[nodiscard]] static std::uint64_t flushed_bytes(const message& m) noexcept {
    const std::uint64_t extents = m.chains.list ? m.chains.count : 0;
    return m.fields.size() + extents * (2 * cacheline_size + sizeof(message_extent)) +
           cacheline_size;
  }
  /// Flushes the content and the extent list; the caller drains before publish(). The descriptor
  /// becomes durable together with its commit word, which is stored later in the same line.
  void flush_staged(const message& m) noexcept;
  void flush_staged(const staged_message& m) noexcept;
  /// True if memory of the content is lost (media::lost()). Ask behind the last drain, if
  /// media::losses() has changed since reserve(). Such a message must not be acknowledged.
  [[nodiscard]] bool lost(const message& m) const noexcept;
  [[nodiscard]] bool lost(const staged_message& m) const noexcept;
  /// Stores the commit word. The caller then calls flush_published() and drains; only then is the
  /// message ready for consumers and may be acknowledged. A message with fields.held becomes held
  /// instead: it is whole, and is delivered only after publish_held().
  void publish(const message& m) noexcept;
  void publish(const staged_message& m) noexcept;
  void flush_published(const message& m) noexcept { flush_descriptor(m.ref.index); }
  void flush_published(const staged_message& m) noexcept { flush_descriptor(m.ref.index); }
  /// Gives up a message that was not published. The publisher's reference is dropped; blocks and
  /// descriptor become free if it was the last. This is safe at once if no slot was stored, whether
  /// the message is staged or not. Otherwise add_references() counted each slot that names it; such
  /// a slot is void, and its reference is dropped like any other, after its removal is drained.
  /// Until then a crash may show the slot as it was placed, so the descriptor must not be published
  /// for another message in that generation.
  void discard(message& m) noexcept;
  void discard(staged_message& m) noexcept;

  // --- data path: what is published -------------------------------------------------------------

  /// Publishes a held message, when a will is sent. The caller holds a reference, and then calls
  /// flush_descriptor() and drains. Returns false if the message is not held.
  [[nodiscard]] bool publish_held(message_ref ref) noexcept;
  /// Closes the QoS 2 identifier. This is durable once the caller has called flush_descriptor() and
  /// drained; then it drops the identifier's reference and may send PUBCOMP. Returns false if the
  /// identifier is not open.
  [[nodiscard]] bool close_identifier(message_ref ref) noexcept;
  void flush_descriptor(std::uint32_t index) noexcept;

  /// Counts `n` more places that name the message. The caller holds a reference, and calls this
  /// before the flushes of the burst.
  void add_references(std::uint32_t index, std::uint32_t n) noexcept;
  /// Counts `n` places less; the caller has drained their removal itself. Returns true if these
  /// were the last, so that chains and descriptor are free.
  bool drop_reference(std::uint32_t index, std::uint32_t n = 1) noexcept;
  /// Drops the reference of one place whose removal is drained. The place is not trusted: where no
  /// message with a reference has that index and generation, published or not, nothing is dropped.
  /// Returns true if it was the last reference.
  bool drop_place(message_ref ref) noexcept;
  [[nodiscard]] std::uint32_t references(std::uint32_t index) const noexcept;

  /// Keeps the bytes of all messages where they are for the calling thread, from before it views a
  /// message until it is done with the bytes. It costs two stores, and takes memory from a
  /// compactor as long as it lives, so it lasts for a burst and not for a wait. It may be nested.
  class reading {
   public:
    explicit reading(const message_table& table) noexcept;
    ~reading();
    reading(const reading&) = delete;
    reading& operator=(const reading&) = delete;

   private:
    std::atomic<std::uint64_t>* mine_; ///< nullptr inside another reading of this thread
  };
  /// Keeps the bytes of one message where they are until unpin(), which any thread may call: for a
  /// device that still reads them. The caller is inside a reading and keeps a reference until the
  /// unpin(). False: the message has 65,535 pins.
  [[nodiscard]] bool pin(std::uint32_t index) noexcept;
  void unpin(std::uint32_t index) noexcept;

  /// True if the descriptor is published in that generation.
  [[nodiscard]] bool published(message_ref ref) const noexcept;
  [[nodiscard]] bool held(message_ref ref) const noexcept;
  /// Fills in the parts of the message after checking every bound. The caller holds a reference.
  [[nodiscard]] message_status view(message_ref ref, message_view& out) const noexcept;
  /// As view(), for a message that is published or held.
  [[nodiscard]] message_status view_held(message_ref ref, message_view& out) const noexcept;
  /// True if content and fields agree with the CRC.
  [[nodiscard]] bool verify(const message_view& v) const noexcept;
  /// Prefetches the descriptor's line and its count, some calls before view(), drop_reference() or
  /// recover_reference().
  void prefetch(std::uint32_t index) const noexcept;
  /// Prefetches, behind prefetch() and nearer to view(), the first lines of the content of a
  /// message with one chain. The caller holds a reference.
  void prefetch_content(std::uint32_t index) const noexcept;
  /// The bytes of a staged, held or published message to which the caller has a reference, as its
  /// descriptor says, which is not examined. 0: there is no such descriptor.
  [[nodiscard]] std::uint64_t size_of(std::uint32_t index) const noexcept;

  // --- growth, recovery and inspection; not the data path ---------------------------------------

  /// Adds `count` descriptors as the last segment, while other threads use the table. They must be
  /// zero and drained. Whoever opens the table next must find the segment in its list, so the
  /// caller drains that list too before this call. Only one thread at a time may call it, and not
  /// during recovery. An error names the argument; then nothing has changed.
  [[nodiscard]] result<void> add_segment(std::uint64_t offset, std::uint32_t count);

  /// Begins recovery: no descriptor has a reference and none is free. The block store's
  /// begin_recovery() comes first. No call of the data path may run until finish_recovery().
  /// `several` announces that several threads recover, which costs locked instructions. With
  /// `checking` nothing is stored on media.
  void begin_recovery(bool several = false, bool checking = false) noexcept;
  /// Reads every descriptor and changes nothing. An extent list is judged by recover_reference(),
  /// because the blocks of a list that no place names may be another message's.
  [[nodiscard]] message_check check() const noexcept;
  /// Makes durable what was read (media::flush_read()). The caller drains before it acts on it.
  void persist_as_read() noexcept;
  /// Counts a place on media that names `ref`. On ok the message has one more reference, and with
  /// the first one its chains are live in the block store. On any other status nothing is counted,
  /// and the caller must void the place durably before anything is allocated. A damaged descriptor
  /// stays out of use. Thread-safe if several threads were announced.
  ///
  /// If two messages claim a block, the one whose content agrees with its CRC32C keeps it,
  /// whichever was recovered first. A message that loses blocks it had been given keeps its
  /// references, and view() finds it not published. A block that another owner has marked (a ring,
  /// a value of a map) stays with that owner, whose record has a check of its own.
  [[nodiscard]] message_status recover_reference(message_ref ref) noexcept;
  /// As recover_reference(), for a place that may name a held message (a session's will).
  [[nodiscard]] message_status recover_held(message_ref ref) noexcept;
  /// Calls fn(view) for each valid published message whose QoS 2 identifier is open, whether it has
  /// references or not. The caller decides by session and incarnation which of them count, and
  /// calls recover_reference() for those.
  template <class F> void for_each_open_identifier(F&& fn) const {
    message_view v;
    for (std::uint64_t from = 0; next_open_identifier(from, v);
         from = std::uint64_t{v.ref.index} + 1)
      fn(static_cast<const message_view&>(v));
  }
  /// Prefetches, behind prefetch() and nearer to recover_reference(), the line that says whether
  /// the message's blocks are live.
  void prefetch_blocks(std::uint32_t index) const noexcept;
  /// Ends recovery: descriptors that were never referenced become free. The block store's
  /// finish_recovery() comes after it, once every other owner has marked its chains too.
  void finish_recovery() noexcept;

  /// The table's part of an open or a check, which one thread runs. Its `repair` step begins the
  /// recovery, so it must come after block_store::part() and before the parts that refer to
  /// messages. Its `rebuild` step finishes the recovery.
  [[nodiscard]] recovery_part part();

  [[nodiscard]] message_table_statistics statistics() const noexcept;
  /// Counts the chains of all messages. No other thread changes a message meanwhile.
  [[nodiscard]] message_chains chains() const noexcept;
  [[nodiscard]] std::uint32_t count() const noexcept {
    // [descriptors-counted] Without it a thread could look for an index in a segment it cannot see.
    return count_.load(std::memory_order_acquire);
  }
  [[nodiscard]] block_store& blocks() const noexcept { return blocks_; }
  /// Makes the sentence for a status that is not ok. It names the descriptor and says what is wrong
  /// with it.
  [[nodiscard]] error describe(message_ref ref, message_status status) const;

 private:
  friend class message_compactor;
  struct state;
  struct segment {
    message_descriptor* table = nullptr;
    std::uint32_t first = 0; ///< the number of its first descriptor
    std::uint32_t count = 0;
  };
  message_table(media& medium, block_store& blocks, std::unique_ptr<state> s) noexcept;
  [[nodiscard]] result<void> attach(const message_segment& s);
  /// `index` is below a count() that this thread has read, or a thread that it synchronised with.
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
  /// The words on which the validity of a descriptor depends beside word 0, each read once.
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
  /// As view(), for a published message that is valid and has one chain. False says nothing.
  [[nodiscard]] bool view_one_chain(message_ref ref, message_view& out) const noexcept;
  void fill(message_ref ref, const words& w, message_view& out) const noexcept;
  /// Says what is wrong with the words; nullptr if nothing is. Without `list_too` the blocks of an
  /// extent list are not read, so its seal is not judged.
  [[nodiscard]] const char* invalid(message_ref ref, const words& w,
                                    bool list_too = true) const noexcept;
  /// Checks everything but word 0. Returns nullptr if it is valid, and fills in `out` except for
  /// what word 0 says. Otherwise says what is wrong.
  [[nodiscard]] const char* examine(message_ref ref, message_view& out) const noexcept;
  [[nodiscard]] const char* examine(std::uint32_t index, message_view& out) const noexcept;
  /// Checks word 0. On ok, fills in `word`.
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
  template <class F> [[nodiscard]] bool alone(F&& fn) noexcept;
  [[nodiscard]] bool drop_all(std::atomic<std::uint32_t>& count, std::uint32_t n) noexcept;
  void release_list(message_word1 chains) noexcept;
  void give_back(std::uint32_t index) noexcept;
  [[nodiscard]] bool place_chains(std::uint64_t size, message& out) noexcept;
  [[nodiscard]] chain* extents_without_row() noexcept;
  [[nodiscard]] message_ref own(std::uint32_t index, message_word1 chains) noexcept;
  [[nodiscard]] std::uint32_t store_staged(const message_fields& fields, message_ref ref,
                                           message_word1 chains, std::uint32_t content_crc,
                                           std::uint32_t list_crc) noexcept;
  void store_observed(message_descriptor& d, message_descriptor by) noexcept;

  media& media_;
  std::array<segment, segments_max> segments_{};
  std::atomic<std::uint32_t> count_{0};
  block_store& blocks_;
  std::unique_ptr<state> state_;
};

} // namespace chainring
