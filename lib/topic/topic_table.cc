// SPDX-License-Identifier: BSD-3-Clause
#include "topic/topic_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.h"
#include "base/crc32c.h"

namespace chainring {

namespace {

std::uint32_t mix(std::uint32_t a, std::uint32_t b) noexcept {
  std::uint64_t x = (static_cast<std::uint64_t>(a) << 32 | b) * 0x9e3779b97f4a7c15u; // 2^64 / phi
  return static_cast<std::uint32_t>(x >> 32);
}

template <class T> std::vector<std::uint32_t> all_free(const std::vector<T>& table) {
  std::vector<std::uint32_t> list(table.size());
  for (std::size_t i = 0; i < list.size(); ++i)
    list[i] = static_cast<std::uint32_t>(list.size() - 1 - i);
  return list;
}

} // namespace

topic_table::topic_table(std::uint32_t topics_max, std::uint32_t registrations_max,
                         std::uint32_t fan_out_max)
    : topics_(topics_max), registrations_(registrations_max),
      name_buckets_(std::bit_ceil(topics_max), none),
      id_buckets_(std::bit_ceil(registrations_max), none),
      topic_buckets_(std::bit_ceil(registrations_max), none), free_topics_(all_free(topics_)),
      free_registrations_(all_free(registrations_)), fan_out_(fan_out_max) {
  scratch_.reserve(fan_out_max);
}

std::string_view topic_table::name(std::uint32_t topic) const noexcept {
  return {topics_[topic].name, topics_[topic].length};
}

std::uint32_t topic_table::intern(std::string_view name) noexcept {
  CHAINRING_ASSERT(name.size() <= topic_length_max);
  const std::uint32_t hash = crc32c(0, name.data(), name.size());
  const std::size_t bucket = hash & (name_buckets_.size() - 1);
  for (std::uint32_t t = name_buckets_[bucket]; t != none; t = topics_[t].next_in_bucket)
    if (topics_[t].hash == hash && this->name(t) == name) return t;
  if (free_topics_.empty() && !reclaim()) return none;
  const std::uint32_t t = free_topics_.back();
  free_topics_.pop_back();
  topic_entry& e = topics_[t];
  e.hash = hash;
  e.next_in_bucket = name_buckets_[bucket];
  e.references = 0;
  e.match_version = 0;
  e.length = static_cast<std::uint8_t>(name.size());
  e.used = true;
  std::memcpy(e.name, name.data(), name.size());
  name_buckets_[bucket] = t;
  ++topics_used_;
  return t;
}

void topic_table::remove_topic(std::uint32_t topic) noexcept {
  topic_entry& e = topics_[topic];
  std::uint32_t* link = &name_buckets_[e.hash & (name_buckets_.size() - 1)];
  while (*link != topic)
    link = &topics_[*link].next_in_bucket;
  *link = e.next_in_bucket;
  e.used = false;
  free_topics_.push_back(topic);
  --topics_used_;
}

// Frees one topic that no registration holds, looking on from where the last search stopped.
bool topic_table::reclaim() noexcept {
  for (std::size_t looked = 0; looked < topics_.size(); ++looked) {
    const std::uint32_t t = hand_;
    hand_ = hand_ + 1 == topics_.size() ? 0 : hand_ + 1;
    if (topics_[t].used && topics_[t].references == 0) {
      remove_topic(t);
      return true;
    }
  }
  return false;
}

std::span<const subscriber> topic_table::subscribers(std::uint32_t topic, filter_index& filters,
                                                     unsigned reader) noexcept {
  topic_entry& e = topics_[topic];
  const std::uint64_t version = filters.version();
  if (e.match_version == version && e.match_epoch == fan_out_epoch_)
    return {fan_out_.data() + e.match_first, e.match_count};

  scratch_.clear();
  filters.match(reader, name(topic), [&](subscriber s) noexcept { scratch_.push_back(s); });
  // Each session once, with its highest QoS: the delivery bits hold the QoS lowest.
  std::ranges::sort(scratch_, [](const subscriber& a, const subscriber& b) {
    return a.session != b.session ? a.session < b.session : (a.options & 3) > (b.options & 3);
  });
  const auto doubles = std::ranges::unique(
      scratch_, [](const subscriber& a, const subscriber& b) { return a.session == b.session; });
  scratch_.erase(doubles.begin(), doubles.end());
  if (scratch_.size() > fan_out_.size()) return scratch_; // too wide to keep
  if (fan_out_used_ + scratch_.size() > fan_out_.size()) {
    fan_out_used_ = 0;
    ++fan_out_epoch_;
  }
  std::ranges::copy(scratch_, fan_out_.begin() + static_cast<std::ptrdiff_t>(fan_out_used_));
  e.match_first = static_cast<std::uint32_t>(fan_out_used_);
  e.match_count = static_cast<std::uint32_t>(scratch_.size());
  e.match_version = version;
  e.match_epoch = fan_out_epoch_;
  fan_out_used_ += scratch_.size();
  return {fan_out_.data() + e.match_first, e.match_count};
}

std::uint32_t topic_table::id_bucket(std::uint32_t session, std::uint16_t id) const noexcept {
  return mix(session, id) & static_cast<std::uint32_t>(id_buckets_.size() - 1);
}

std::uint32_t topic_table::topic_bucket(std::uint32_t session, std::uint32_t topic) const noexcept {
  return mix(topic, session) & static_cast<std::uint32_t>(topic_buckets_.size() - 1);
}

std::uint32_t topic_table::find_by_id(std::uint32_t session, std::uint16_t id) const noexcept {
  std::uint32_t r = id_buckets_[id_bucket(session, id)];
  while (r != none && !(registrations_[r].session == session && registrations_[r].id == id))
    r = registrations_[r].next_by_id;
  return r;
}

std::uint32_t topic_table::find_by_topic(std::uint32_t session,
                                         std::uint32_t topic) const noexcept {
  std::uint32_t r = topic_buckets_[topic_bucket(session, topic)];
  while (r != none && !(registrations_[r].session == session && registrations_[r].topic == topic))
    r = registrations_[r].next_by_topic;
  return r;
}

std::uint32_t topic_table::register_topic(std::uint32_t session, std::uint32_t& list,
                                          std::uint32_t topic) noexcept {
  if (const std::uint32_t r = find_by_topic(session, topic); r != none) return r;
  if (free_registrations_.empty()) return none;
  // The list is newest first; ids 0x0000 and 0xffff are reserved (MQTT-SN 1.2 section 5.3.11).
  const std::uint32_t newest = list == none ? 0 : registrations_[list].id;
  if (newest >= 0xfffe) return none;
  const std::uint32_t r = free_registrations_.back();
  free_registrations_.pop_back();
  registration& made = registrations_[r];
  made = registration{};
  made.topic = topic;
  made.session = session;
  made.id = static_cast<std::uint16_t>(newest + 1);
  made.next_of_session = list;
  list = r;
  std::uint32_t& by_id = id_buckets_[id_bucket(session, made.id)];
  made.next_by_id = by_id;
  by_id = r;
  std::uint32_t& by_topic = topic_buckets_[topic_bucket(session, topic)];
  made.next_by_topic = by_topic;
  by_topic = r;
  ++topics_[topic].references;
  ++registrations_used_;
  return r;
}

void topic_table::forget(std::uint32_t& list, std::uint32_t r) noexcept {
  registration& gone = registrations_[r];
  std::uint32_t* link = &list;
  while (*link != r)
    link = &registrations_[*link].next_of_session;
  *link = gone.next_of_session;
  link = &id_buckets_[id_bucket(gone.session, gone.id)];
  while (*link != r)
    link = &registrations_[*link].next_by_id;
  *link = gone.next_by_id;
  link = &topic_buckets_[topic_bucket(gone.session, gone.topic)];
  while (*link != r)
    link = &registrations_[*link].next_by_topic;
  *link = gone.next_by_topic;
  --topics_[gone.topic].references;
  gone = registration{};
  free_registrations_.push_back(r);
  --registrations_used_;
}

void topic_table::forget_all(std::uint32_t& list) noexcept {
  while (list != none)
    forget(list, list);
}

} // namespace chainring
