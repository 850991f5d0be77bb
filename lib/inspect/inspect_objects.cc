// SPDX-License-Identifier: BSD-3-Clause
// Named objects: maps, pairs and queues.
#include <charconv>

#include "base/crc32c.h"
#include "inspect/record_reader.h"
#include "inspect/tally.h"
#include "objects/objects_media.h"
#include "ring/ring.h"

namespace chainring {

using detail::reading;
using detail::record_reader;
using detail::record_table;

namespace {

/// "queue of 8 bytes, 3 streams, with ids"
bool parse_queue(std::string_view left, object_look& out) {
  out.entry_bytes = 0;
  const auto number = [&](std::uint32_t& n) {
    const auto [end, wrong] = std::from_chars(left.data(), left.data() + left.size(), n);
    if (wrong != std::errc()) return false;
    left.remove_prefix(static_cast<std::size_t>(end - left.data()));
    return true;
  };
  const auto skip = [&](std::string_view front) {
    if (!left.starts_with(front)) return false;
    left.remove_prefix(front.size());
    return true;
  };
  if (!skip("string") && !(number(out.entry_bytes) && (skip(" bytes") || skip(" byte"))))
    return false;
  out.streams = 1;
  const bool ids = left.ends_with(", with ids");
  if (ids) left.remove_suffix(std::string_view(", with ids").size());
  if (!left.empty() && !(skip(", ") && number(out.streams) && skip(" streams"))) return false;
  constexpr std::uint32_t streams_max = 64;
  out.values =
      out.streams == 1 && out.entry_bytes != 0 && out.entry_bytes <= sizeof(std::uint64_t) && !ids;
  return left.empty() && out.streams >= 1 && out.streams <= streams_max;
}

object_kind kind_of(std::string_view type, object_look& out) {
  constexpr std::string_view queue = "queue of ";
  if (type.starts_with("map of ")) return object_kind::map;
  if (type.starts_with("multimap of ")) return object_kind::multimap;
  if (type.starts_with("bimap of ")) return object_kind::bimap;
  if (type.starts_with(queue) && parse_queue(type.substr(queue.size()), out))
    return object_kind::queue;
  return object_kind::other;
}

/// The records of an object that lie in its ranges behind `skipped` bytes of the first one.
record_table records_of(const region& in, const std::string& name, std::uint64_t skipped,
                        std::uint64_t record_bytes) {
  record_table t(record_bytes);
  for (const region_root& root : in.ranges(name)) {
    if (skipped <= root.size) t.add(in.at(root.offset + skipped), root.size - skipped);
    skipped = 0;
  }
  return t;
}

/// One pair lies in the key of its entry, behind the size of its first half.
bool split_pair(inspection::bytes key, inspection::bytes& first, inspection::bytes& second) {
  std::uint32_t size;
  if (key.size() < sizeof size) return false;
  std::memcpy(&size, key.data(), sizeof size);
  if (size > key.size() - sizeof size) return false;
  first = key.subspan(sizeof size, size);
  second = key.subspan(sizeof size + size);
  return true;
}

std::string stream_named(const object_look& queue, std::uint32_t stream) {
  return "object '" + queue.name + "'" +
         (queue.streams > 1 ? ", stream " + std::to_string(stream) : std::string());
}

} // namespace

detail::object_tables::object_tables(const region& in, const object_look& object) {
  const auto root = in.root(object.name);
  if (!root) return;
  if (object.kind != object_kind::queue) {
    if (object.kind != object_kind::other)
      cells = records_of(in, object.name, sizeof(object_header), sizeof(map_cell));
    return;
  }
  const std::uint64_t records = queue_table::bytes_for(object.streams);
  if (root->size < sizeof(object_header) + records) return;
  streams.add(in.at(root->offset + sizeof(object_header)), records);
  if (!object.values)
    messages =
        records_of(in, object.name, sizeof(object_header) + records, sizeof(message_descriptor));
}

detail::queue_place detail::object_tables::place(std::uint32_t stream, bool values) const noexcept {
  return {.record = streams.at(stream), .number = stream, .messages = values ? nullptr : &messages};
}

std::vector<object_look> inspection::objects() {
  std::vector<object_look> all;
  for (const region_root& root : region_.roots()) {
    if (root.kind != root_kind::range || root.name.find('#') != std::string::npos ||
        root.name.starts_with("broker.") || root.size < sizeof(object_header))
      continue;
    object_header h;
    (void)copy_line(&h, region_.at(root.offset));
    object_look o;
    o.name = root.name;
    o.version = root.version;
    if (h.magic == object_magic) {
      object_header sealed = h;
      sealed.check = 0;
      o.damaged = crc32c(0, &sealed, sizeof sealed) != h.check;
      if (o.damaged && damage_.size() < damage_max)
        damage_.push_back("object '" + root.name + "': the check of its header fails");
      o.version = h.version;
      o.type.assign(h.type, strnlen(h.type, sizeof h.type));
      if (!o.damaged) o.kind = kind_of(o.type, o);
    }
    all.push_back(std::move(o));
  }
  return all;
}

look_counts inspection::map_entries(const object_look& map,
                                    const std::function<void(bytes, bytes)>& fn) {
  detail::tally found(damage_);
  const bool pairs = map.kind == object_kind::multimap || map.kind == object_kind::bimap;
  if (!pairs && map.kind != object_kind::map) return found.counts;
  const record_reader records(region_);
  const record_table cells = records_of(region_, map.name, sizeof(object_header), sizeof(map_cell));
  detail::cell_entry e;
  for (std::uint64_t n = 0; n < cells.count(); ++n) {
    const char* why = nullptr;
    reading r = records.cell(cells.at(n), n, e, why);
    if (r == reading::done && !e.used) continue;
    bytes key(e.key), value(e.value);
    if (r == reading::done && pairs && !split_pair(bytes(e.key), key, value)) {
      why = "it is no pair";
      r = reading::damaged;
    }
    if (found.add(
            r, [&] { return "object '" + map.name + "', cell " + std::to_string(n) + ": " + why; }))
      fn(key, value);
  }
  return found.counts;
}

look_counts inspection::streams(const object_look& queue,
                                const std::function<void(const queue_look&)>& fn) {
  detail::tally found(damage_);
  const record_reader records(region_);
  const detail::object_tables tables(region_, queue);
  detail::queue_reading out;
  for (std::uint32_t s = 0; s < tables.streams.count(); ++s) {
    const char* why = nullptr;
    const reading r = records.queue(tables.place(s, queue.values), out, why);
    if (found.add(r, [&] { return stream_named(queue, s) + ": " + why; })) fn(out.look);
  }
  return found.counts;
}

look_counts inspection::queue_entries(const object_look& queue, std::uint32_t stream,
                                      const std::function<void(const entry_look&, bytes)>& fn) {
  detail::tally found(damage_);
  const record_reader records(region_);
  const detail::object_tables tables(region_, queue);
  if (stream >= tables.streams.count()) return found.counts;
  const detail::queue_place place = tables.place(stream, queue.values);
  const std::string noun = stream_named(queue, stream);
  detail::queue_reading out;
  const char* why = nullptr;
  if (const reading r = records.queue(place, out, why); r != reading::done) {
    (void)found.add(r, [&] { return noun + ": " + why; });
    return found.counts;
  }
  for (const auto& e : out.entries) {
    if (queue.values) {
      std::byte value[sizeof e.look.value];
      std::memcpy(value, &e.look.value, sizeof value);
      (void)found.add(reading::done, [] { return std::string(); });
      fn(e.look, bytes(value).first(queue.entry_bytes));
      continue;
    }
    message_look message;
    bool present = false;
    const reading m = records.message(tables.messages, {e.look.message, e.look.generation}, false,
                                      message, present, why);
    // Its consumer may have released the entry meanwhile, and its blocks been used again.
    if ((m != reading::done || !present) && !records.still_there(place, e)) continue;
    if (m == reading::done && !present) continue;
    if (found.add(m, [&] {
          return noun + ", entry at ticket " + std::to_string(e.look.ticket) + ": " + why;
        }))
      fn(e.look, message.payload);
  }
  for (std::uint64_t n = 0; n < out.look.slots_read.damaged; ++n)
    (void)found.add(reading::damaged, [&] { return noun + ": a slot of it is damaged"; });
  return found.counts;
}

} // namespace chainring
