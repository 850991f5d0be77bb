// SPDX-License-Identifier: BSD-3-Clause
// Session records.
//
// Ordering labels:
//   [table-grown]  add_segment() stores the number of records with release; pairs with
//     [table-seen].
//   [table-seen]  count() loads the number of records with acquire before a number is used;
//     pairs with [table-grown].
//   [session-commit]  The home stores the commit word of a record with release, behind the
//     record's other words; pairs with [session-read].
//   [session-read]  Any thread loads the words of a record with acquire; pairs with
//     [session-commit].
//   [session-words]  The words of a record are stored before its commit word, in one line and
//     in program order; a long identity is drained before.
//   [settings-half]  The idle half of the settings is stored before the word that selects it,
//     in one line.
//   [settings-commit]  The word that selects a half is stored with release before the burst's
//     drain makes the settings durable.
//   [settings-before-state]  Settings that carry a will into the next incarnation are drained
//     before the commit word of that incarnation is stored. After a crash between the two the
//     record has settings of the incarnation behind its own, and they count for its own.
#include "broker/session_table.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <ctime>

#include "base/assert.h"
#include "base/hook.h"

namespace chainring {

namespace {

std::uint64_t load(const std::uint64_t& word) noexcept {
  // [session-read] Without it the other words of the line could be older than the commit word that
  // makes them valid.
  return std::atomic_ref(const_cast<std::uint64_t&>(word)).load(std::memory_order_acquire);
}

std::uint64_t now_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

} // namespace

result<void> session_table::add_segment(const table_segment& segment) {
  const std::uint32_t extents = extent_count_.load(std::memory_order_relaxed); // [table-seen]
  const std::uint32_t before = count_.load(std::memory_order_relaxed);         // [table-seen]
  if (extents == segments_max)
    return error{errc::no_space, std::string(noun_) + " records: the table already has " +
                                     std::to_string(segments_max) + " segments, which is the most"};
  if (segment.count == 0 || segment.count > UINT32_MAX - 1 - before)
    return error{
        errc::no_space,
        std::string(noun_) +
            " records: the table would have none or too many; expected 1 to 2^32 - 2 in all"};
  extents_[extents] = {before, static_cast<std::uint32_t>(segment.count),
                       reinterpret_cast<session_record*>(media_.base() + segment.offset)};
  // [table-grown] Without it a thread could get a number whose segment it does not see yet.
  extent_count_.store(extents + 1, std::memory_order_release);
  count_.store(before + static_cast<std::uint32_t>(segment.count),
               std::memory_order_release); // [table-grown]
  return {};
}

session_record& session_table::record(std::uint32_t number) const noexcept {
  const extent* e = extents_;
  while (number - e->first >= e->count)
    ++e;
  return e->records[number - e->first];
}

session_word0 session_table::word0(std::uint32_t number) const noexcept {
  return session_word0::unpack(load(record(number).state));
}

std::string_view session_table::identity(std::uint32_t number) const noexcept {
  const session_record& r = record(number);
  const std::size_t size = session_word1::unpack(r.attributes).identity_size;
  if (size <= identity_inline_max) return {reinterpret_cast<const char*>(r.identity), size};
  return {reinterpret_cast<const char*>(blocks_.address(long_identity(r))), size};
}

// Another thread may give the record to another session meanwhile. So the record is read word by
// word, and read again when its commit word has changed at the end.
std::string session_table::identity_seen(std::uint32_t number) const {
  const session_record& r = record(number);
  for (;;) {
    const std::uint64_t before = load(r.state); // [session-read]
    const std::size_t size = session_word1::unpack(load(r.attributes)).identity_size;
    std::uint64_t words[3];
    for (int i = 0; i < 3; ++i)
      words[i] = load(r.identity[i]); // [session-read]
    std::string text;
    const chain c{static_cast<std::uint32_t>(words[1]), static_cast<std::uint32_t>(words[1] >> 32)};
    if (size <= identity_inline_max) {
      text.assign(reinterpret_cast<const char*>(words), size);
    } else if (blocks_.valid(c) && size <= blocks_.size_of(c)) {
      text.resize(size);
      // The blocks may be reused and written meanwhile. Atomic loads make that harmless, and the
      // text is then discarded because the commit word has changed.
      const std::byte* from = blocks_.address(c);
      for (std::size_t i = 0; i < size; ++i)
        text[i] = static_cast<char>(std::atomic_ref(const_cast<std::byte&>(from[i]))
                                        .load(std::memory_order_relaxed)); // [session-read]

      // The fence keeps these loads before the last load of the commit word. [session-read]
      std::atomic_thread_fence(std::memory_order_acquire);
    }
    if (load(r.state) == before) return text; // [session-read]
  }
}

session_settings session_table::settings(std::uint32_t number) const noexcept {
  const session_settings s = settings_in(number, incarnation(number));
  if (s != session_settings{}) return s;
  return settings_in(number, incarnation(number) + 1); // a crash kept that one from beginning
}

session_settings session_table::settings_in(std::uint32_t number,
                                            std::uint32_t incarnation) const noexcept {
  const session_record& r = record(number);
  const std::uint64_t word = load(r.settings); // [session-read]
  const auto low = static_cast<std::uint32_t>(word);
  std::uint64_t half[3];
  for (int i = 0; i < 3; ++i)
    half[i] = load(r.halves[low & 1][i]); // [session-read]
  if (word == 0 || settings_check(number, incarnation, low, half) != word >> 32) return {};
  return {half[0], static_cast<std::uint32_t>(half[1]), static_cast<std::uint32_t>(half[1] >> 32),
          half[2]};
}

void session_table::store_settings(std::uint32_t number, session_record& r,
                                   std::uint32_t incarnation, const session_settings& s) noexcept {
  const auto before = static_cast<std::uint32_t>(load(r.settings)); // [session-read]
  const std::uint32_t active = ~before & 1;
  const std::uint32_t low = active | ((before >> 1) + 1) << 1;
  const std::uint64_t half[3] = {
      s.disconnected_ns, std::uint64_t{s.expiry_s} | std::uint64_t{s.will_delay_s} << 32, s.will};
  // [settings-half] Crash between: the former settings count.
  for (int i = 0; i < 3; ++i)
    media_.store(&r.halves[active][i], half[i]);
  const std::uint64_t word = low | std::uint64_t{settings_check(number, incarnation, low, half)}
                                       << 32;
  // [settings-commit] Crash between: the session has its former settings. The check of a later
  // incarnation does not fit the settings of an earlier one, so undrained settings never carry
  // over.
  media_.store_release(&r.settings, word);
}

bool session_table::create_start(std::uint32_t number, std::string_view identity,
                                 std::uint8_t flags, const session_settings& s) noexcept {
  session_record& r = record(number);
  CHAINRING_ASSERT(word0(number).state == session_state::free);
  CHAINRING_ASSERT(!identity.empty() && identity.size() <= identity_size_max);
  std::uint64_t words[3] = {};
  if (identity.size() <= identity_inline_max) {
    std::memcpy(words, identity.data(), identity.size());
  } else {
    chain c;
    if (!blocks_.allocate_required(static_cast<std::uint32_t>(blocks_.blocks_for(identity.size())),
                                   c))
      return false;
    media_.write(blocks_.address(c), identity.data(), identity.size());
    media_.flush(blocks_.address(c), identity.size()); // [session-words]
    // [session-words] Crash between: the record is free, because its commit word is not stored yet.
    media_.drain();
    words[0] = long_identity_hash(identity);
    words[1] = std::uint64_t{c.first} | std::uint64_t{c.blocks} << 32;
  }
  const std::uint32_t mine = incarnation(number);
  media_.store(&r.attributes, session_word1{static_cast<std::uint16_t>(identity.size()), 0}.pack());
  for (int i = 0; i < 3; ++i)
    media_.store(&r.identity[i], words[i]);
  media_.store(&r.created_ns, now_ns());
  media_.store(&r.check, session_check(number, r));
  store_settings(number, r, mine, s);
  // [session-commit] Without it another thread could see the record as used with words of its
  // former session.
  media_.store_release(&r.state, session_word0{session_state::used, flags, mine}.pack(number));
  return true;
}

void session_table::pass_settings(std::uint32_t number, const session_settings& s) noexcept {
  if (seeded_bug("broker.will_settings_with_state")) return;
  session_record& r = record(number);
  store_settings(number, r, incarnation(number) + 1, s);
  media_.flush(&r.settings, cacheline_size); // [settings-before-state]
  // [settings-before-state] Without this drain the next incarnation could be durable without the
  // will, which would never be sent.
  media_.drain();
}

void session_table::end_start(std::uint32_t number, bool keep, std::uint8_t flags,
                              const session_settings& s) noexcept {
  session_record& r = record(number);
  const std::uint32_t next = incarnation(number) + 1;
  if (keep && settings_in(number, next) != s) store_settings(number, r, next, s);
  media_.store_release(
      &r.state, session_word0{keep ? session_state::used : session_state::free, flags, next}.pack(
                    number)); // [session-commit]
}

void session_table::end_finish(std::uint32_t number) noexcept {
  const session_record& r = record(number);
  if (session_word1::unpack(r.attributes).identity_size > identity_inline_max)
    blocks_.release_required(long_identity(r));
}

void session_table::flags_start(std::uint32_t number, std::uint8_t flags) noexcept {
  media_.store_release(&record(number).state,
                       session_word0{session_state::used, flags, incarnation(number)}.pack(
                           number)); // [session-commit]
}

void session_table::settings_start(std::uint32_t number, const session_settings& s) noexcept {
  store_settings(number, record(number), incarnation(number), s);
}

void session_table::flush_record(std::uint32_t number) noexcept {
  if (seeded_bug("broker.no_session_flush")) return;
  const session_record& r = record(number);
  media_.flush(&r, sizeof r); // [session-commit] [settings-commit]
}

} // namespace chainring
