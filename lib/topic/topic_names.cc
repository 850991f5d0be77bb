// SPDX-License-Identifier: BSD-3-Clause
#include "topic/topic_names.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "base/assert.h"

namespace chainring {

namespace {

// The most names that a call gives up to make room: as many of the smallest blocks as the name of
// full length covers.
constexpr unsigned reuse_max = 65536 / detail::name_arena::unit_size;

void check(const char* what, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  if (value < least || value > most)
    throw std::invalid_argument("topic_names: " + std::string(what) + " is " +
                                std::to_string(value) + ", expected " + std::to_string(least) +
                                " to " + std::to_string(most));
}

const topic_names::options& checked(const topic_names::options& o) {
  check("topics_max", o.topics_max, 1, 1u << 30);
  check("fan_out_max", o.fan_out_max, 1, 1u << 30);
  check("name_bytes_max", o.name_bytes_max, 1, detail::name_arena::bytes_limit);
  return o;
}

bool by_session(const subscriber& a, const subscriber& b) noexcept {
  return a.session != b.session ? a.session < b.session : (a.options & 3) > (b.options & 3);
}

} // namespace

topic_names::topic_names(const options& o)
    : key_(make_hash_key(checked(o).seed)), fan_out_max_(o.fan_out_max),
      fan_out_size_(std::max(std::uint64_t{4} * o.fan_out_max, std::uint64_t{2} * o.topics_max)) {
  topics_.make(o.topics_max, o.topics_max);
  chains_.make(o.topics_max);
  arena_.make(o.name_bytes_max);
  if (!origins_.make(o.topics_max, true) || !fan_out_.make(fan_out_size_) ||
      !scratch_.make(std::size_t{2} * fan_out_max_))
    throw std::bad_alloc();
}

std::uint32_t topic_names::lookup(std::string_view name, std::uint32_t hash) const noexcept {
  return chains_.find(topics_, hash,
                      [&](std::uint32_t t) noexcept { return this->name(t) == name; });
}

std::uint32_t topic_names::find(std::string_view name) noexcept {
  const std::uint32_t t = lookup(name, static_cast<std::uint32_t>(keyed_hash(key_, name)));
  if (t != none) touch(t);
  return t;
}

std::uint32_t topic_names::intern(std::string_view name) noexcept {
  if (name.size() > detail::name_arena::length_max) return none;
  const auto hash = static_cast<std::uint32_t>(keyed_hash(key_, name));
  if (const std::uint32_t known = lookup(name, hash); known != none) {
    touch(known);
    return known;
  }
  if (topics_.full()) {
    if (oldest_ == none) return none;
    reuse_oldest();
  }
  std::uint32_t block = arena_.allocate(name.size());
  for (unsigned given_up = 0; block == none; block = arena_.allocate(name.size())) {
    if (oldest_ == none || given_up++ == reuse_max) return none;
    reuse_oldest();
  }
  const std::uint32_t t = topics_.take();
  topic_entry& e = topics_[t];
  e.name = block;
  e.length = static_cast<std::uint32_t>(name.size());
  std::memcpy(arena_.at(block), name.data(), name.size());
  chains_.insert(topics_, t, hash);
  append(t);
  return t;
}

void topic_names::begin_hold(std::uint32_t topic) noexcept {
  unlink(topic);
  ++held_;
}

void topic_names::end_hold(std::uint32_t topic) noexcept {
  append(topic);
  --held_;
}

void topic_names::touch(std::uint32_t topic) noexcept {
  if (topics_[topic].references != 0 || newest_ == topic) return;
  unlink(topic);
  append(topic);
}

void topic_names::append(std::uint32_t topic) noexcept {
  topic_entry& e = topics_[topic];
  e.older = newest_;
  e.newer = none;
  (newest_ == none ? oldest_ : topics_[newest_].newer) = topic;
  newest_ = topic;
}

void topic_names::unlink(std::uint32_t topic) noexcept {
  const topic_entry& e = topics_[topic];
  (e.older == none ? oldest_ : topics_[e.older].newer) = e.newer;
  (e.newer == none ? newest_ : topics_[e.newer].older) = e.older;
}

void topic_names::reuse_oldest() noexcept {
  const std::uint32_t t = oldest_;
  unlink(t);
  chains_.erase(topics_, t);
  arena_.free(topics_[t].name, topics_[t].length);
  topics_.give(t);
  ++reused_;
}

// Leaves each session once in the match, with its highest QoS.
void topic_names::compact() noexcept {
  subscriber* const first = scratch_.data();
  subscriber* last = first + scratch_used_;
  // The matches of one filter mostly come in this order, because sessions get rising numbers.
  if (!std::is_sorted(first, last, by_session)) std::sort(first, last, by_session);
  last = std::unique(
      first, last, [](const subscriber& a, const subscriber& b) { return a.session == b.session; });
  scratch_used_ = static_cast<std::uint32_t>(last - first);
  CHAINRING_ASSERT(scratch_used_ <= fan_out_max_);
}

// Makes the match of a topic, where a change of the index can concern it.
void topic_names::check(std::uint32_t topic, filter_index& filters, unsigned reader) noexcept {
  topic_entry& e = topics_[topic];
  match_origin& o = origins_[topic];
  if (e.match_epoch == 0) o.key = filters.key_of(name(topic));
  // The version of the topic's key tells whether a change can concern this topic. Both versions are
  // read before the match.
  const std::uint64_t index_version = filters.version(), version = filters.version(o.key);
  if (e.match_epoch == fan_out_epoch_ && o.version == version) {
    e.checked = index_version + fan_out_epoch_;
    return;
  }
  ++matches_;
  scratch_used_ = 0;
  filters.match(reader, name(topic), [&](subscriber s) noexcept {
    // A session may match by several filters. compact() then makes room again.
    if (scratch_used_ == 2 * std::uint64_t{fan_out_max_}) compact();
    scratch_[scratch_used_++] = s;
  });
  compact();
  e.match_count = scratch_used_;
  if (scratch_used_ == 1) {
    e.only = scratch_[0];
  } else {
    if (fan_out_used_ + scratch_used_ > fan_out_size_) {
      fan_out_used_ = 0;
      ++fan_out_epoch_;
    }
    std::copy_n(scratch_.data(), scratch_used_, fan_out_.data() + fan_out_used_);
    e.match_first = fan_out_used_;
    fan_out_used_ += scratch_used_;
  }
  o.version = version;
  e.match_epoch = fan_out_epoch_;
  e.checked = index_version + fan_out_epoch_;
}

} // namespace chainring
