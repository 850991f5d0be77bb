// SPDX-License-Identifier: BSD-3-Clause
#include "broker/retained.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/assert.h"
#include "base/hook.h"
#include "topic/topic.h"

namespace chainring {

retained_table::retained_table(const options& o) : options_(o), key_(make_hash_key(0)) {
  entries_.make(std::min(o.topics, o.messages_max), std::max(o.topics_ceiling, o.topics));
  chains_.make(std::max(o.topics_ceiling, o.topics));
  arena_.make(o.name_bytes_max);
}

std::uint32_t retained_table::find_locked(std::string_view topic, std::uint32_t hash) noexcept {
  return chains_.find(entries_, hash, [&](std::uint32_t i) { return this->topic(i) == topic; });
}

// Makes an entry without a message. Returns none when there is no room.
std::uint32_t retained_table::make(std::string_view topic, std::uint32_t hash) noexcept {
  if (entries_.full()) return none;
  const std::uint32_t name = arena_.allocate(topic.size());
  if (name == detail::name_arena::none) return none;
  std::memcpy(arena_.at(name), topic.data(), topic.size());
  const std::uint32_t n = entries_.take();
  entries_[n].name = name;
  entries_[n].length = static_cast<std::uint32_t>(topic.size());
  entries_[n].used = true;
  chains_.insert(entries_, n, hash);
  return n;
}

void retained_table::remove(std::uint32_t n) noexcept {
  chains_.erase(entries_, n);
  arena_.free(entries_[n].name, entries_[n].length);
  entries_.give(n);
}

bool retained_table::add(std::string_view topic, const retained_message& now,
                         const retained_message* before) noexcept {
  const std::lock_guard guard(lock_);
  (void)entries_.raise_limit(entries_.used() + 1); // what was retained stays so
  const std::uint32_t n = make(topic, static_cast<std::uint32_t>(keyed_hash(key_, topic)));
  if (n == none) return false;
  entry& e = entries_[n];
  e.now = now;
  e.has = now.payload_size != 0;
  bytes_ += now.bytes;
  messages_ += e.has;
  if (before != nullptr) {
    e.current = before->word();
    e.current_bytes = before->bytes;
    bytes_ += before->bytes;
  }
  return true;
}

void retained_table::reserve(std::uint32_t topics) noexcept {
  const std::lock_guard guard(lock_);
  (void)entries_.raise_limit(std::min(topics, options_.messages_max));
}

void retained_table::turn_list::add(std::uint16_t party) noexcept {
  const auto end = parties_.begin() + static_cast<std::ptrdiff_t>(count_);
  if (count_ != parties_max && std::find(parties_.begin(), end, party) == end)
    parties_[count_++] = party;
}

void retained_table::turn_list::remove(std::uint16_t party) noexcept {
  const auto end = parties_.begin() + static_cast<std::ptrdiff_t>(count_);
  count_ = static_cast<std::size_t>(std::remove(parties_.begin(), end, party) - parties_.begin());
}

// Says whether another party is before this one, or has the claim.
bool retained_table::must_wait(entry& e, const asker& by) noexcept {
  if (seeded_bug("broker.retained_unclaimed")) return false;
  if (e.state != claim_state::idle) {
    if (by.stays) e.turns.add(by.party);
    return true;
  }
  while (!e.turns.empty() && (by.newcomer || e.turns.first() != by.party)) {
    if (e.kept_since_tsc == 0) e.kept_since_tsc = by.now_tsc;
    if (by.now_tsc <= e.kept_since_tsc + by.patience_tsc) {
      if (by.stays) e.turns.add(by.party);
      return true;
    }
    e.turns.remove(e.turns.first()); // it has given up
    e.kept_since_tsc = 0;
  }
  return false;
}

retained_table::claim_status retained_table::take(std::string_view topic, std::uint64_t size,
                                                  bool clears, const asker& by,
                                                  claim& out) noexcept {
  const std::uint64_t bytes = blocks_of(size);
  const auto hash = static_cast<std::uint32_t>(keyed_hash(key_, topic));
  const std::lock_guard guard(lock_);
  std::uint32_t n = find_locked(topic, hash);
  if (n == none && clears) return claim_status::nothing;
  if (n != none) {
    if (must_wait(entries_[n], by)) return claim_status::wait;
    entries_[n].turns.remove(by.party);
    entries_[n].kept_since_tsc = 0;
  }
  // The message before the present one is given up by the new one. A topic can always be cleared.
  const std::uint64_t less = n == none ? 0 : entries_[n].current_bytes;
  if (!clears && bytes_ - less + bytes > options_.bytes_max) return claim_status::full;
  if (n == none) n = make(topic, hash);
  if (n == none) return claim_status::full;
  entry& e = entries_[n];
  e.state = claim_state::publishing;
  e.claimed_bytes = bytes;
  bytes_ += bytes;
  out = {n, e.has ? e.now.word() : 0};
  return claim_status::claimed;
}

bool retained_table::take_expired(std::uint32_t n, std::uint64_t now_ns, claim& out) noexcept {
  const std::lock_guard guard(lock_);
  if (n >= entries_.touched()) return false;
  entry& e = entries_[n];
  if (!e.used || !e.has || e.state != claim_state::idle || !e.now.expired(now_ns)) return false;
  e.state = claim_state::publishing;
  out = {n, e.now.word()};
  return true;
}

void retained_table::abandon(std::uint32_t n) noexcept {
  const std::lock_guard guard(lock_);
  entry& e = entries_[n];
  bytes_ -= e.claimed_bytes;
  e.claimed_bytes = 0;
  e.state = claim_state::idle;
  if (!e.has) remove(n);
}

std::uint64_t retained_table::accept(std::uint32_t n, const retained_message& m,
                                     std::uint64_t matched_version) noexcept {
  const std::lock_guard guard(lock_);
  entry& e = entries_[n];
  const std::uint64_t no_longer = e.current;
  bytes_ -= e.current_bytes;
  messages_ -= e.has;
  e.current = e.has ? e.now.word() : 0;
  e.current_bytes = e.has ? e.now.bytes : 0;
  e.now = m;
  e.now.bytes = e.claimed_bytes;
  e.claimed_bytes = 0;
  e.now_version = matched_version;
  e.has = m.payload_size != 0;
  messages_ += e.has;
  e.state = e.has ? claim_state::idle : claim_state::tidying;
  return no_longer;
}

std::uint64_t retained_table::refuse(std::uint32_t n, std::uint64_t word) noexcept {
  const std::lock_guard guard(lock_);
  entry& e = entries_[n];
  const std::uint64_t no_longer = e.current;
  bytes_ -= e.current_bytes;
  e.current = 0;
  e.current_bytes = 0;
  e.refused = word;
  e.state = claim_state::tidying;
  return no_longer;
}

retained_value retained_table::tidy_value(std::uint32_t n) noexcept {
  const std::lock_guard guard(lock_);
  const entry& e = entries_[n];
  return {e.has ? e.now.word() : 0, 0};
}

retained_value retained_table::tidied(std::uint32_t n) noexcept {
  const std::lock_guard guard(lock_);
  entry& e = entries_[n];
  if (e.has) { // a candidate was refused
    bytes_ -= e.claimed_bytes;
    e.claimed_bytes = 0;
    e.state = claim_state::idle;
    return {std::exchange(e.refused, 0), 0};
  }
  const retained_value named = {e.refused != 0 ? e.refused : e.now.word(), e.current};
  bytes_ -= e.claimed_bytes + e.current_bytes + (e.refused != 0 ? 0 : e.now.bytes);
  remove(n);
  return named;
}

retained_value retained_table::erased(std::uint32_t n) noexcept {
  const std::lock_guard guard(lock_);
  const entry& e = entries_[n];
  const retained_value named = {e.has ? e.now.word() : 0, e.current};
  bytes_ -= e.claimed_bytes + e.current_bytes + (e.has ? e.now.bytes : 0);
  messages_ -= e.has;
  remove(n);
  return named;
}

retained_table::look_status retained_table::look(std::uint32_t n, std::string_view filter,
                                                 std::uint64_t version, message_table& messages,
                                                 retained_message& out) noexcept {
  const std::lock_guard guard(lock_);
  if (n >= entries_.touched()) return look_status::nothing;
  const entry& e = entries_[n];
  if (!e.used || !topic_matches(filter, topic(n))) return look_status::nothing;
  // The publisher has found the subscription, which got this message as any other.
  if (e.has && e.now_version >= version) return look_status::nothing;
  if (e.state == claim_state::publishing) return look_status::wait;
  if (!e.has) return look_status::nothing;
  messages.add_references(e.now.ref.index, 1);
  out = e.now;
  return look_status::found;
}

std::uint32_t retained_table::find(std::string_view topic) noexcept {
  const auto hash = static_cast<std::uint32_t>(keyed_hash(key_, topic));
  const std::lock_guard guard(lock_);
  return find_locked(topic, hash);
}

std::uint32_t retained_table::size() noexcept {
  const std::lock_guard guard(lock_);
  return entries_.used() == 0 ? 0 : entries_.touched();
}

bool retained_table::show(std::uint32_t n, std::string& topic, retained_message& out) {
  const std::lock_guard guard(lock_);
  if (n >= entries_.touched() || !entries_[n].has) return false;
  topic.assign(this->topic(n));
  out = entries_[n].now;
  return true;
}

retained_table::statistics retained_table::count() noexcept {
  const std::lock_guard guard(lock_);
  return {messages_, bytes_, std::min<std::uint64_t>(options_.messages_max, entries_.limit()),
          options_.bytes_max};
}

} // namespace chainring
