// SPDX-License-Identifier: BSD-3-Clause
// What a broker keeps: sessions, groups, queues, subscriptions and retained messages.
#include <optional>

#include "base/bytes_of.h"
#include "broker/broker_media.h"
#include "broker/retained.h"
#include "broker/store.h"
#include "inspect/record_reader.h"
#include "inspect/tally.h"
#include "topic/topic.h"

namespace chainring {

using detail::queue_place;
using detail::queue_reading;
using detail::reading;
using detail::record_reader;
using detail::record_table;

namespace {

/// The first line of a session record is valid alone, and so is the second one behind it.
struct session_judge {
  const record_reader& records;
  std::uint32_t number;
  session_look& out;
  bool& used;

  const char* operator()(const session_record& r, bool& led) const {
    used = false;
    if (!session_word0::well_formed(number, r.state))
      return "the commit word of its record is damaged";
    const session_word0 w = session_word0::unpack(r.state);
    if (w.state == session_state::free) return nullptr;
    const session_word1 attributes = session_word1::unpack(r.attributes);
    if (attributes.pack() != r.attributes || attributes.identity_size == 0)
      return "its attributes are damaged";
    if (r.check != session_check(number, r)) return "its checksum is wrong";
    if (const char* why = identity(r, attributes.identity_size, led)) return why;
    out.number = number;
    out.incarnation = w.incarnation;
    out.ends_with_connection = (w.flags & session_flag_clean) != 0;
    out.front_end = attributes.front_end;
    out.created_ns = r.created_ns;
    settings(r, w.incarnation);
    used = true;
    return nullptr;
  }

  const char* identity(const session_record& r, std::uint16_t size, bool& led) const {
    if (size <= identity_inline_max) {
      char id[identity_inline_max];
      std::memcpy(id, r.identity, sizeof id);
      for (std::size_t i = size; i < sizeof id; ++i)
        if (id[i] != 0) return "its identity is damaged";
      out.identity.assign(id, size);
      return nullptr;
    }
    led = true;
    std::vector<std::byte> octets;
    if (r.identity[2] != 0 ||
        !records.chain_bytes(r.identity[1] & 0xffff'ffff, r.identity[1] >> 32, size, octets))
      return "its identity lies outside the region";
    out.identity.assign(reinterpret_cast<const char*>(octets.data()), octets.size());
    return long_identity_hash(out.identity) == r.identity[0] ? nullptr : "its identity is damaged";
  }

  void settings(const session_record& r, std::uint32_t incarnation) const {
    const auto low = static_cast<std::uint32_t>(r.settings);
    const std::uint64_t(&half)[3] = r.halves[low & 1];
    out.has_settings =
        r.settings != 0 && r.settings >> 32 == settings_check(number, incarnation, low, half);
    out.settings_damaged = r.settings != 0 && !out.has_settings;
    if (!out.has_settings) return;
    out.disconnected_ns = half[0];
    out.expiry_s = static_cast<std::uint32_t>(half[1]);
    out.has_will = (half[2] >> 48 & will_flag_set) != 0;
  }
};

/// The two tables of sessions or of groups.
struct owners {
  const char *records, *queues, *noun, *queue_noun;
  std::uint32_t seal_bit; ///< in the number for which the slots of a queue are sealed
};
constexpr owners of_sessions{store_area::sessions, store_area::queues, "session ", "queue ", 0};
constexpr owners of_groups{store_area::groups, store_area::group_queues, "group ",
                           "queue of group ", std::uint32_t{1} << 31};

const owners& tables_of(inspection::owner of) noexcept {
  return of == inspection::owner::session ? of_sessions : of_groups;
}

queue_place place_of(std::uint32_t n, const owners& of, const std::byte* record,
                     const record_table& messages) noexcept {
  return {record, n, &messages, true, n | of.seal_bit};
}

/// Calls fn(number, the record, what it says) for each valid session.
template <class F>
void walk_sessions(const record_reader& records, const record_table& t, const owners& of,
                   detail::tally& found, F&& fn) {
  session_record copy;
  for (std::uint64_t n = 0; n < t.count() && n < UINT32_MAX; ++n) {
    session_look look;
    bool used = false;
    const char* why = nullptr;
    const reading r = records.read(
        t.at(n), copy, why, session_judge{records, static_cast<std::uint32_t>(n), look, used});
    if (r == reading::done && !used) continue;
    if (found.add(r, [&] { return of.noun + std::to_string(n) + ": " + why; })) fn(look);
  }
}

} // namespace

bool inspection::has_broker() const {
  for (const region_root& root : region_.roots())
    if (root.name.starts_with("broker.")) return true;
  return false;
}

look_counts inspection::sessions(const std::function<void(const session_look&)>& fn, owner of) {
  const record_reader records(region_);
  detail::tally found(damage_);
  walk_sessions(records, records.table(tables_of(of).records, sizeof(session_record)),
                tables_of(of), found, fn);
  return found.counts;
}

look_counts inspection::queues(const std::function<void(const queue_look&)>& fn, owner of) {
  const record_reader records(region_);
  const owners& names = tables_of(of);
  const record_table queues = records.table(names.queues, sizeof(queue_record)),
                     messages = records.table(store_area::messages, sizeof(message_descriptor));
  detail::tally found(damage_);
  std::vector<std::string> unused; // damage of sessions is named where sessions are asked for
  detail::tally of_sessions_found(unused);
  queue_reading out;
  walk_sessions(
      records, records.table(names.records, sizeof(session_record)), names, of_sessions_found,
      [&](const session_look& s) {
        const std::byte* at = queues.at(s.number);
        if (at == nullptr) return;
        const char* why = nullptr;
        const reading r = records.queue(place_of(s.number, names, at, messages), out, why);
        if (!found.add(r, [&] { return names.queue_noun + std::to_string(s.number) + ": " + why; }))
          return;
        // The entries of an earlier incarnation are unreachable.
        if (out.look.incarnation != s.incarnation) out.look = {};
        out.look.number = s.number;
        out.look.incarnation = s.incarnation;
        fn(out.look);
      });
  return found.counts;
}

look_counts
inspection::entries(std::uint32_t queue, owner of,
                    const std::function<void(const entry_look&, const message_look&)>& fn) {
  const record_reader records(region_);
  const owners& names = tables_of(of);
  const record_table sessions = records.table(names.records, sizeof(session_record)),
                     queues = records.table(names.queues, sizeof(queue_record)),
                     messages = records.table(store_area::messages, sizeof(message_descriptor));
  detail::tally found(damage_);
  if (queue >= queues.count() || queue >= sessions.count()) return found.counts;
  const std::string noun = names.queue_noun + std::to_string(queue);
  session_look owner_of;
  session_record copy;
  bool used = false;
  const char* why = nullptr;
  if (records.read(sessions.at(queue), copy, why, session_judge{records, queue, owner_of, used}) !=
          reading::done ||
      !used)
    return found.counts;
  const queue_place place = place_of(queue, names, queues.at(queue), messages);
  queue_reading out;
  const reading r = records.queue(place, out, why);
  if (r != reading::done) {
    (void)found.add(r, [&] { return noun + ": " + why; });
    return found.counts;
  }
  if (out.look.incarnation != owner_of.incarnation) return found.counts;
  for (const auto& e : out.entries) {
    message_look message;
    bool present = false;
    const message_ref ref{e.look.message, e.look.generation};
    const reading m = records.message(messages, ref, false, message, present, why);
    // Its consumer may have released the entry meanwhile, and the message's blocks been reused.
    if ((m != reading::done || !present) && !records.still_there(place, e)) continue;
    if (m == reading::done && !present) continue; // not published
    if (found.add(m, [&] {
          return noun + ", message " + std::to_string(ref.index) + " at ticket " +
                 std::to_string(e.look.ticket) + ": " + why;
        }))
      fn(e.look, message);
  }
  for (std::uint64_t n = 0; n < out.look.slots_read.damaged; ++n)
    (void)found.add(reading::damaged, [&] { return noun + ": a slot of it is damaged"; });
  return found.counts;
}

look_counts inspection::subscriptions(const std::function<void(const subscription_look&)>& fn) {
  const record_reader records(region_);
  const record_table cells = records.table(store_area::subscriptions, sizeof(map_cell)),
                     sessions = records.table(store_area::sessions, sizeof(session_record));
  detail::tally found(damage_);
  detail::cell_entry e;
  for (std::uint64_t n = 0; n < cells.count(); ++n) {
    const char* why = nullptr;
    reading r = records.cell(cells.at(n), n, e, why);
    if (r == reading::done && !e.used) continue;
    subscription_look s;
    std::uint32_t value[subscription_value_size / 4];
    if (r == reading::done) {
      if (e.key.size() > subscription_key_prefix) {
        std::memcpy(&s.session, e.key.data(), sizeof s.session);
        std::memcpy(&s.incarnation, e.key.data() + sizeof s.session, sizeof s.incarnation);
        s.filter.assign(reinterpret_cast<const char*>(e.key.data()) + subscription_key_prefix,
                        e.key.size() - subscription_key_prefix);
      }
      if (e.value.size() == sizeof value) std::memcpy(value, e.value.data(), sizeof value);
      constexpr std::size_t covered = sizeof value - sizeof(std::uint32_t);
      if (e.value.size() != sizeof value || value[2] != 0 ||
          value[3] != crc32c(crc32c(0, e.key.data(), e.key.size()), value, covered)) {
        why = "its checksum is wrong";
        r = reading::damaged;
      } else if (!valid_topic_filter(s.filter) || (value[0] & ~subscription_option::defined) != 0) {
        why = "its filter or its options are malformed";
        r = reading::damaged;
      }
    }
    if (r == reading::done) {
      const std::byte* at = sessions.at(s.session);
      if (at == nullptr) continue;
      session_record owner_of;
      (void)copy_lines(&owner_of, at, sizeof owner_of);
      const session_word0 w = session_word0::unpack(owner_of.state);
      if (w.state != session_state::used || w.incarnation != s.incarnation) continue;
      s.options = value[0];
      s.identifier = value[1];
    }
    if (found.add(r, [&] { return "subscription in cell " + std::to_string(n) + ": " + why; }))
      fn(s);
  }
  return found.counts;
}

look_counts inspection::retained(const std::function<void(const retained_look&)>& fn) {
  const record_reader records(region_);
  const record_table cells = records.table(store_area::retained, sizeof(map_cell)),
                     messages = records.table(store_area::messages, sizeof(message_descriptor));
  detail::tally found(damage_);
  detail::cell_entry e;
  for (std::uint64_t n = 0; n < cells.count(); ++n) {
    reading r = reading::changing;
    const char* why = nullptr;
    bool there = false;
    retained_look out;
    std::vector<std::byte> before;
    for (unsigned attempt = 0; attempt < record_reader::attempts_max; ++attempt) {
      r = records.cell(cells.at(n), n, e, why);
      there = r == reading::done && e.used;
      if (!there) break;
      retained_value v;
      out.topic.assign(reinterpret_cast<const char*>(e.key.data()), e.key.size());
      if (e.value.size() != sizeof v || !valid_topic_name(out.topic)) {
        why = "its cell is malformed";
        r = reading::damaged;
        break;
      }
      std::memcpy(&v, e.value.data(), sizeof v);
      there = false;
      for (const std::uint64_t word : {v.candidate, v.current}) {
        if (word == 0 || there) continue;
        r = records.message(messages, slot_ref(word).message(), false, out.message, there, why);
        if (r != reading::done) break;
      }
      if (r == reading::done) break;
      // Where the cell has changed meanwhile, its message may be gone.
      if (e.value == before) break;
      before = e.value;
    }
    if (r == reading::done && (!there || out.message.payload.empty())) continue;
    if (found.add(r, [&] { return "retained message in cell " + std::to_string(n) + ": " + why; }))
      fn(out);
  }
  return found.counts;
}

} // namespace chainring
