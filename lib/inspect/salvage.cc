// SPDX-License-Identifier: BSD-3-Clause
// The order of a salvage: lay out, copy, free what is damaged, name the ranges, recover, compare.
//
// Ordering labels:
//   [salvaged-before-named]  Every byte of the copy is drained before the ranges that hold it are
//     named, and before the new region appears under its name.
//   [damage-freed]  Records that are made free are drained before the recovery of the new region
//     reads them.
#include "inspect/salvage.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hook.h"
#include "broker/broker_media.h"
#include "broker/store.h"
#include "inspect/record_reader.h"
#include "media/mapping.h"
#include "message/message_media.h"
#include "objects/objects.h"
#include "objects/objects_media.h"
#include "region/region_cases.h"

namespace chainring {

using detail::queue_reading;
using detail::reading;
using detail::record_reader;
using detail::record_table;
using owner = inspection::owner;

bool salvage_report::complete() const noexcept {
  return lost.empty() && std::ranges::all_of(kinds, [](const auto& k) { return k.lost == 0; });
}

namespace {

// --- the layout ---------------------------------------------------------------------------------

/// The areas in the order in which a broker's region has them.
constexpr std::array broker_areas = {
    store_area::sessions, store_area::queues,       store_area::subscriptions, store_area::messages,
    store_area::groups,   store_area::group_queues, store_area::retained};

bool broker_has(const region& r) {
  return std::ranges::any_of(
      r.roots(), [](const region_root& root) { return root.name.starts_with("broker."); });
}

/// The areas of the source, those whose entries are damaged included: areas lie side by side, so
/// one that is missing lies between its neighbours.
result<std::vector<area_spec>> areas_of(const region& from, const superblock& s,
                                        salvage_report& report) {
  std::vector<area_spec> areas;
  const bool of_broker = broker_has(from);
  std::uint64_t at = s.areas_offset;
  const std::uint64_t end = s.areas_offset + s.areas_size;
  const auto is_area = [](const region_root& r) { return r.kind == root_kind::area; };
  if (s.area_count != 0 && std::ranges::none_of(from.roots(), is_area))
    return error{errc::corrupt, "region " + from.medium().path() +
                                    ": every entry of its directory that names an area is damaged, "
                                    "and nothing says what lies where"};
  for (std::uint32_t i = 0; i < s.area_count; ++i) {
    // An area without bytes lies where the next one does, and is the first of the two.
    const auto here = std::ranges::find_if(from.roots(), [&](const region_root& r) {
      return is_area(r) && r.offset == at &&
             std::ranges::none_of(areas, [&](const area_spec& a) { return a.name == r.name; });
    });
    if (here != from.roots().end()) {
      if (of_broker && i < broker_areas.size() && here->name != broker_areas[i])
        return error{errc::corrupt,
                     "region " + from.medium().path() +
                         ": neighbouring entries of its directory are damaged, and nothing says "
                         "where the one area ends and the other begins"};
      areas.push_back({here->name, here->size, here->version});
      at += here->size;
      continue;
    }
    std::uint64_t next = end;
    for (const region_root& r : from.roots())
      if (is_area(r) && r.offset > at) next = std::min(next, r.offset);
    const bool known = of_broker && i < broker_areas.size();
    areas.push_back({known ? broker_areas[i] : "lost-" + std::to_string(i), next - at,
                     known ? store_area::version : 1});
    (known ? report.notes : report.lost)
        .push_back("the directory's entry of area '" + areas.back().name + "' is damaged; its " +
                   std::to_string(next - at) + " bytes at " + std::to_string(at) +
                   (known ? " were found" : " were copied, and its name is lost"));
    at = next;
  }
  return areas;
}

result<superblock> superblock_of(const region& from) {
  std::array<superblock, 2> found;
  for (unsigned i = 0; i < found.size(); ++i)
    copy_lines(&found[i], from.at(superblock_offsets[i]), sizeof found[i]);
  const auto verdict =
      detail::choose(found, from.medium().size(), true, "region " + from.medium().path() + ": ");
  if (verdict.refused) return *verdict.refused;
  return found[verdict.place];
}

// --- the copy -----------------------------------------------------------------------------------

bool is_zero(const std::byte* p, std::size_t n) noexcept {
  return n == 0 || (*p == std::byte{0} && std::memcmp(p, p + 1, n - 1) == 0);
}

/// Copies [from, to) of the source to the same place.
void copy(const region& source, region& target, std::uint64_t from, std::uint64_t to) {
  constexpr std::uint64_t piece = 64 << 10;
  media& m = target.medium();
  for (std::uint64_t at = from; at < to; at += piece) {
    const std::uint64_t n = std::min(piece, to - at);
    if (is_zero(source.at(at), n)) continue;
    m.write(target.at(at), source.at(at), n);
    // [salvaged-before-named] Crash between: nothing names these bytes, or the new region has not
    // got its name.
    persist_range(m, target.at(at), n); // [salvaged-before-named]
  }
}

// --- what is damaged becomes free ---------------------------------------------------------------

class scrubber {
 public:
  explicit scrubber(region& target) : target_(target), records_(target) {}

  /// Makes the words at a record of the target `values`, or zero.
  void store(const void* at, std::span<const std::uint64_t> values) {
    auto* words = static_cast<std::uint64_t*>(const_cast<void*>(at));
    for (std::size_t i = 0; i < values.size(); ++i)
      target_.medium().store(&words[i], values[i]);
    // [damage-freed] Crash between: the new region has not got its name.
    persist_range(target_.medium(), at, values.size_bytes()); // [damage-freed]
  }
  void clear(const void* at, std::size_t bytes) {
    static constexpr std::array<std::uint64_t, cacheline_size / 8> zeros{};
    store(at, std::span(zeros).first(bytes / 8));
  }

  void cells(const record_table& t) {
    detail::cell_entry e;
    const char* why = nullptr;
    for (std::uint64_t n = 0; n < t.count(); ++n)
      if (records_.cell(t.at(n), n, e, why) != reading::done) clear(t.at(n), sizeof(map_cell));
  }

  /// Descriptors that are not valid, also those that nothing names.
  void messages(const record_table& t) {
    const char* why = nullptr;
    for (std::uint64_t n = 0; n < t.count() && n < UINT32_MAX; ++n) {
      const auto* d = reinterpret_cast<const message_descriptor*>(t.at(n));
      const message_ref ref{static_cast<std::uint32_t>(n),
                            message_word0::unpack(d->state).generation};
      message_look m;
      bool present = false;
      if (records_.message(t, ref, true, m, present, why) != reading::done) clear(d, sizeof *d);
    }
  }

  /// A queue whose record is damaged becomes an empty one, and slots become holes.
  void queue(const detail::queue_place& of, std::uint32_t incarnation, queue_mode mode) {
    const char* why = nullptr;
    queue_reading out;
    if (records_.queue(of, out, why) != reading::done) {
      std::uint64_t empty[cacheline_size / 8] = {};
      if (incarnation != 0)
        empty[1] = queue_commit{.incarnation = incarnation, .mode = mode}.pack(of.number);
      store(of.record, empty);
      return;
    }
    for (const ring_slot* slot : out.damaged)
      clear(slot, sizeof *slot);
  }

  void queues_of_broker(owner of, const record_table& descriptors) {
    const bool group = of == owner::group;
    const record_table sessions = records_.table(group ? store_area::groups : store_area::sessions,
                                                 sizeof(session_record)),
                       queues =
                           records_.table(group ? store_area::group_queues : store_area::queues,
                                          sizeof(queue_record));
    for (std::uint64_t n = 0; n < queues.count() && n < UINT32_MAX; ++n) {
      const auto number = static_cast<std::uint32_t>(n);
      std::uint32_t incarnation = 0;
      if (const auto* s = reinterpret_cast<const session_record*>(sessions.at(n)))
        if (session_word0::well_formed(number, s->state))
          incarnation = session_word0::unpack(s->state).incarnation;
      queue({.record = queues.at(n),
             .number = number,
             .messages = &descriptors,
             .sealed = true,
             .sealed_for = group ? number | 1u << 31 : number},
            incarnation, group ? queue_mode::mpmc : queue_mode::mpsc);
    }
  }

  void broker() {
    cells(records_.table(store_area::subscriptions, sizeof(map_cell)));
    cells(records_.table(store_area::retained, sizeof(map_cell)));
    const record_table descriptors =
        records_.table(store_area::messages, sizeof(message_descriptor));
    messages(descriptors);
    queues_of_broker(owner::session, descriptors);
    queues_of_broker(owner::group, descriptors);
  }

  void object(const object_look& o) {
    const detail::object_tables t(target_, o);
    if (o.kind != object_kind::queue) return cells(t.cells);
    if (!o.values) messages(t.messages);
    for (std::uint32_t s = 0; s < t.streams.count(); ++s)
      queue(t.place(s, o.values), 0, queue_mode::mpsc);
  }

 private:
  region& target_;
  const record_reader records_;
};

// --- what was there, and what has arrived -------------------------------------------------------

/// Valid and damaged records of each kind.
using census = std::map<std::string, look_counts>;

census count_broker(inspection& look, std::vector<std::string>& left_out) {
  census all;
  std::map<std::uint32_t, bool> kept; // sessions that an open keeps
  std::uint64_t ended = 0;
  const auto session = [&](const session_look& s) {
    kept[s.number] = !s.ends_with_connection;
    ended += s.ends_with_connection;
    if (s.settings_damaged)
      left_out.push_back("session " + std::to_string(s.number) +
                         ": its settings fail their check; its will and its expiry are lost");
  };
  look_counts sessions = look.sessions(session);
  sessions.whole -= ended;
  all["sessions"] = sessions;
  all["groups"] = look.sessions([](const session_look&) {}, owner::group);
  std::uint64_t passing = 0;
  look_counts subscriptions =
      look.subscriptions([&](const subscription_look& s) { passing += !kept[s.session]; });
  subscriptions.whole -= passing;
  all["subscriptions"] = subscriptions;
  all["retained messages"] = look.retained([](const retained_look&) {});
  for (const owner of : {owner::session, owner::group}) {
    look_counts& messages = all["queued messages"];
    std::vector<std::uint32_t> numbers;
    all[of == owner::session ? "queues" : "queues of groups"] = look.queues(
        [&](const queue_look& q) {
          if (of == owner::group || kept[q.number]) numbers.push_back(q.number);
        },
        of);
    for (const std::uint32_t n : numbers)
      messages += look.entries(n, of, [](const entry_look&, const message_look&) {});
  }
  // Queues exist as long as their sessions; only their damage counts.
  all["queues"].whole = all["queues of groups"].whole = 0;
  return all;
}

census count_objects(inspection& look) {
  census all;
  for (const object_look& o : look.objects()) {
    look_counts& of = all["entries of object '" + o.name + "'"];
    of += look.map_entries(o, [](auto, auto) {});
    for (std::uint32_t s = 0; s < o.streams; ++s)
      of += look.queue_entries(o, s, [](const entry_look&, auto) {});
  }
  return all;
}

census count(const region& r, bool of_broker, std::vector<std::string>& damage) {
  inspection look(r);
  census all = of_broker ? count_broker(look, damage) : count_objects(look);
  damage.insert(damage.end(), look.damage().begin(), look.damage().end());
  return all;
}

/// Compares the two looks.
void account(const census& before, const census& after, salvage_report& report) {
  for (const auto& [kind, was] : before) {
    const auto there = after.find(kind);
    const std::uint64_t arrived = there == after.end() ? 0 : there->second.whole;
    const std::uint64_t missing = was.whole > arrived ? was.whole - arrived : 0;
    if (was.whole + was.damaged + was.changing == 0) continue;
    report.kinds.push_back({kind, arrived, missing + was.damaged + was.changing});
    if (missing != 0)
      report.lost.push_back(
          std::to_string(missing) + " of " + std::to_string(was.whole) + " valid " + kind +
          " were left out: they belonged to something that is damaged, or claimed "
          "the same blocks or the same name as others");
  }
}

// --- recovery -----------------------------------------------------------------------------------

/// Each recovers the target, looks at it while it is quiet, and closes it.
result<census> recover_broker(std::unique_ptr<region> target, salvage_report& report) {
  open_summary summary;
  {
    auto opened = store::open(*target, broker_config{}, {}, summary);
    if (!opened) return opened.error();
  }
  report.notes.insert(report.notes.end(), summary.notes.begin(), summary.notes.end());
  census all = count(*target, true, report.notes);
  if (auto closed = target->close(); !closed) return closed.error();
  return all;
}

result<census> recover_objects(std::unique_ptr<region> target, const std::vector<object_look>& of,
                               salvage_report& report) {
  objects::wanted wanted;
  for (const object_look& o : of)
    if (auto known = detail::object_in_words(o.name, o.type, o.version);
        known != nullptr && !o.damaged)
      wanted.push_back(std::move(known));
    else if (!o.damaged)
      report.notes.push_back("range '" + o.name +
                             "' is no object of a type that this build knows; it was copied as it "
                             "is");
  auto opened = objects::open(std::move(target), std::move(wanted));
  if (!opened) return opened.error();
  for (const problem& p : (*opened)->recovered().problems)
    report.notes.push_back(p.text());
  census all = count((*opened)->region(), false, report.notes);
  if (auto closed = (*opened)->close(); !closed) return closed.error();
  return all;
}

/// Names the ranges of the source in the target. Damaged objects stay without a name.
result<void> name_ranges(const region& from, region& target,
                         const std::vector<object_look>& objects_there) {
  for (const region_root& root : from.roots()) {
    if (root.kind != root_kind::range) continue;
    const std::string_view first = std::string_view(root.name).substr(0, root.name.find('#'));
    const bool damaged = std::ranges::any_of(
        objects_there, [&](const object_look& o) { return o.damaged && o.name == first; });
    if (damaged) continue;
    if (auto named = target.add_root(root); !named) return named;
  }
  return {};
}

/// `before` is what the copy holds: it has the areas too that the source's directory has lost.
result<std::unique_ptr<region>> fill(const region& from, std::unique_ptr<media> to,
                                     salvage_report& report, std::vector<object_look>& found,
                                     census& before) {
  auto s = superblock_of(from);
  if (!s) return s.error();
  region_options o;
  o.block_size = s->block_size;
  auto areas = areas_of(from, *s, report);
  if (!areas) return areas.error();
  o.areas = std::move(*areas);
  o.unfinished = true; // until it is closed
  // A superblock that the other one makes up for is no loss, and areas were judged above.
  for (const std::string& note : from.notes()) {
    unsigned entry = 0;
    const bool range =
        std::sscanf(note.c_str(), "root %u of", &entry) == 1 && entry >= s->area_count;
    (range ? report.lost : report.notes).push_back(note);
  }
  auto made = region::create_on(std::move(to), o);
  if (!made) return made;
  region& target = **made;
  if (target.geometry().block_offset != s->block_offset)
    return error{errc::corrupt, "region " + from.medium().path() +
                                    ": its areas do not lie as its superblock says; it cannot be "
                                    "salvaged"};
  copy(from, target, s->areas_offset, s->areas_offset + s->areas_size);
  const std::uint64_t blocks = std::min(s->block_count, target.geometry().block_count);
  copy(from, target, s->block_offset, s->block_offset + blocks * s->block_size);
  inspection look(from);
  found = look.objects();
  if (auto named = name_ranges(from, target, found); !named) return named.error();
  before = count(target, broker_has(from), report.lost);
  // The names of damaged objects were left out of the copy.
  for (const object_look& object : found)
    if (object.damaged) ++before["objects"].damaged;
  report.lost.insert(report.lost.end(), look.damage().begin(), look.damage().end());
  scrubber scrub(target);
  if (broker_has(from)) {
    scrub.broker();
  } else {
    for (const object_look& object : found)
      if (!object.damaged) scrub.object(object);
  }
  return made;
}

} // namespace

result<salvage_report> salvage_on(const region& from, std::unique_ptr<media> to) {
  if (!from.read_only())
    return error{errc::invalid_argument, "salvage: region " + from.medium().path() +
                                             ": it is open for writing; open it for reading only"};
  salvage_report report;
  const bool of_broker = broker_has(from);
  std::vector<object_look> found;
  census before;
  auto target = fill(from, std::move(to), report, found, before);
  if (!target) return target.error();
  auto after = of_broker ? recover_broker(std::move(*target), report)
                         : recover_objects(std::move(*target), found, report);
  if (!after) return after.error();
  account(before, *after, report);
  return report;
}

namespace {

/// Salvages into PATH.partial, which stays where the report is returned.
result<salvage_report> salvage_apart(const region& from, media_options to) {
  to.path += ".partial";
  to.read_only = to.beside_owner = false;
  auto backing = create_media(to);
  if (!backing && backing.error().code == errc::exists)
    return error{errc::exists, "region path " + to.path +
                                   ": it is what an earlier call left that did not finish; remove "
                                   "it"};
  if (!backing) return backing.error();
  auto report = salvage_on(from, std::move(*backing));
  if (!report) (void)unlink(to.path.c_str());
  return report;
}

/// Gives PATH.partial its name.
result<void> take_name(const std::string& path, unsigned flags) {
  const std::string partial = path + ".partial";
  if (renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, path.c_str(), flags) == 0)
    return detail::sync_directory_of(path);
  error e = system_error(errc::io, "region path " + path + ": cannot give the new region its name",
                         errno);
  (void)unlink(partial.c_str());
  return e;
}

} // namespace

result<salvage_report> salvage(const region& from, const media_options& to) {
  struct stat there {};
  if (stat(to.path.c_str(), &there) == 0)
    return error{errc::exists,
                 "region path " + to.path +
                     (S_ISREG(there.st_mode)
                          ? ": it exists; salvage into a path that does not"
                          : ": it is no path for a new file; salvage into a file, which can be "
                            "copied to a device")};
  media_options o = to;
  o.size = from.medium().size();
  auto report = salvage_apart(from, o);
  if (!report) return report;
  if (auto named = take_name(to.path, RENAME_NOREPLACE); !named) return named.error();
  return report;
}

result<salvage_report> shrink(const region& from, std::uint64_t size) {
  const std::string& path = from.medium().path();
  const std::string name = "region " + path + ": ";
  struct stat there {};
  if (stat(path.c_str(), &there) != 0 || !S_ISREG(there.st_mode))
    return error{errc::unsupported, name + "only a file can become shorter"};
  if (size >= from.geometry().size)
    return error{errc::invalid_argument, name + "shrink to " + std::to_string(size) +
                                             " bytes: expected fewer than its " +
                                             std::to_string(from.geometry().size)};
  media_options o;
  o.path = path;
  o.durability = from.medium().durability();
  o.size = size;
  auto report = salvage_apart(from, o);
  if (!report) return report;
  if (!report->complete()) {
    (void)unlink((path + ".partial").c_str());
    return error{errc::no_space, name + "in " + std::to_string(size) +
                                     " bytes it would lose: " + report->lost.front() +
                                     "; ask for a larger size, or salvage it first if it is "
                                     "damaged"};
  }
  // The old file stays until the new one is closed and durable. It keeps its mode and its owner.
  (void)chmod((path + ".partial").c_str(), there.st_mode & 07777);
  (void)!chown((path + ".partial").c_str(), there.st_uid, there.st_gid);
  if (auto named = take_name(path, 0); !named) return named.error();
  return report;
}

} // namespace chainring
