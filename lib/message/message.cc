// SPDX-License-Identifier: BSD-3-Clause
// Publishing a message, reading it, and counting its references. The calls here drain nothing: all
// drains are the caller's.
//
// Ordering labels:
//   [content-before-publish]  Content and slots are flushed and drained before publish() stores
//     word 0.
//   [extents-before-publish]  The extent list is flushed and drained before publish() stores word
//     0.
//   [generation-first]  stage() stores word 0, with the next generation and `staged`, before words
//     1 to 7, in one line.
//   [message-published]  publish() stores word 0 with release, after the drain of the content;
//     pairs with [message-state-read] and [extent-read].
//   [will-published]  publish_held() exchanges the whole word 0; pairs with [message-state-read].
//   [identifier-closed]  close_identifier() exchanges the whole word 0; pairs with
//     [message-state-read].
//   [message-state-read]  Word 0 is loaded with acquire; pairs with [message-published],
//     [will-published] and [identifier-closed].
//   [extent-read]  Word 1 is loaded with acquire, because it may name an extent list or a chain
//     that was moved; pairs with [message-published] and [move-named].
//   [seals-behind-extent]  The seals are loaded behind word 1, which orders them; pairs with
//     [move-named].
//   [publication-before-ack]  Word 0 is flushed and drained before the caller makes slots ready,
//     acknowledges or sends PUBCOMP.
//   [removal-before-drop]  The caller drains the removal of a place before it drops the reference
//     of the place.
//   [reference-dropped]  A reference is dropped with release, and the thread that drops the last
//     one acquires; pairs with [reference-dropped] and [reference-taken].
//   [chains-known]  What DRAM knows of word 1 is used by holders of a reference. The access orders
//     nothing: whoever changes it holds a reference too, which [reference-dropped] orders.
//   [reference-owned]  A count is set or added to by a thread that holds a reference, so it cannot
//     become 0 meanwhile. Only the first reference of a message is stored with release; pairs with
//     [reference-taken].
//   [message-counts-shown]  Counters for statistics are read at any moment; the access orders
//     nothing.
//
// The staged descriptor is not flushed before the first drain. Its words precede word 0 in the same
// line, so what makes word 0 durable makes them durable, and a crash that leaves the published word
// 0 leaves the other words too. message_recover.cc lists the cases of look().
#include "message/message.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/assert.h"
#include "base/hook.h"
#include "message/message_state.h"

namespace chainring {

using detail::load_state;
using detail::unpack_extent;

static_assert(sizeof(chain) == sizeof(message_extent) && sizeof(chain) == sizeof(std::uint64_t));
static_assert(offsetof(chain, first) == offsetof(message_extent, first));

namespace {

void count_one(std::atomic<std::uint64_t>& a) noexcept {
  a.fetch_add(1, std::memory_order_relaxed); // [message-counts-shown]
}

} // namespace

const char* to_string(message_status s) noexcept {
  switch (s) {
  case message_status::ok:
    return "ok";
  case message_status::not_published:
    return "not published";
  case message_status::stale_generation:
    return "another generation";
  case message_status::out_of_range:
    return "no such descriptor";
  case message_status::damaged:
    return "damaged";
  }
  return "unknown";
}

// --- the publisher -------------------------------------------------------------------------------

// The extents of a thread that has no row. Null: there is no memory for them.
[[gnu::noinline]] chain* message_table::extents_without_row() noexcept {
  try {
    const std::lock_guard guard(state_->further_lock);
    return state_->further[thread_slot()].extents; // stays in its place while others are added
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

bool message_table::place_chains(std::uint64_t size, message& out) noexcept {
  message_cursor& at = out.to_write;
  at = message_cursor{};
  at.blocks_ = &blocks_;
  at.remaining_ = size;
  out.chains = {};
  out.list_crc = 0;
  if (size == 0) return true;
  const std::uint64_t wanted = blocks_.blocks_for(size);
  if (wanted > blocks_.block_count()) return false;
  const auto blocks = static_cast<std::uint32_t>(wanted);

  chain few[block_store::cached_length_max];
  chain* extents = few;
  if (blocks > std::size(few)) {
    if (unsigned row = 0; detail::own_row(row)) [[likely]]
      extents = state_->scratches[row].extents;
    else if (extents = extents_without_row(); extents == nullptr)
      return false;
  }
  const unsigned used = blocks_.allocate(blocks, std::span(extents, std::min(blocks, extents_max)));
  if (used == 0) return false;
  if (used == 1) {
    out.chains = {extents[0].first, blocks, false};
    at.at_ = blocks_.address(extents[0]);
    at.in_extent_ = blocks_.size_of(extents[0]);
    return true;
  }
  chain list;
  const std::uint64_t list_bytes = std::uint64_t{used} * sizeof(message_extent);
  // Losing the list must fail the media, because the list is followed unchecked once view() has
  // checked it.
  if (!blocks_.allocate_required(static_cast<std::uint32_t>(blocks_.blocks_for(list_bytes)),
                                 list)) {
    blocks_.release(std::span(extents, used));
    return false;
  }
  media_.write(blocks_.address(list), extents, list_bytes);
  out.chains = {list.first, used, true};
  out.list_crc = crc32c(0, extents, list_bytes);
  at.list_ = reinterpret_cast<const std::uint64_t*>(blocks_.address(list));
  at.count_ = used;
  at.next_extent();
  return true;
}

bool message_table::reserve(const message_fields& fields, message& out) noexcept {
  CHAINRING_ASSERT(fields.qos <= 2 && (fields.flags & ~message_flags_known) == 0 &&
                   fields.properties_size <= message_properties_max);
  std::uint32_t index = 0, next = 0;
  if (!state_->pool.take(index, next)) {
    CHAINRING_EXPECTS(!state_->recovering, detail::message_recovery_open);
    count_one(state_->refused_descriptors);
    return false;
  }
  if (!place_chains(fields.size(), out)) {
    state_->pool.give(index);
    count_one(state_->refused_blocks);
    return false;
  }
  prefetch(next); // a burst reserves its messages one behind the other
  out.fields = fields;
  out.crc = 0;
  out.ref = own(index, out.chains);
  return true;
}

void message_table::copy_in(message& m, const void* from, std::uint64_t n) noexcept {
  message_cursor& at = m.to_write;
  CHAINRING_EXPECTS(n <= at.remaining(), "copy_in() of more bytes than reserve() was asked for");
  const auto* in = static_cast<const std::byte*>(from);
  while (n != 0) {
    const std::uint64_t step = std::min(n, at.in_extent_);
    m.crc = media_.write_summed(const_cast<std::byte*>(at.at_), in, step, m.crc);
    in += step;
    n -= step;
    at.step(step);
    if (at.in_extent_ == 0 && at.remaining_ != 0) at.next_extent();
  }
}

// Stores a sealed descriptor, and returns the CRC of the message. `content_crc` is that of its
// bytes alone.
[[gnu::always_inline]] inline std::uint32_t
message_table::store_staged(const message_fields& fields, message_ref ref, message_word1 chains,
                            std::uint32_t content_crc, std::uint32_t list_crc) noexcept {
  message_descriptor& d = descriptor_of(ref.index);
  const auto fixed = detail::pack_fields(fields);
  const std::uint32_t crc = detail::seal(content_crc, fixed, ref);
  const std::uint64_t word1 = chains.pack();
  const message_descriptor words = {
      .state = message_word0{ref.generation,
                             seeded_bug("chain.staged_as_published") ? message_state::published
                                                                     : message_state::staged,
                             false}
                   .pack(),
      .extent = word1,
      .sizes = fixed.sizes,
      .check = fixed.check | crc,
      .expires_ns = fixed.expires_ns,
      .published_ns = fixed.published_ns,
      .publisher = fixed.publisher,
      .seals = message_seal(word1, list_crc, ref.index, ref.generation)};
  if (media_.observed() || seeded_bug("chain.word0_last")) [[unlikely]] {
    store_observed(d, words);
    return crc;
  }
  // The order of the stores is that of store_observed().
  media_.store_unobserved(&d.state, words.state);               // [generation-first]
  media_.store_unobserved(&d.extent, words.extent);             // [generation-first]
  media_.store_unobserved(&d.sizes, words.sizes);               // [generation-first]
  media_.store_unobserved(&d.check, words.check);               // [generation-first]
  media_.store_unobserved(&d.expires_ns, words.expires_ns);     // [generation-first]
  media_.store_unobserved(&d.published_ns, words.published_ns); // [generation-first]
  media_.store_unobserved(&d.publisher, words.publisher);       // [generation-first]
  media_.store_unobserved(&d.seals, words.seals);               // [generation-first]
  return crc;
}

// Stores the words of a descriptor for an observer of the seam. The words come by value, so that
// they need not lie in memory where there is none.
[[gnu::noinline, gnu::cold]] void message_table::store_observed(message_descriptor& d,
                                                                message_descriptor by) noexcept {
  const std::uint64_t words[] = {by.state,      by.extent,       by.sizes,     by.check,
                                 by.expires_ns, by.published_ns, by.publisher, by.seals};
  static_assert(sizeof(words) == sizeof(message_descriptor));
  if (seeded_bug("chain.word0_last")) [[unlikely]] {
    for (std::size_t i = 1; i <= std::size(words); ++i)
      media_.store(&d.state + i % std::size(words), words[i % std::size(words)]);
    return;
  }
  // [generation-first] Crash between: word 0 is staged, so the words behind it mean nothing. In the
  // other order the old generation, still published, could stand over new words.
  media_.store_run(&d.state, words); // [generation-first]
}

void message_table::stage(message& m) noexcept {
  CHAINRING_EXPECTS(m.to_write.remaining() == 0,
                    "stage() of a message whose bytes are not all there; call copy_in() for the "
                    "rest first");
  m.crc = store_staged(m.fields, m.ref, m.chains, m.crc, m.list_crc);
}

bool message_table::stage_one(const message_fields& fields, std::string_view topic,
                              std::span<const std::byte> payload, staged_message& out) noexcept {
  CHAINRING_ASSERT(fields.qos <= 2 && (fields.flags & ~message_flags_known) == 0 &&
                   fields.properties_size == 0 && fields.topic_size == topic.size() &&
                   fields.payload_size == payload.size() && !fields.held &&
                   !fields.identifier_open);
  const auto size = static_cast<std::uint32_t>(topic.size() + payload.size());
  const std::uint64_t blocks = blocks_.blocks_for(size);
  chain c;
  if (blocks > block_store::cached_length_max ||
      !blocks_.try_allocate(static_cast<std::uint32_t>(blocks), c)) [[unlikely]]
    return false;
  std::uint32_t index = 0, next = 0;
  if (!state_->pool.take(index, next)) [[unlikely]] {
    blocks_.release(c);
    return false;
  }
  prefetch(next); // a burst stages its messages one behind the other
  const message_word1 chains{c.first, c.blocks, false};
  const message_ref ref = own(index, chains);
  std::byte* const bytes = blocks_.address(c);
  std::uint32_t crc = media_.write_summed(bytes, topic.data(), topic.size(), 0);
  crc = media_.write_summed(bytes + topic.size(), payload.data(), payload.size(), crc);
  (void)store_staged(fields, ref, chains, crc, 0);
  out = {ref, size, fields.topic_size, bytes};
  return true;
}

void message_table::flush_staged(const message& m) noexcept {
  std::uint64_t left = m.fields.size();
  if (seeded_bug("chain.taken_not_flushed") && m.fields.properties_size != 0)
    left -= m.fields.payload_size;
  auto flush_content = [&](const chain& c) {
    const std::uint64_t n = std::min(left, blocks_.size_of(c));
    // [content-before-publish] Crash between: the descriptor is staged or still of the generation
    // before, every slot that names it is void and its blocks are unreachable. The publisher was
    // not acknowledged.
    media_.flush(blocks_.address(c), n);
    left -= n;
  };
  if (m.chains.list) {
    const chain head{m.chains.first, 1};
    const auto* list = reinterpret_cast<const std::uint64_t*>(blocks_.address(head));
    for (std::uint32_t i = 0; i < m.chains.count; ++i)
      flush_content(unpack_extent(list[i]));
    const std::uint64_t list_bytes = std::uint64_t{m.chains.count} * sizeof(message_extent);
    if (!seeded_bug("chain.list_not_flushed"))
      // [extents-before-publish] Without it a published message could name blocks that it never
      // had.
      media_.flush(list, list_bytes);
  } else if (m.chains.count != 0) {
    flush_content({m.chains.first, m.chains.count});
  }
}

void message_table::flush_staged(const staged_message& m) noexcept {
  media_.flush(m.bytes, m.size); // [content-before-publish]
}

bool message_table::lost(const message& m) const noexcept {
  const auto gone = [&](const chain& c) {
    return media_.lost(blocks_.address(c), blocks_.size_of(c));
  };
  if (m.chains.count == 0) return false;
  if (!m.chains.list) return gone({m.chains.first, m.chains.count});
  const auto* list = reinterpret_cast<const std::uint64_t*>(blocks_.address({m.chains.first, 1}));
  return std::any_of(list, list + m.chains.count,
                     [&](std::uint64_t w) { return gone(unpack_extent(w)); });
}

bool message_table::lost(const staged_message& m) const noexcept {
  return media_.lost(m.bytes, m.size);
}

void message_table::publish(const message& m) noexcept {
  message_descriptor& d = descriptor_of(m.ref.index);
  // [message-published] Without it a reader of the message could see old bytes of its content.
  media_.store_release(&d.state,
                       message_word0{m.ref.generation,
                                     m.fields.held ? message_state::held : message_state::published,
                                     m.fields.identifier_open}
                           .pack());
}

void message_table::publish(const staged_message& m) noexcept {
  const message_word0 word{m.ref.generation, message_state::published, false};
  media_.store_release(&descriptor_of(m.ref.index).state, word.pack()); // [message-published]
}

void message_table::flush_descriptor(std::uint32_t index) noexcept {
  // [publication-before-ack] Crash between: the message is in every queue or in none, as word 0
  // says.
  media_.flush(&descriptor_of(index), sizeof(message_descriptor));
}

void message_table::discard(message& m) noexcept {
  drop_reference(m.ref.index);
  m = message{};
}

void message_table::discard(staged_message& m) noexcept {
  drop_reference(m.ref.index);
  m = staged_message{};
}

// --- what is published ---------------------------------------------------------------------------

bool message_table::publish_held(message_ref ref) noexcept {
  message_descriptor& d = descriptor_of(ref.index);
  std::uint64_t found = load_state(d);
  auto word = message_word0::unpack(found);
  while (word.generation == ref.generation && word.state == message_state::held) {
    word.state = message_state::published;
    // [will-published] Without it a change that another thread makes to the word could be undone.
    if (media_.compare_exchange(&d.state, found, word.pack())) return true;
    word = message_word0::unpack(found);
  }
  return false;
}

bool message_table::close_identifier(message_ref ref) noexcept {
  message_descriptor& d = descriptor_of(ref.index);
  std::uint64_t found = load_state(d);
  auto word = message_word0::unpack(found);
  while (word.generation == ref.generation && word.identifier_open) {
    word.identifier_open = false;
    // [identifier-closed] Without it a change that another thread makes to the word could be
    // undone.
    if (media_.compare_exchange(&d.state, found, word.pack())) return true;
    word = message_word0::unpack(found);
  }
  return false;
}

// Calls fn() while no thread counts a reference that it has from nobody. Returns false if one may;
// then the caller needs locked instructions.
template <class F> inline bool message_table::alone(F&& fn) noexcept {
  unsigned row = 0;
  if (!detail::own_row(row)) [[unlikely]]
    return false;
  auto& busy = state_->markers[row].busy;
  if (!state_->gate.enter(busy)) [[unlikely]]
    return false;
  const bool done = fn();
  state_->gate.leave(busy);
  return done;
}

void message_table::add_references(std::uint32_t index, std::uint32_t n) noexcept {
  auto& count = state_->entries[index].references;
  // A thread that holds the only reference needs no locked instruction: no other thread can add or
  // drop one.
  const bool added = alone([&] {
    if (count.load(std::memory_order_acquire) != 1) return false; // [reference-dropped]
    hook_point("message.only_reference_found");
    count.store(n + 1, std::memory_order_relaxed);                // [reference-owned]
    return true;
  });
  if (!added) count.fetch_add(n, std::memory_order_relaxed); // [reference-owned]
}

// Makes a count of n, all of them this thread's, 0. Such a thread needs no locked instruction: no
// other thread can add one. Returns false if there are more, or if one may be added.
inline bool message_table::drop_all(std::atomic<std::uint32_t>& count, std::uint32_t n) noexcept {
  return alone([&] {
    // [reference-dropped] Without it blocks could be reused while another holder still reads them.
    if (count.load(std::memory_order_acquire) != n) return false;
    hook_point("message.last_reference_found");
    count.store(0, std::memory_order_relaxed); // [reference-owned]
    return true;
  });
}

// [removal-before-drop] Crash between: the place is gone, and recovery counts the places that are
// left.
bool message_table::drop_reference(std::uint32_t index, std::uint32_t n) noexcept {
  auto& count = state_->entries[index].references;
  if (seeded_bug("chain.freed_at_one_left") && references(index) == n + 1) ++n;
  if (!drop_all(count, n)) {
    const std::uint32_t before =
        count.fetch_sub(n, std::memory_order_acq_rel); // [reference-dropped]
    CHAINRING_EXPECTS(before >= n && before < state::damaged, detail::reference_dropped_twice);
    if (before != n) return false;
  }
  give_back(index);
  return true;
}

bool message_table::drop_place(message_ref ref) noexcept {
  if (ref.index >= count()) return false;
  const std::uint64_t found = load_state(descriptor_of(ref.index));
  if (!message_word0::well_formed(found) ||
      message_word0::unpack(found).generation != ref.generation)
    return false;
  // Nearly all places have the last reference of their message.
  if (drop_all(state_->entries[ref.index].references, 1)) [[likely]] {
    give_back(ref.index);
    return true;
  }
  return references(ref.index) != 0 && drop_reference(ref.index);
}

void message_table::give_back(std::uint32_t index) noexcept {
  const auto chains = message_word1::unpack(state_->entries[index].word1());
  if (chains.list) [[unlikely]]
    release_list(chains);
  else if (chains.count != 0)
    blocks_.release({chains.first, chains.count});
  state_->pool.give(index);
}

[[gnu::noinline]] void message_table::release_list(message_word1 chains) noexcept {
  const std::uint64_t bytes = std::uint64_t{chains.count} * sizeof(message_extent);
  const chain list{chains.first, static_cast<std::uint32_t>(blocks_.blocks_for(bytes))};
  const auto* extents = reinterpret_cast<const std::uint64_t*>(blocks_.address(list));
  for (std::uint32_t i = 0; i < chains.count; ++i)
    if (const chain c = unpack_extent(extents[i]); blocks_.valid(c)) blocks_.release(c);
  blocks_.release_required(list);
}

std::uint32_t message_table::references(std::uint32_t index) const noexcept {
  // [message-counts-shown]
  const std::uint32_t n = state_->entries[index].references.load(std::memory_order_relaxed);
  return n < state::damaged ? n : 0;
}

std::uint64_t message_table::size_of(std::uint32_t index) const noexcept {
  return index < count() ? words_of(index).size() : 0;
}

void message_table::prefetch(std::uint32_t index) const noexcept {
  if (index >= count()) return;
  __builtin_prefetch(&descriptor_of(index));
  __builtin_prefetch(&state_->entries[index], 1);
}

void message_table::prefetch_content(std::uint32_t index) const noexcept {
  if (index >= count()) return;
  const auto chains = message_word1::unpack(state_->entries[index].word1());
  if (chains.list || chains.count == 0) return;
  const std::byte* const at = blocks_.address({chains.first, chains.count});
  __builtin_prefetch(at);
  __builtin_prefetch(at + cacheline_size);
}

// --- reading, with every bound checked -----------------------------------------------------------

const char* message_table::invalid(message_ref ref, const words& w, bool list_too) const noexcept {
  if ((w.check >> 48 & 3) > 2) return "its QoS is more than 2";
  if ((w.check >> 50 & 0x3f & ~std::uint64_t{message_flags_known}) != 0)
    return "it has unknown flags";
  const auto unsealed = [&](std::uint32_t list_crc) -> const char* {
    const std::uint32_t seal = message_seal(w.extent.pack(), list_crc, ref.index, ref.generation);
    const bool sealed = seal == static_cast<std::uint32_t>(w.seals) || seal == w.seals >> 32;
    return sealed ? nullptr : "its chain fails its seal";
  };
  const std::uint64_t blocks = blocks_.blocks_for(w.size());
  if (blocks == 0) return w.extent.pack() != 0 ? "it is empty and names a chain" : unsealed(0);
  if (!w.extent.list) {
    const chain c{w.extent.first, w.extent.count};
    if (!blocks_.valid(c)) return "its chain lies outside the block store";
    return c.blocks != blocks ? "its chain and its sizes differ" : unsealed(0);
  }
  if (w.extent.count < 2 || w.extent.count > extents_max)
    return "its extent list has an impossible length";
  const std::uint64_t list_bytes = std::uint64_t{w.extent.count} * sizeof(message_extent);
  const chain list{w.extent.first, static_cast<std::uint32_t>(blocks_.blocks_for(list_bytes))};
  if (!blocks_.valid(list)) return "its extent list lies outside the block store";
  if (!list_too) return nullptr;
  const auto* extents = reinterpret_cast<const std::uint64_t*>(blocks_.address(list));
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < w.extent.count; ++i) {
    const chain c = unpack_extent(extents[i]);
    if (!blocks_.valid(c)) return "an extent lies outside the block store";
    sum += c.blocks;
  }
  return sum != blocks ? "its extents and its sizes differ"
                       : unsealed(crc32c(0, extents, list_bytes));
}

message_table::words message_table::words_of(std::uint32_t index) const noexcept {
  const message_descriptor& d = descriptor_of(index);
  // [extent-read] Without it a reader could follow a list that is not visible yet, or find no seal
  // for a chain that was moved.
  const std::uint64_t word1 =
      std::atomic_ref(const_cast<std::uint64_t&>(d.extent)).load(std::memory_order_acquire);
  // [seals-behind-extent] Without it the seals could be older than word 1 and seal neither chain.
  const std::uint64_t seals = std::atomic_ref(const_cast<std::uint64_t&>(d.seals))
                                  .load(std::memory_order_relaxed); // [seals-behind-extent]
  return {message_word1::unpack(word1), d.sizes, d.check, seals};
}

const char* message_table::examine(std::uint32_t index, message_view& out) const noexcept {
  return examine({index, message_word0::unpack(load_state(descriptor_of(index))).generation}, out);
}

const char* message_table::examine(message_ref ref, message_view& out) const noexcept {
  const words w = words_of(ref.index);
  const char* const reason = invalid(ref, w);
  if (reason == nullptr) fill(ref, w, out);
  return reason;
}

// Fills in everything but what word 0 says. The words are valid.
void message_table::fill(message_ref ref, const words& w, message_view& out) const noexcept {
  const message_descriptor& d = descriptor_of(ref.index);
  out.ref = ref;
  message_fields& f = out.fields;
  f.payload_size = static_cast<std::uint32_t>(w.sizes);
  f.topic_size = static_cast<std::uint16_t>(w.sizes >> 32);
  f.properties_size = w.properties();
  out.crc = static_cast<std::uint32_t>(w.check);
  f.packet_id = static_cast<std::uint16_t>(w.check >> 32);
  f.qos = static_cast<std::uint8_t>(w.check >> 48 & 3);
  f.flags = static_cast<std::uint8_t>(w.check >> 50 & 0x3f);
  f.expires_ns = d.expires_ns;
  f.published_ns = d.published_ns;
  f.publisher_session = static_cast<std::uint32_t>(d.publisher);
  f.publisher_incarnation = static_cast<std::uint32_t>(d.publisher >> 32);
  message_cursor at;
  at.blocks_ = &blocks_;
  at.remaining_ = w.size();
  if (w.extent.list) [[unlikely]] {
    at.list_ = reinterpret_cast<const std::uint64_t*>(blocks_.address({w.extent.first, 1}));
    at.count_ = w.extent.count;
    at.next_extent();
  } else if (at.remaining_ != 0) {
    const chain c{w.extent.first, w.extent.count};
    at.at_ = blocks_.address(c);
    at.in_extent_ = blocks_.size_of(c);
  }
  out.all = at;
  out.topic = at;
  out.topic.remaining_ = f.topic_size;
  if (f.topic_size != 0) at.advance(f.topic_size);
  out.properties = at;
  out.properties.remaining_ = f.properties_size;
  if (f.properties_size != 0) [[unlikely]]
    at.advance(f.properties_size);
  out.payload = at;
}

message_status message_table::look_at_state(message_ref ref, bool held_counts,
                                            message_word0& word) const noexcept {
  if (ref.index >= count()) return message_status::out_of_range; // [index-beyond-table]
  const std::uint64_t found = load_state(descriptor_of(ref.index));
  if (!message_word0::well_formed(found)) return message_status::damaged; // [state-malformed]
  word = message_word0::unpack(found);
  // [other-generation]
  if (word.generation != ref.generation) return message_status::stale_generation;
  if (word.state != message_state::published && !(held_counts && word.state == message_state::held))
    return message_status::not_published; // [message-unpublished]
  return message_status::ok;
}

message_status message_table::look(message_ref ref, bool held_counts,
                                   message_view& out) const noexcept {
  message_word0 word;
  if (const message_status s = look_at_state(ref, held_counts, word); s != message_status::ok)
    return s;
  out.fields.held = word.state == message_state::held;
  out.fields.identifier_open = word.identifier_open;
  // The result is [message-whole] or [fields-invalid]. Only a recovery finds [blocks-claimed].
  return examine(ref, out) == nullptr ? message_status::ok : message_status::damaged;
}

bool message_table::published(message_ref ref) const noexcept {
  if (ref.index >= count()) return false;
  const std::uint64_t found = load_state(descriptor_of(ref.index));
  const auto word = message_word0::unpack(found);
  return message_word0::well_formed(found) && word.generation == ref.generation &&
         word.state == message_state::published;
}

bool message_table::held(message_ref ref) const noexcept {
  if (ref.index >= count()) return false;
  const std::uint64_t found = load_state(descriptor_of(ref.index));
  const auto word = message_word0::unpack(found);
  return message_word0::well_formed(found) && word.generation == ref.generation &&
         word.state == message_state::held;
}

// It makes the checks of look() and invalid() that such a message meets. Whatever fails one of them
// is left to look(), which finds the reason.
bool message_table::view_one_chain(message_ref ref, message_view& out) const noexcept {
  if (ref.index >= count()) return false;
  const std::uint64_t found = load_state(descriptor_of(ref.index));
  constexpr std::uint64_t open = message_word0{0, message_state::free, true}.pack();
  if ((found & ~open) != message_word0{ref.generation, message_state::published, false}.pack())
    return false;
  const words w = words_of(ref.index);
  constexpr std::uint64_t unknown = 0x3f & ~std::uint64_t{message_flags_known};
  const chain c{w.extent.first, w.extent.count};
  if (w.extent.list || (w.check >> 48 & 3) > 2 || (w.check >> 50 & unknown) != 0 || c.blocks == 0 ||
      c.blocks != blocks_.blocks_for(w.size()) || !blocks_.valid(c))
    return false;
  const std::uint32_t seal = message_seal(w.extent.pack(), 0, ref.index, ref.generation);
  if (seal != static_cast<std::uint32_t>(w.seals) && seal != w.seals >> 32) return false;
  out.fields.held = false;
  out.fields.identifier_open = (found & open) != 0;
  fill(ref, w, out);
  return true;
}

message_status message_table::view(message_ref ref, message_view& out) const noexcept {
  if (view_one_chain(ref, out)) [[likely]]
    return message_status::ok;
  return look(ref, false, out);
}

message_status message_table::view_held(message_ref ref, message_view& out) const noexcept {
  return look(ref, true, out);
}

bool message_table::verify(const message_view& v) const noexcept {
  const auto first = v.all.contiguous();
  std::uint32_t crc = crc32c(0, first.data(), first.size());
  if (first.size() != v.all.remaining()) [[unlikely]] {
    message_cursor at = v.all;
    at.advance(first.size());
    while (at.remaining() != 0) {
      const auto piece = at.contiguous();
      crc = crc32c(crc, piece.data(), piece.size());
      at.advance(piece.size());
    }
  }
  return detail::seal(crc, detail::pack_fields(v.fields), v.ref) == v.crc;
}

message_table_statistics message_table::statistics() const noexcept {
  message_table_statistics s;
  const auto free = state_->pool.count();
  s.descriptors = count();
  s.free = free.free;
  s.cached = free.cached;
  s.damaged = state_->damaged_count;
  s.live = s.descriptors - s.free - s.damaged;
  // [message-counts-shown]
  s.refused_descriptors = state_->refused_descriptors.load(std::memory_order_relaxed);
  // [message-counts-shown]
  s.refused_blocks = state_->refused_blocks.load(std::memory_order_relaxed);
  return s;
}

} // namespace chainring
