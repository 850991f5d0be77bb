// SPDX-License-Identifier: BSD-3-Clause
// The one list of parts that an open recovers and a check judges.
//
// Ordering labels:
//   [store-read]  Everything that was read is drained before recovery stores anything because
//     of it.
//   [store-voided]  What recovery voids is drained before a block or a descriptor is given out.
//   [queue-commit-read]  Recovery loads the commit word of a queue, which no other thread
//     stores during an open; the access orders nothing.
#include <cstring>

#include "base/hook.h"
#include "broker/store.h"
#include "ring/ring_media.h"
#include "topic/topic.h"

namespace chainring {

bool store::has_queue(const std::vector<table_segment>& segments, std::uint32_t n,
                      std::uint32_t incarnation) const noexcept {
  for (const table_segment& s : segments) {
    if (n >= s.count) {
      n -= static_cast<std::uint32_t>(s.count);
      continue;
    }
    const auto& record = reinterpret_cast<const queue_record*>(region_.at(s.offset))[n];
    // [queue-commit-read]
    const queue_commit queue = queue_commit::unpack(
        std::atomic_ref(const_cast<std::uint64_t&>(record.commit)).load(std::memory_order_acquire));
    return queue.count != 0 && queue.incarnation == incarnation;
  }
  return false;
}

// Returns the incarnation that a queue should have. A growth that a crash cut off may have left
// queue records without sessions, which have no incarnation yet.
std::uint32_t store::expected_incarnation(const session_table& of, std::uint32_t queue) noexcept {
  return queue < of.count() ? of.incarnation(queue) : 0;
}

// Says what became of the will that a session names, and counts the session's reference.
session_rules::will_state store::will_state(std::uint64_t will, bool count) noexcept {
  const message_ref ref = slot_ref(will).message();
  const bool named = (slot_ref(will).delivery() & will_flag_set) != 0;
  if (named && count && messages_->recover_held(ref) != message_status::ok)
    return session_rules::will_state::bad;
  if (named && messages_->held(ref)) return session_rules::will_state::unsent;
  if (named && messages_->published(ref)) return session_rules::will_state::sent;
  return session_rules::will_state::bad;
}

// Returns true for a valid subscription of a session in its present incarnation. A shared one needs
// the record of its group as well: where a crash left only one of the two, its request was not
// answered.
bool store::wanted(std::span<const std::byte> key, std::span<const std::byte> value,
                   std::vector<problem>& wrong) {
  if (key.size() <= subscription_key_prefix) return false;
  std::uint32_t words[2];
  std::memcpy(words, key.data(), sizeof words);
  if (words[0] >= sessions_->count()) return false;
  const session_word0 w = sessions_->word0(words[0]);
  if (w.state != session_state::used || w.incarnation != words[1]) return false;
  subscription s;
  const char* why = examine(key, value, s);
  if (why == nullptr && asks_to_share(s.filter)) {
    const auto group = group_names_.find(split_shared_filter(s.filter)->both);
    if (group == group_names_.end()) return false;
    ++group_members_[group->second];
    return true;
  }
  if (why == nullptr) return true;
  if (wrong.size() < recovery_report::problems_max)
    wrong.push_back({"subscription of session " + std::to_string(words[0]), why});
  return false;
}

// Marks the blocks of table segments that were added while the region was open.
recovery_part store::segments_part() {
  return {.name = "segments of tables", .repair = [this](recovery_context& c) {
            for (const region_root& root : region_.roots()) {
              if (root.kind != root_kind::range) continue;
              auto live = blocks_->recover_run(
                  root.offset, static_cast<std::uint32_t>(blocks_->blocks_for(root.size)));
              if (!live)
                c.report({"root '" + root.name + "'", live.error().message, severity::fatal});
            }
            c.advance();
          }};
}

// Finds the QoS 2 identifiers that are open. One counts only for its session in exactly its
// incarnation; after a clean start or the end of the session it means nothing, and another message
// may have its packet id. Its part stands behind those of messages and sessions.
recovery_part store::identifiers_part(found& out) {
  return {.name = "open identifiers", .repair = [this, &out](recovery_context& c) {
            messages_->for_each_open_identifier([&](const message_view& m) {
              const std::uint32_t n = m.fields.publisher_session;
              if (n >= sessions_->count()) return;
              const session_word0 w = sessions_->word0(n);
              if (seeded_bug("broker.identifiers_forgotten")) return;
              const bool counts = w.state == session_state::used &&
                                  (w.incarnation == m.fields.publisher_incarnation ||
                                   seeded_bug("broker.identifier_of_any_incarnation"));
              if (counts && messages_->recover_reference(m.ref) == message_status::ok)
                out.identifiers.push_back({n, m.fields.packet_id, m.ref});
            });
            c.advance();
          }};
}

// Notes which groups there are, for the subscriptions that name them.
recovery_part store::group_names_part() {
  return {.name = "names of groups", .repair = [this](recovery_context& c) {
            group_names_.clear();
            group_members_.assign(groups_->count(), 0);
            for (std::uint32_t g = 0; g < groups_->count(); ++g)
              if (groups_->word0(g).state == session_state::used && groups_->examine(g) == nullptr)
                group_names_.emplace(groups_->identity(g), g);
            c.advance();
          }};
}

// Deletes groups without members, behind the part of the subscriptions.
recovery_part store::group_members_part(session_recovery& out) {
  return {.name = "members of groups", .repair = [this, &out](recovery_context& c) {
            for (const auto& [name, g] : group_names_) {
              if (group_members_[g] != 0 || c.checking() || seeded_bug("store.group_kept"))
                continue;
              const std::uint32_t next = groups_->incarnation(g) + 1;
              groups_->void_at_open(
                  g, has_queue(group_queue_segments_, g, next) ? next : UINT32_MAX, c);
              ++out.voided;
              --out.used;
            }
            group_names_.clear();
            c.advance();
          }};
}

// Parts whose records have checks of their own mark their blocks before messages do. Messages whose
// blocks overlap with those are then judged by their content.
recovery store::parts(const broker_config& config, found& out) {
  recovery all;
  const auto add = [&](recovery_part part) { all.add(std::move(part)); };
  add(blocks_->part());
  add(segments_part());
  add(messages_->part());
  add({.name = "content of messages", .rebuild = [this](recovery_context&) {
         tolerate_loss(); // recovery has marked everything required by now
       }});
  const session_rules rules{
      .now_ns = now_ns(),
      .expiry_s = config.session_expiry_s,
      .has_queue = [this](std::uint32_t n,
                          std::uint32_t i) { return has_queue(queue_segments_, n, i); },
      .will = [this](std::uint64_t will, bool count) { return will_state(will, count); }};
  add(sessions_->part("sessions", rules, &out.sessions));
  add(identifiers_part(out));
  add(groups_->part(
      "groups",
      {.has_queue = [this](std::uint32_t n,
                           std::uint32_t i) { return has_queue(group_queue_segments_, n, i); }},
      &out.groups));
  add(group_names_part());
  add(subscriptions_->part(
      "subscriptions",
      [this, &out](std::span<const std::byte> key, std::span<const std::byte> value) {
        return wanted(key, value, out.wrong);
      },
      &out.subscriptions, config.crew));
  add({.name = "values of subscriptions", .repair = [&out](recovery_context& c) {
         for (problem& p : out.wrong)
           c.report(std::move(p));
         out.wrong.clear();
       }});
  add(retained_->part(
      "retained messages",
      [this, &out](std::span<const std::byte> key, std::span<const std::byte> value) {
        return retained_wanted(key, value, out.wrong);
      },
      &out.retained, config.crew));
  add({.name = "values of retained messages", .repair = [&out](recovery_context& c) {
         for (problem& p : out.wrong)
           c.report(std::move(p));
         out.wrong.clear();
       }});
  add(group_members_part(out.groups));
  add(group_queues_->part(
      "queues of groups", [this](std::uint32_t n) { return expected_incarnation(*groups_, n); },
      &out.group_queues));
  add(queues_->part(
      "queues", [this](std::uint32_t n) { return expected_incarnation(*sessions_, n); },
      &out.queues,
      [this](slot_origin from, message_ref message) {
        return group_queues_->holds(from, message);
      }));
  add(retained_part());
  add(sessions_->wills_part("wills", rules));
  return all;
}

// The recovery driver drains after each phase.
// [store-read] Crash between: nothing has changed. What was only visible when the last process died
// need not have been durable.
// [store-voided] Crash between: recovery finds the same again, and nothing was given out.
result<void> store::recover(const broker_config& config, const broker::progress& report_progress,
                            open_summary& summary) {
  recovery_listener listener;
  if (report_progress)
    listener = [&](const recovery_progress& p) {
      report_progress(std::string(to_string(p.phase)) + " " + p.part, p.done, p.total);
    };
  found results;
  auto report = parts(config, results).run(region_, listener);
  if (!report) return report.error();
  for (const problem& p : report->problems)
    summary.notes.push_back(p.text());
  identifiers_ = std::move(results.identifiers);
  summary.sessions = results.sessions.used;
  summary.expired = results.sessions.expired;
  summary.groups = results.groups.used;
  summary.queues = results.queues.queues + results.group_queues.queues;
  summary.subscriptions = results.subscriptions.entries;
  summary.retained = results.retained.entries;
  summary.voided = results.sessions.voided + results.groups.voided + results.queues.voided +
                   results.group_queues.voided;
  summary.messages = messages_->statistics().live;
  summary.durability = media_.durability();
  return {};
}

result<std::vector<std::string>> store::check(region& opened_region) {
  store s(opened_region);
  if (auto attached = s.attach(broker_config{}); !attached) return attached.error();
  found results;
  std::vector<std::string> wrong;
  for (const problem& p : s.parts(broker_config{}, results).check(opened_region).problems)
    wrong.push_back(p.text());
  return wrong;
}

} // namespace chainring
