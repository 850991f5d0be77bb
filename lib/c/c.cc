// SPDX-License-Identifier: BSD-3-Clause
// The C binding. Each call checks its arguments, makes the call of the C++ library, and turns what
// comes of it into a status and a sentence. No exception leaves it.
//
// Ordering labels:
//   [chain-persisted]  chainring_chain_persist() flushes the bytes of the chains and drains before
//     it returns.
#include "c.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "base/idle.h"
#include "c/region_of.h"
#include "objects/object_map.h"
#include "objects/object_pairs.h"
#include "objects/object_queue.h"
#include "timer/timer.h"

using namespace chainring;

// Handles are these objects, which a region owns.
struct chainring_map {
  durable_map* bytes;
  const media* medium;
  std::size_t key, value; ///< bytes of each; 0: any number
};
struct chainring_pairs {
  durable_pairs* bytes;
  const media* medium;
  std::size_t first, second; ///< bytes of each half; 0: any number
  bool by_second;
};
struct chainring_queue {
  durable_queue* bytes;
};
struct chainring_region {
  std::unique_ptr<objects> all;
  std::mutex handles; // guards the maps below; what they hold stays where it is
  std::map<std::string, chainring_map, std::less<>> maps;
  std::map<std::string, chainring_pairs, std::less<>> pairs;
  std::map<std::string, chainring_queue, std::less<>> queues;
};

struct chainring_timers {
  std::unique_ptr<timer_set> set;
};

// --- named objects of any type ------------------------------------------------------------------

namespace {

/// What get() is asked for in place of a type: any map, any pairs, any queue.
struct any_map {
  durable_map* bytes;
  std::size_t key, value;
};
struct any_pairs {
  durable_pairs* bytes;
  std::size_t first, second;
  bool by_second;
};
struct any_queue {
  durable_queue* bytes;
};

} // namespace

namespace chainring {

template <> struct object_of<any_map> {
  static std::string type() { return "map of bytes"; }
  static bool is(std::string_view words) { return words.starts_with("map of "); }
  static any_map view(named_object& o) noexcept {
    auto& map = static_cast<detail::map_object&>(o);
    return {&map.bytes(), map.key_bytes(), map.value_bytes()};
  }
};
template <> struct object_of<any_pairs> {
  static std::string type() { return "multimap or bimap of bytes"; }
  static bool is(std::string_view words) {
    return words.starts_with("multimap of ") || words.starts_with("bimap of ");
  }
  static any_pairs view(named_object& o) noexcept {
    auto& pairs = static_cast<detail::pairs_object&>(o);
    return {&pairs.pairs(), pairs.first_bytes(), pairs.second_bytes(), pairs.by_second()};
  }
};
template <> struct object_of<any_queue> {
  static std::string type() { return "queue of bytes"; }
  static bool is(std::string_view words) { return words.starts_with("queue of "); }
  static any_queue view(named_object& o) noexcept {
    return {&static_cast<detail::queue_object&>(o).bytes()};
  }
};

} // namespace chainring

// --- arguments and errors -----------------------------------------------------------------------

namespace {

using byte_span = std::span<const std::byte>;

void say(chainring_error* error, std::string_view text) noexcept {
  if (error == nullptr) return;
  const std::size_t n = std::min(text.size(), sizeof error->text - 1);
  if (n != 0) std::memcpy(error->text, text.data(), n);
  error->text[n] = '\0';
}

/// Runs fn() and gives what it returns, or `otherwise` with a sentence where something was thrown.
template <class T, class Fn> T guarded(chainring_error* error, T otherwise, Fn&& fn) noexcept {
  say(error, "");
  try {
    return fn();
  } catch (const std::bad_alloc&) {
    say(error, "there is not enough memory");
  } catch (const std::exception& e) {
    say(error, e.what());
  } catch (...) {
    say(error, "an unknown exception");
  }
  return otherwise;
}
template <class Fn> chainring_status guarded(Fn&& fn) noexcept {
  return guarded(nullptr, CHAINRING_NO_MEMORY, fn);
}

bool whole(chainring_bytes b) noexcept {
  return b.data != nullptr || b.size == 0;
}
byte_span bytes(chainring_bytes b) noexcept {
  return {static_cast<const std::byte*>(b.data), b.size};
}
chainring_bytes bytes(byte_span b) noexcept {
  return {b.data(), b.size()};
}

chainring_status status_of(map_status s) noexcept {
  switch (s) {
  case map_status::done:
    return CHAINRING_DONE;
  case map_status::exists:
    return CHAINRING_EXISTS;
  case map_status::missing:
    return CHAINRING_MISSING;
  case map_status::mismatch:
    return CHAINRING_MISMATCH;
  case map_status::full:
    return CHAINRING_FULL;
  case map_status::too_long:
    return CHAINRING_TOO_LONG;
  case map_status::busy:
    break; // of staged changes, which this binding has not
  }
  return CHAINRING_ERROR;
}
chainring_status status_of(queue_status s) noexcept {
  switch (s) {
  case queue_status::done:
    return CHAINRING_DONE;
  case queue_status::full:
    return CHAINRING_FULL;
  case queue_status::too_long:
    return CHAINRING_TOO_LONG;
  case queue_status::failed:
    return CHAINRING_FAILED;
  }
  return CHAINRING_ERROR;
}

/// A copy of a struct that begins with its size, as this library knows it: what an older caller
/// does not have is 0. False, and `why`: it has no such size, or a member that is not known is
/// used.
template <class T> bool take(const T& from, T& to, std::string& why) {
  constexpr std::size_t least = 2 * sizeof(std::size_t), most = 4096;
  to = {};
  if (from.size < least || from.size > most || from.size % alignof(T) != 0) {
    why = "its size is " + std::to_string(from.size) + ": expected that of the struct, " +
          std::to_string(sizeof(T));
    return false;
  }
  std::memcpy(static_cast<void*>(&to), &from, std::min(from.size, sizeof(T)));
  const auto* more = reinterpret_cast<const unsigned char*>(&from);
  const bool known = std::all_of(more + std::min(from.size, sizeof(T)), more + from.size,
                                 [](unsigned char c) { return c == 0; });
  if (!known) why = "it asks for what only a later version of the library has";
  return known;
}

/// Makes the object that a program asks for; null, and `why`, where there is no such object.
std::unique_ptr<named_object> object_for(const chainring_object_spec& of, std::string& why) {
  chainring_object_spec o{};
  if (!take(of, o, why)) return nullptr;
  if (o.name == nullptr) {
    why = "its name is NULL";
    return nullptr;
  }
  const std::uint32_t version = o.version == 0 ? 1 : o.version;
  switch (o.kind) {
  case CHAINRING_MAP:
    return std::make_unique<detail::map_object>(o.name, o.entries, version, o.key, o.value);
  case CHAINRING_MULTIMAP:
  case CHAINRING_BIMAP:
    return std::make_unique<detail::pairs_object>(o.name, o.entries, version, o.key, o.value,
                                                  o.kind == CHAINRING_BIMAP);
  case CHAINRING_QUEUE:
    if (o.consumers != 0 && o.consumers != 1) {
      why = "consumers is " + std::to_string(o.consumers) + ": expected 0 or 1";
      return nullptr;
    }
    return std::make_unique<detail::queue_object>(
        o.name, version,
        durable_queue_options{
            .entry_bytes = o.key,
            .entries = static_cast<std::uint32_t>(std::min<std::uint64_t>(o.entries, UINT32_MAX)),
            .streams = o.streams == 0 ? 1 : o.streams,
            .mode = o.consumers == 0 ? queue_mode::mpsc : queue_mode::mpmc});
  default:
    why = "its kind is " + std::to_string(o.kind) + ": expected a chainring_kind";
  }
  return nullptr;
}

/// The handle of an object of the type `Any`, kept in `known`.
template <class Any, class Handle>
Handle* handle_of(chainring_region* region, const char* name,
                  std::map<std::string, Handle, std::less<>> chainring_region::*known,
                  chainring_error* error) noexcept {
  return guarded(error, static_cast<Handle*>(nullptr), [&]() -> Handle* {
    if (region == nullptr || name == nullptr) {
      say(error, region == nullptr ? "the region is NULL" : "the name is NULL");
      return nullptr;
    }
    auto found = region->all->get<Any>(name);
    if (!found) {
      say(error, found.error().message);
      return nullptr;
    }
    const media* const m = &region->all->region().medium();
    const Any& of = found.value();
    Handle made{};
    if constexpr (std::is_same_v<Handle, chainring_map>)
      made = {of.bytes, m, of.key, of.value};
    else if constexpr (std::is_same_v<Handle, chainring_pairs>)
      made = {of.bytes, m, of.first, of.second, of.by_second};
    else
      made = {of.bytes};
    const std::lock_guard guard(region->handles);
    return &(region->*known).try_emplace(name, made).first->second;
  });
}

} // namespace

namespace chainring {
chainring_region* region_of(std::unique_ptr<objects> all) {
  auto made = std::make_unique<chainring_region>();
  made->all = std::move(all);
  return made.release();
}
} // namespace chainring

const char* chainring_version(void) {
  return CHAINRING_VERSION;
}

const char* chainring_status_text(chainring_status status) {
  switch (status) {
  case CHAINRING_DONE:
    return "done";
  case CHAINRING_EXISTS:
    return "it is there already";
  case CHAINRING_MISSING:
    return "it is missing";
  case CHAINRING_MISMATCH:
    return "the value is not the expected one";
  case CHAINRING_FULL:
    return "there is no room for it";
  case CHAINRING_TOO_LONG:
    return "it is too long";
  case CHAINRING_FAILED:
    return "the medium has failed";
  case CHAINRING_NO_MEMORY:
    return "there is not enough memory";
  case CHAINRING_INVALID:
    return "an argument is wrong";
  case CHAINRING_ERROR:
    return "an error";
  }
  return "an unknown status";
}

// --- regions ------------------------------------------------------------------------------------

chainring_region* chainring_open_or_create(const char* path,
                                           const chainring_region_options* options,
                                           const chainring_object_spec* specs, size_t count,
                                           chainring_error* error) {
  return guarded(error, static_cast<chainring_region*>(nullptr), [&]() -> chainring_region* {
    const auto refuse = [&](const std::string& why) {
      say(error, why);
      return nullptr;
    };
    if (path == nullptr) return refuse("the path of the region is NULL");
    if (specs == nullptr || count == 0)
      return refuse("region " + std::string(path) + ": no objects are asked for");
    region_options o;
    o.media.path = path;
    if (options != nullptr) {
      chainring_region_options given{};
      std::string why;
      if (!take(*options, given, why))
        return refuse("region " + std::string(path) + ", options: " + why);
      o.media.size = given.region_bytes;
      o.media.size_max = given.region_max;
      if (given.durability != nullptr) {
        auto wanted = parse_durability_class(given.durability);
        if (!wanted) return refuse(wanted.error().message);
        o.media.durability = *wanted;
      }
    }
    objects::wanted wanted;
    // Each spec begins with its own size, which is where the next one begins.
    for (std::size_t i = 0; i < count; ++i) {
      std::string why;
      const auto* at = reinterpret_cast<const std::byte*>(specs) + i * specs->size;
      const auto& spec = *reinterpret_cast<const chainring_object_spec*>(at);
      if (spec.size != specs->size)
        return refuse("region " + std::string(path) + ", object " + std::to_string(i) +
                      ": its size differs from that of object 0");
      auto made = object_for(spec, why);
      if (made == nullptr)
        return refuse("region " + std::string(path) + ", object " + std::to_string(i) + ": " + why);
      wanted.push_back(std::move(made));
    }
    auto opened = objects::open_or_create(std::move(o), std::move(wanted));
    if (!opened) return refuse(opened.error().message);
    return region_of(std::move(opened).value());
  });
}

chainring_status chainring_close(chainring_region* region, chainring_error* error) {
  const std::unique_ptr<chainring_region> gone(region);
  return guarded(error, CHAINRING_NO_MEMORY, [&] {
    if (region == nullptr) {
      say(error, "the region is NULL");
      return CHAINRING_INVALID;
    }
    const auto closed = region->all->close();
    if (closed) return CHAINRING_DONE;
    say(error, closed.error().message);
    return CHAINRING_ERROR;
  });
}

void chainring_abandon(chainring_region* region) {
  delete region;
}

chainring_status chainring_grow(chainring_region* region, const char* object, uint64_t entries,
                                chainring_error* error) {
  return guarded(error, CHAINRING_NO_MEMORY, [&] {
    if (region == nullptr || object == nullptr) {
      say(error, region == nullptr ? "the region is NULL" : "the name is NULL");
      return CHAINRING_INVALID;
    }
    const auto grown = region->all->grow(object, entries);
    if (grown) return CHAINRING_DONE;
    say(error, grown.error().message);
    return grown.error().code == errc::not_found  ? CHAINRING_MISSING
           : grown.error().code == errc::no_space ? CHAINRING_FULL
                                                  : CHAINRING_ERROR;
  });
}

chainring_status chainring_wait_durable(chainring_region* region) {
  if (region == nullptr) return CHAINRING_INVALID;
  return guarded([&] {
    class region& r = region->all->region();
    return r.wait(r.mark()) ? CHAINRING_DONE : CHAINRING_FAILED;
  });
}

const char* chainring_durability(const chainring_region* region) {
  return region == nullptr ? nullptr : to_string(region->all->region().medium().durability());
}

size_t chainring_damages(const chainring_region* region) {
  if (region == nullptr) return 0;
  const recovery_report& r = region->all->recovered();
  return r.damage + r.fatal;
}

chainring_status chainring_damage_text(const chainring_region* region, size_t number,
                                       chainring_error* text) {
  if (region == nullptr || text == nullptr) return CHAINRING_INVALID;
  return guarded([&] {
    for (const problem& p : region->all->recovered().problems) {
      if (p.level == severity::note || number-- != 0) continue;
      say(text, p.text());
      return CHAINRING_DONE;
    }
    return CHAINRING_MISSING;
  });
}

// --- maps ---------------------------------------------------------------------------------------

chainring_map* chainring_map_get_handle(chainring_region* region, const char* name,
                                        chainring_error* error) {
  return handle_of<any_map>(region, name, &chainring_region::maps, error);
}

chainring_status chainring_map_get(const chainring_map* map, chainring_bytes key, void* to,
                                   size_t room, size_t* size) {
  if (map == nullptr || !whole(key) || (to == nullptr && room != 0)) return CHAINRING_INVALID;
  std::size_t found = 0;
  const map_status s = map->bytes->get(bytes(key), {static_cast<std::byte*>(to), room}, found);
  if (size != nullptr && s != map_status::missing) *size = found;
  return status_of(s);
}

namespace {

bool fits(std::size_t fixed, chainring_bytes b) noexcept {
  return whole(b) && (fixed == 0 || b.size == fixed);
}

/// What became of a change: a medium that has failed does not keep it.
chainring_status kept(map_status s, const media* medium) noexcept {
  return s == map_status::done && medium->failed() ? CHAINRING_FAILED : status_of(s);
}

/// A change of one key to a value.
template <class Fn>
chainring_status change(chainring_map* map, chainring_bytes key, chainring_bytes value,
                        Fn&& fn) noexcept {
  if (map == nullptr || !fits(map->key, key) || !fits(map->value, value)) return CHAINRING_INVALID;
  return guarded([&] { return kept(fn(*map->bytes, bytes(key), bytes(value)), map->medium); });
}
/// A change of one key without a value that is given.
template <class Fn>
chainring_status change(chainring_map* map, chainring_bytes key, Fn&& fn) noexcept {
  if (map == nullptr || !fits(map->key, key)) return CHAINRING_INVALID;
  return guarded([&] { return kept(fn(*map->bytes, bytes(key)), map->medium); });
}

} // namespace

chainring_status chainring_map_insert(chainring_map* map, chainring_bytes key,
                                      chainring_bytes value) {
  return change(map, key, value, [](durable_map& m, auto k, auto v) { return m.insert(k, v); });
}
chainring_status chainring_map_update(chainring_map* map, chainring_bytes key,
                                      chainring_bytes value) {
  return change(map, key, value, [](durable_map& m, auto k, auto v) { return m.update(k, v); });
}
chainring_status chainring_map_upsert(chainring_map* map, chainring_bytes key,
                                      chainring_bytes value) {
  return change(map, key, value, [](durable_map& m, auto k, auto v) { return m.upsert(k, v); });
}
chainring_status chainring_map_erase(chainring_map* map, chainring_bytes key) {
  return change(map, key, [](durable_map& m, auto k) { return m.erase(k); });
}
chainring_status chainring_map_compare_exchange(chainring_map* map, chainring_bytes key,
                                                chainring_bytes expected, chainring_bytes value) {
  if (!whole(expected)) return CHAINRING_INVALID;
  return change(map, key, value, [expected](durable_map& m, auto key, auto v) {
    return m.compare_exchange(key, bytes(expected), v);
  });
}
chainring_status chainring_map_increment(chainring_map* map, chainring_bytes key, uint64_t by) {
  if (map != nullptr && map->value != 0 && map->value != sizeof by) return CHAINRING_INVALID;
  return change(map, key, [by](durable_map& m, auto k) { return m.increment(k, by); });
}
chainring_status chainring_map_decrement(chainring_map* map, chainring_bytes key, uint64_t by) {
  return change(map, key, [by](durable_map& m, auto k) { return m.decrement(k, by); });
}

uint64_t chainring_map_len(const chainring_map* map) {
  return map == nullptr ? 0 : map->bytes->len();
}
uint64_t chainring_map_capacity(const chainring_map* map) {
  return map == nullptr ? 0 : map->bytes->capacity();
}

size_t chainring_map_apply(chainring_map* map, chainring_change* changes, size_t count) {
  if (map == nullptr || changes == nullptr) return 0;
  size_t done = 0;
  durable_map::batch b(*map->bytes);
  for (chainring_change& c : std::span(changes, count)) {
    c.status = CHAINRING_INVALID;
    const bool has_value = c.kind != CHAINRING_CHANGE_ERASE;
    if (!fits(map->key, c.key) || (has_value && !fits(map->value, c.value))) continue;
    const byte_span key = bytes(c.key), value = bytes(c.value);
    switch (c.kind) {
    case CHAINRING_CHANGE_INSERT:
      c.status = status_of(b.insert(key, value));
      break;
    case CHAINRING_CHANGE_UPDATE:
      c.status = status_of(b.update(key, value));
      break;
    case CHAINRING_CHANGE_UPSERT:
      c.status = status_of(b.upsert(key, value));
      break;
    case CHAINRING_CHANGE_ERASE:
      c.status = status_of(b.erase(key));
      break;
    default:
      break;
    }
    done += c.status == CHAINRING_DONE;
  }
  b.commit();
  if (!map->medium->failed()) return done;
  for (chainring_change& c : std::span(changes, count))
    if (c.status == CHAINRING_DONE) c.status = CHAINRING_FAILED;
  return 0;
}

chainring_status chainring_map_for_each(const chainring_map* map, chainring_visit visit,
                                        void* context) {
  if (map == nullptr || visit == nullptr) return CHAINRING_INVALID;
  return guarded([&] {
    bool more = true;
    map->bytes->for_each([&](byte_span k, byte_span v) {
      if (more) more = visit(context, bytes(k), bytes(v));
    });
    return CHAINRING_DONE;
  });
}

// --- pairs --------------------------------------------------------------------------------------

chainring_pairs* chainring_pairs_get_handle(chainring_region* region, const char* name,
                                            chainring_error* error) {
  return handle_of<any_pairs>(region, name, &chainring_region::pairs, error);
}

namespace {
bool found_by(const chainring_pairs* pairs, chainring_half by) noexcept {
  return by == CHAINRING_FIRST || (by == CHAINRING_SECOND && pairs->by_second);
}
} // namespace

chainring_status chainring_pairs_insert(chainring_pairs* pairs, chainring_bytes first,
                                        chainring_bytes second) {
  if (pairs == nullptr || !fits(pairs->first, first) || !fits(pairs->second, second))
    return CHAINRING_INVALID;
  return guarded(
      [&] { return kept(pairs->bytes->insert(bytes(first), bytes(second)), pairs->medium); });
}
chainring_status chainring_pairs_erase(chainring_pairs* pairs, chainring_bytes first,
                                       chainring_bytes second) {
  if (pairs == nullptr || !whole(first) || !whole(second)) return CHAINRING_INVALID;
  return guarded(
      [&] { return kept(pairs->bytes->erase(bytes(first), bytes(second)), pairs->medium); });
}
chainring_status chainring_pairs_contains(const chainring_pairs* pairs, chainring_bytes first,
                                          chainring_bytes second) {
  if (pairs == nullptr || !whole(first) || !whole(second)) return CHAINRING_INVALID;
  return guarded([&] {
    return pairs->bytes->contains(bytes(first), bytes(second)) ? CHAINRING_DONE : CHAINRING_MISSING;
  });
}
chainring_status chainring_pairs_for_each(const chainring_pairs* pairs, chainring_half by,
                                          chainring_bytes key, chainring_visit visit,
                                          void* context) {
  if (pairs == nullptr || visit == nullptr || !whole(key) || !found_by(pairs, by))
    return CHAINRING_INVALID;
  return guarded([&] {
    bool more = true;
    const pair_half half = by == CHAINRING_FIRST ? pair_half::first : pair_half::second;
    pairs->bytes->for_each_with(half, bytes(key), [&](byte_span other) {
      if (more) more = visit(context, key, bytes(other));
    });
    return CHAINRING_DONE;
  });
}
chainring_status chainring_pairs_erase_all(chainring_pairs* pairs, chainring_half by,
                                           chainring_bytes key, uint64_t* erased) {
  if (pairs == nullptr || !whole(key) || !found_by(pairs, by)) return CHAINRING_INVALID;
  return guarded([&] {
    const pair_half half = by == CHAINRING_FIRST ? pair_half::first : pair_half::second;
    const std::uint64_t n = pairs->bytes->erase_with(half, bytes(key));
    if (erased != nullptr) *erased = n;
    return kept(map_status::done, pairs->medium);
  });
}
uint64_t chainring_pairs_len(const chainring_pairs* pairs) {
  return pairs == nullptr ? 0 : pairs->bytes->len();
}

// --- queues -------------------------------------------------------------------------------------

chainring_queue* chainring_queue_get_handle(chainring_region* region, const char* name,
                                            chainring_error* error) {
  return handle_of<any_queue>(region, name, &chainring_region::queues, error);
}

namespace {

using taken = durable_queue::taken;

chainring_taken to_c(const taken& t) noexcept {
  chainring_taken out{};
  static_assert(sizeof t.entry == sizeof out.entry && std::is_trivially_copyable_v<leased>);
  std::memcpy(out.entry, &t.entry, sizeof out.entry);
  out.bytes = t.bytes;
  out.again = t.again();
  return out;
}
taken from_c(const chainring_taken& t) noexcept {
  taken out;
  std::memcpy(static_cast<void*>(&out.entry), t.entry, sizeof out.entry);
  out.bytes = t.bytes;
  return out;
}

bool stream_of(const chainring_queue* queue, std::uint32_t stream) noexcept {
  return queue != nullptr && stream < queue->bytes->streams();
}

/// Calls fn with the entries in pieces of at most burst_max. Stops at what is not done.
template <class Fn>
chainring_status in_bursts(const chainring_taken* entries, std::size_t count, Fn&& fn) {
  for (std::size_t at = 0; at < count;) {
    taken t[durable_queue::burst_max];
    const std::size_t n = std::min<std::size_t>(count - at, std::size(t));
    for (std::size_t i = 0; i < n; ++i)
      t[i] = from_c(entries[at + i]);
    const queue_status s = fn(std::span<const taken>(t, n));
    if (s != queue_status::done) return status_of(s);
    at += n;
  }
  return CHAINRING_DONE;
}

} // namespace

chainring_status chainring_queue_enqueue(chainring_queue* queue, chainring_bytes entry) {
  return chainring_queue_enqueue_bulk(queue, &entry, 1);
}

size_t chainring_queue_enqueue_burst(chainring_queue* queue, const chainring_bytes* entries,
                                     size_t count) {
  if (queue == nullptr || entries == nullptr) return 0;
  std::size_t done = 0;
  while (done < count) {
    byte_span some[durable_queue::burst_max];
    std::size_t n = 0;
    while (n < std::size(some) && done + n < count && whole(entries[done + n])) {
      some[n] = bytes(entries[done + n]);
      ++n;
    }
    const std::uint32_t now = n == 0 ? 0 : queue->bytes->enqueue_burst(std::span(some).first(n));
    done += now;
    if (now < std::size(some)) break;
  }
  return done;
}

chainring_status chainring_queue_enqueue_bulk(chainring_queue* queue,
                                              const chainring_bytes* entries, size_t count) {
  if (queue == nullptr || (entries == nullptr && count != 0)) return CHAINRING_INVALID;
  if (count == 0) return CHAINRING_DONE;
  byte_span all[durable_queue::burst_max];
  if (count > std::size(all)) return CHAINRING_INVALID;
  for (std::size_t i = 0; i < count; ++i) {
    if (!whole(entries[i])) return CHAINRING_INVALID;
    all[i] = bytes(entries[i]);
  }
  return status_of(queue->bytes->enqueue_bulk(std::span(all).first(count)));
}

size_t chainring_queue_take(chainring_queue* queue, uint32_t stream, chainring_taken* out,
                            size_t count) {
  if (!stream_of(queue, stream) || out == nullptr) return 0;
  std::size_t n = 0;
  while (n < count) {
    taken t[durable_queue::burst_max];
    const std::size_t most = std::min<std::size_t>(count - n, std::size(t));
    const std::uint32_t now = queue->bytes->take(stream, std::span(t).first(most));
    for (std::uint32_t i = 0; i < now; ++i)
      out[n + i] = to_c(t[i]);
    n += now;
    if (now < most) break;
  }
  return n;
}

size_t chainring_queue_wait_take(chainring_queue* queue, uint32_t stream, chainring_taken* out,
                                 size_t count, uint64_t milliseconds) {
  if (!stream_of(queue, stream) || out == nullptr || count == 0) return 0;
  const auto longest = std::chrono::milliseconds(std::min<std::uint64_t>(milliseconds, 1u << 31));
  const auto end = std::chrono::steady_clock::now() + longest;
  for (idle_policy wait(idle_mode::sleep, 1000);; wait.idle()) {
    if (const std::size_t n = chainring_queue_take(queue, stream, out, count); n != 0) return n;
    if (queue->bytes->medium().failed() || std::chrono::steady_clock::now() >= end) return 0;
  }
}

chainring_status chainring_queue_copy(const chainring_queue* queue, const chainring_taken* entry,
                                      void* to, size_t room) {
  if (queue == nullptr || entry == nullptr || (to == nullptr && room != 0))
    return CHAINRING_INVALID;
  const std::uint32_t fixed = queue->bytes->entry_bytes();
  if (fixed != 0 && entry->bytes != fixed) return CHAINRING_INVALID; // another queue's
  if (entry->bytes > room) return CHAINRING_TOO_LONG;
  const taken t = from_c(*entry);
  const std::size_t n = queue->bytes->copy(t, {static_cast<std::byte*>(to), entry->bytes});
  return n == entry->bytes ? CHAINRING_DONE : CHAINRING_MISSING;
}

chainring_status chainring_queue_release(chainring_queue* queue, uint32_t stream,
                                         const chainring_taken* entries, size_t count) {
  if (!stream_of(queue, stream) || (entries == nullptr && count != 0)) return CHAINRING_INVALID;
  return in_bursts(entries, count, [&](std::span<const taken> some) {
    return queue->bytes->release(stream, some);
  });
}

chainring_status chainring_queue_give_back(chainring_queue* queue, uint32_t stream,
                                           const chainring_taken* entries, size_t count) {
  if (!stream_of(queue, stream) || (entries == nullptr && count != 0)) return CHAINRING_INVALID;
  return in_bursts(entries, count, [&](std::span<const taken> some) {
    queue->bytes->give_back(stream, some);
    return queue_status::done;
  });
}

uint64_t chainring_queue_depth(const chainring_queue* queue, uint32_t stream) {
  return stream_of(queue, stream) ? queue->bytes->depth(stream) : 0;
}
uint64_t chainring_queue_capacity(const chainring_queue* queue) {
  return queue == nullptr ? 0 : queue->bytes->capacity();
}

// --- chains -------------------------------------------------------------------------------------

namespace {

chain from_c(chainring_chain c) noexcept {
  return {c.first, c.blocks};
}

} // namespace

chainring_status chainring_chain_allocate(chainring_region* region, uint64_t size,
                                          chainring_chain* out, size_t chains_max, size_t* chains) {
  if (region == nullptr || out == nullptr || chains_max == 0 || size == 0) return CHAINRING_INVALID;
  constexpr std::size_t most = 64;
  block_store& blocks = region->all->blocks();
  const std::uint64_t wanted = size > UINT64_MAX / 2 ? UINT64_MAX : blocks.blocks_for(size);
  chain got[most];
  if (wanted > block_store::blocks_max) return CHAINRING_FULL;
  const unsigned n = blocks.allocate(static_cast<std::uint32_t>(wanted),
                                     std::span(got).first(std::min(chains_max, most)));
  if (n == 0) return CHAINRING_FULL;
  for (unsigned i = 0; i < n; ++i)
    out[i] = {got[i].first, got[i].blocks};
  if (chains != nullptr) *chains = n;
  return CHAINRING_DONE;
}

chainring_status chainring_chain_release(chainring_region* region, const chainring_chain* chains,
                                         size_t count) {
  if (region == nullptr || (chains == nullptr && count != 0)) return CHAINRING_INVALID;
  block_store& blocks = region->all->blocks();
  for (const chainring_chain& c : std::span(chains, count))
    if (!blocks.valid(from_c(c))) return CHAINRING_INVALID;
  for (const chainring_chain& c : std::span(chains, count))
    blocks.release(from_c(c));
  return CHAINRING_DONE;
}

chainring_status chainring_chain_resize(chainring_region* region, chainring_chain* c,
                                        uint64_t size) {
  if (region == nullptr || c == nullptr || size == 0) return CHAINRING_INVALID;
  block_store& blocks = region->all->blocks();
  chain now = from_c(*c);
  if (!blocks.valid(now)) return CHAINRING_INVALID;
  const std::uint64_t wanted = size > UINT64_MAX / 2 ? UINT64_MAX : blocks.blocks_for(size);
  if (wanted > block_store::blocks_max || !blocks.resize(now, static_cast<std::uint32_t>(wanted)))
    return CHAINRING_FULL;
  *c = {now.first, now.blocks};
  return CHAINRING_DONE;
}

void* chainring_chain_address(chainring_region* region, chainring_chain c) {
  if (region == nullptr || !region->all->blocks().valid(from_c(c))) return nullptr;
  return region->all->blocks().address(from_c(c));
}

uint64_t chainring_chain_bytes(const chainring_region* region, chainring_chain c) {
  if (region == nullptr || !region->all->blocks().valid(from_c(c))) return 0;
  return region->all->blocks().size_of(from_c(c));
}

chainring_status chainring_chain_persist(chainring_region* region, const chainring_chain* chains,
                                         size_t count) {
  if (region == nullptr || (chains == nullptr && count != 0)) return CHAINRING_INVALID;
  block_store& blocks = region->all->blocks();
  for (const chainring_chain& c : std::span(chains, count))
    if (!blocks.valid(from_c(c))) return CHAINRING_INVALID;
  media& m = blocks.medium();
  // A drain covers so much of some media only.
  std::uint64_t undrained = 0;
  const std::uint64_t most = m.drain_bytes_max() / 2;
  for (const chainring_chain& c : std::span(chains, count)) {
    std::uint64_t left = blocks.size_of(from_c(c));
    for (const std::byte* at = blocks.address(from_c(c)); left != 0;) {
      const std::uint64_t n = std::min(left, most - undrained);
      // [chain-persisted] Without it a program could say that its bytes are safe when a crash takes
      // them.
      m.flush(at, n); // [chain-persisted]
      at += n;
      left -= n;
      undrained += n;
      if (undrained != most) continue;
      m.drain(); // in pieces [chain-persisted]
      undrained = 0;
    }
  }
  if (undrained != 0) m.drain(); // [chain-persisted]
  return m.failed() ? CHAINRING_FAILED : CHAINRING_DONE;
}

// --- timers -------------------------------------------------------------------------------------

chainring_timers* chainring_timers_create(uint32_t timers_max, chainring_error* error) {
  return guarded(error, static_cast<chainring_timers*>(nullptr), [&]() -> chainring_timers* {
    auto made = timer_set::create(timers_max);
    if (!made) {
      say(error, made.error().message);
      return nullptr;
    }
    return new chainring_timers{std::move(made).value()};
  });
}

void chainring_timers_destroy(chainring_timers* timers) {
  delete timers;
}

chainring_status chainring_timers_arm(chainring_timers* timers, uint64_t deadline_tsc,
                                      chainring_timer_function function, void* context,
                                      uint64_t argument, chainring_timer* out) {
  if (timers == nullptr || function == nullptr) return CHAINRING_INVALID;
  // The type says that the function does not throw, which no function of C does.
  const timer_handle h = timers->set->arm(
      deadline_tsc, reinterpret_cast<timer_set::callback>(function), context, argument);
  if (h == timer_handle{}) return CHAINRING_FULL;
  if (out != nullptr) *out = {h.index, h.generation};
  return CHAINRING_DONE;
}

chainring_status chainring_timers_cancel(chainring_timers* timers, chainring_timer timer) {
  if (timers == nullptr) return CHAINRING_INVALID;
  return timers->set->cancel({timer.index, timer.generation}) ? CHAINRING_DONE : CHAINRING_MISSING;
}

uint32_t chainring_timers_manage(chainring_timers* timers) {
  return timers == nullptr ? 0 : timers->set->manage();
}

uint32_t chainring_timers_armed(const chainring_timers* timers) {
  return timers == nullptr ? 0 : timers->set->armed();
}
