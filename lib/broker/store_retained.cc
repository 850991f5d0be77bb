// SPDX-License-Identifier: BSD-3-Clause
// The recovery of retained messages: topic -> {candidate, current} (retained.h).
//
//   candidate       current     what is done
//   published       any         the candidate is the topic's message; the current one, if it is
//                               whole, keeps the reference that its word is, else its word is
//                               erased
//   published,      any         the topic was cleared: the cell is erased
//   no content
//   not published   published   its publisher was not answered, so the current one is the topic's
//                               message; the cell is stored without the candidate, because its
//                               descriptor is free and may be published again in that generation
//   not published   else        the cell is erased
//   damaged         any         the cell is named and erased: the current one is out of date
//
// Ordering labels:
//   [candidate-cleared]  A cell is durable without the candidate that was not published before a
//     descriptor is given out.
#include <cstring>

#include "base/hook.h"
#include "broker/store.h"
#include "topic/topic.h"

namespace chainring {

namespace {

std::string_view topic_in(std::span<const std::byte> key) noexcept {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}
retained_value value_in(std::span<const std::byte> bytes) noexcept {
  retained_value v;
  if (bytes.size() == sizeof v) std::memcpy(&v, bytes.data(), sizeof v);
  return v;
}
message_ref ref_in(std::uint64_t word) noexcept {
  return slot_ref(word).message();
}
problem wrong_cell(std::string why) {
  return {"retained message", std::move(why)};
}

} // namespace

bool store::retained_wanted(std::span<const std::byte> key, std::span<const std::byte> value,
                            std::vector<problem>& wrong) const {
  const auto damaged = [&](const char* why) {
    if (wrong.size() < recovery_report::problems_max) wrong.push_back(wrong_cell(why));
    return false;
  };
  const retained_value v = value_in(value);
  // A recovery that found the topic's message damaged has left the cell like this.
  if (value.size() == sizeof v && v == retained_value{}) return false;
  if (!valid_topic_name(topic_in(key)) || (v.candidate == 0 && v.current == 0) ||
      (v.candidate != 0 && !retained_word_formed(v.candidate)) ||
      (v.current != 0 && !retained_word_formed(v.current)))
    return damaged("its cell is malformed; the topic has no retained message any more");
  message_view found;
  if (v.candidate != 0) {
    const message_status status = messages_->view(ref_in(v.candidate), found);
    if (status == message_status::ok) return found.fields.payload_size != 0;
    if (status == message_status::damaged)
      return damaged("its message is damaged; the topic has no retained message any more");
  }
  return v.current != 0 && messages_->view(ref_in(v.current), found) == message_status::ok &&
         found.fields.payload_size != 0;
}

// Counts the references of the cells that stayed. It stands behind the parts of all owners whose
// records have checks of their own.
recovery_part store::retained_part() {
  return {.name = "references of retained messages",
          .items = retained_->capacity(),
          .repair = [this](recovery_context& c) {
            if (!c.checking()) recover_retained(c);
            c.advance(retained_->capacity());
          }};
}

void store::recover_retained(recovery_context& c) {
  struct change {
    std::string topic;
    retained_value value;
  };
  std::vector<change> changes;
  retained_->for_each([&](std::span<const std::byte> key, std::span<const std::byte> value) {
    const retained_value v = value_in(value);
    retained_value now = v;
    message_status status = message_status::not_published;
    if (v.candidate != 0) status = messages_->recover_reference(ref_in(v.candidate));
    // Where the candidate is not published, the current message is the topic's.
    const bool unpublished = status != message_status::ok && status != message_status::damaged;
    if (unpublished) now = {v.current, 0};
    if (status == message_status::damaged) now = {};
    if (const std::uint64_t other = unpublished ? now.candidate : now.current; other != 0) {
      const message_status whole = messages_->recover_reference(ref_in(other));
      if (whole == message_status::damaged)
        c.report(wrong_cell("a message that its cell names is damaged"));
      if (whole != message_status::ok) (unpublished ? now.candidate : now.current) = 0;
    }
    if (status == message_status::damaged)
      c.report(wrong_cell("its message is damaged; the topic has no retained message any more"));
    if (now.candidate == 0) dead_topics_.emplace_back(topic_in(key));
    if (now != v && !seeded_bug("broker.candidate_not_cleared"))
      changes.push_back({std::string(topic_in(key)), now});
  });
  // A value of this size lies in its cell, so nothing is allocated.
  durable_map::batch cells(*retained_);
  for (std::size_t i = 0; i < changes.size();) {
    for (; i < changes.size() && cells.size() < durable_map::batch::changes_max; ++i)
      (void)cells.upsert(bytes_of(changes[i].topic), bytes_of(changes[i].value));
    // [candidate-cleared] Crash between: the next recovery finds the same again.
    cells.commit();
  } // all changes are published
}

retained_message store::retained_of(std::uint64_t word) const noexcept {
  retained_message m;
  m.ref = ref_in(word);
  m.qos = slot_delivery::unpack(slot_ref(word).delivery()).qos;
  const message_table::reading mine(*messages_);
  message_view v;
  if (messages_->view(m.ref, v) != message_status::ok) return m;
  m.payload_size = v.fields.payload_size;
  m.published_ns = v.fields.published_ns;
  m.expires_ns = v.fields.expires_ns;
  m.bytes = blocks_->blocks_for(v.fields.size()) * blocks_->block_size();
  return m;
}

void store::for_each_retained(const std::function<void(std::string_view, const retained_message&,
                                                       const retained_message*)>& fn) {
  for (const std::string& topic : dead_topics_)
    retained_->erase(bytes_of(topic)); // a cell without a message
  dead_topics_.clear();
  retained_->for_each([&](std::span<const std::byte> key, std::span<const std::byte> value) {
    const retained_value v = value_in(value);
    const retained_message now = retained_of(v.candidate);
    const retained_message before = retained_of(v.current);
    fn(topic_in(key), now, v.current != 0 ? &before : nullptr);
  });
}

} // namespace chainring
