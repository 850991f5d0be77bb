// SPDX-License-Identifier: BSD-3-Clause
#include "mqttsn/registrations.h"

#include <stdexcept>
#include <string>

#include "base/assert.h"
#include "topic/topic.h"

namespace chainring::mqttsn {

namespace {

constexpr std::uint16_t id_max = registrations::id_max;

void check(const char* what, std::uint32_t value, std::uint32_t most) {
  if (value < 1 || value > most)
    throw std::invalid_argument("registrations: " + std::string(what) + " " +
                                std::to_string(value) + ": expected 1 to " + std::to_string(most));
}

const registrations::options& checked(const registrations::options& o) {
  check("entries_max", o.entries_max, 1u << 30);
  check("per_session_max", o.per_session_max, id_max / 4);
  check("first_id", o.first_id, registrations::first_id_max(o.per_session_max));
  return o;
}

} // namespace

registrations::registrations(topic_names& names, const options& o)
    : names_(names), key_(make_hash_key(checked(o).seed)), per_session_max_(o.per_session_max),
      first_id_(o.first_id) {
  entries_.make(o.entries_max, o.entries_max);
  lists_.make(o.entries_max, o.entries_max);
  ids_.make(o.entries_max);
  topics_.make(o.entries_max);
}

std::uint32_t registrations::id_hash(std::uint32_t session, std::uint16_t id) const noexcept {
  return keyed_mix(key_, session, id);
}

std::uint32_t registrations::topic_hash(std::uint32_t session, std::uint32_t topic) const noexcept {
  return keyed_mix(key_, topic, session);
}

std::uint32_t registrations::find_by_id(std::uint32_t session, std::uint16_t id) const noexcept {
  return ids_.find(entries_, id_hash(session, id), [&](std::uint32_t r) noexcept {
    return entries_[r].session == session && entries_[r].id == id;
  });
}

std::uint32_t registrations::find_by_topic(std::uint32_t session,
                                           std::uint32_t topic) const noexcept {
  return topics_.find(entries_, topic_hash(session, topic), [&](std::uint32_t r) noexcept {
    return entries_[r].session == session && entries_[r].topic == topic;
  });
}

std::uint32_t registrations::count_of(std::uint32_t list) const noexcept {
  return list == none ? 0 : lists_[list].count;
}

// Returns the id after the last one that was given out. When the ids have gone round, that id may
// be in use; then ids are tried in an order that a client cannot predict.
std::uint16_t registrations::free_id(std::uint32_t session, std::uint16_t last) const noexcept {
  std::uint16_t id =
      last < first_id_ || last == id_max ? first_id_ : static_cast<std::uint16_t>(last + 1);
  for (std::uint32_t attempt = 1; find_by_id(session, id) != none; ++attempt)
    id = static_cast<std::uint16_t>(first_id_ + keyed_mix(key_, last, attempt) % ids_count());
  return id;
}

// Returns false when there is no room; last_refusal() then says where.
bool registrations::has_room(std::uint32_t& list) noexcept {
  if (count_of(list) >= per_session_max_) {
    last_refusal_ = refusal::session_limit;
    return false;
  }
  if (list != none || (list = lists_.take()) != none) return true;
  last_refusal_ = refusal::table_full;
  return false;
}

void registrations::link(std::uint32_t list, std::uint32_t r) noexcept {
  list_entry& owner = lists_[list];
  entry& e = entries_[r];
  e.list = list;
  e.before = none;
  e.after = owner.first;
  (owner.first == none ? owner.last : entries_[owner.first].before) = r;
  owner.first = r;
  ++owner.count;
}

void registrations::unlink(std::uint32_t r) noexcept {
  const entry& e = entries_[r];
  list_entry& owner = lists_[e.list];
  (e.before == none ? owner.first : entries_[e.before].after) = e.after;
  (e.after == none ? owner.last : entries_[e.after].before) = e.before;
  --owner.count;
}

std::uint32_t registrations::add(std::uint32_t session, std::uint32_t& list,
                                 std::uint32_t topic) noexcept {
  if (const std::uint32_t r = find_by_topic(session, topic); r != none) return r;
  if (entries_.full()) {
    last_refusal_ =
        count_of(list) >= per_session_max_ ? refusal::session_limit : refusal::table_full;
    return none;
  }
  if (!has_room(list)) return none;
  const std::uint32_t r = entries_.take();
  entry& made = entries_[r];
  made.topic = topic;
  made.session = session;
  made.of_broker = is_system_topic(names_.name(topic));
  made.id = lists_[list].last_id = free_id(session, lists_[list].last_id);
  link(list, r);
  ids_.insert(entries_, r, id_hash(session, made.id));
  topics_.insert(entries_, r, topic_hash(session, topic));
  names_.hold(topic);
  return r;
}

void registrations::move(std::uint32_t& list, std::uint32_t r) noexcept {
  if (entries_[r].list == list || !has_room(list)) return;
  unlink(r);
  link(list, r);
}

std::uint32_t registrations::oldest(std::uint32_t list) const noexcept {
  return list == none ? none : lists_[list].last;
}

void registrations::forget(std::uint32_t r) noexcept {
  unlink(r);
  ids_.erase(entries_, r);
  topics_.erase(entries_, r);
  names_.release(entries_[r].topic);
  entries_.give(r);
}

void registrations::forget_judgements(std::uint32_t list) noexcept {
  if (list == none) return;
  for (std::uint32_t r = lists_[list].first; r != none; r = entries_[r].after)
    entries_[r].publish_judged = entries_[r].deliver_judged = 0;
}

void registrations::forget_all(std::uint32_t& list) noexcept {
  if (list == none) return;
  while (lists_[list].first != none)
    forget(lists_[list].first);
  lists_.give(list);
  list = none;
}

} // namespace chainring::mqttsn
