// SPDX-License-Identifier: BSD-3-Clause
// The C binding: versions, regions, and the handles of their objects. Each call checks its
// arguments, makes the call of the C++ library, and turns what comes of it into a status and a
// sentence. No exception leaves it. c_map.cc has maps and pairs, c_batch.cc batches of maps,
// c_queue.cc queues, and c_chain.cc chains and timers.
#include "c/handles.h"

using namespace chainring;
using namespace chainring::binding;

namespace chainring {

// get() is asked for a handle in place of a type: for any map, any pairs, any queue.
template <> struct object_of<chainring_map> {
  static std::string type() { return "map of bytes"; }
  static bool is(std::string_view words) { return words.starts_with("map of "); }
  static chainring_map view(named_object& o) noexcept {
    auto& map = static_cast<detail::map_object&>(o);
    return {&map.bytes(), map.key_bytes(), map.value_bytes()};
  }
};
template <> struct object_of<chainring_pairs> {
  static std::string type() { return "multimap or bimap of bytes"; }
  static bool is(std::string_view words) {
    return words.starts_with("multimap of ") || words.starts_with("bimap of ");
  }
  static chainring_pairs view(named_object& o) noexcept {
    auto& pairs = static_cast<detail::pairs_object&>(o);
    return {&pairs.pairs(), pairs.first_bytes(), pairs.second_bytes(), pairs.by_second()};
  }
};
template <> struct object_of<chainring_queue> {
  static std::string type() { return "queue of bytes"; }
  static bool is(std::string_view words) { return words.starts_with("queue of "); }
  static chainring_queue view(named_object& o) noexcept {
    return {&static_cast<detail::queue_object&>(o).bytes()};
  }
};

} // namespace chainring

namespace {

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
    if (o.zero != 0) {
      why = "its member `zero` is " + std::to_string(o.zero) + ": expected 0";
      return nullptr;
    }
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
            .mode = o.consumers == 0 ? queue_mode::mpsc : queue_mode::mpmc,
            .clients = o.clients});
  default:
    why = "its kind is " + std::to_string(o.kind) + ": expected a chainring_kind";
  }
  return nullptr;
}

/// The handle of an object, kept in `known`.
template <class Handle>
Handle* handle_of(chainring_region* region, const char* name,
                  std::map<std::string, Handle, std::less<>> chainring_region::*known,
                  chainring_error* error) noexcept {
  return handle_or_null<Handle>(error, [&]() -> Handle* {
    if (region == nullptr || name == nullptr) {
      say(error, region == nullptr ? "the region is NULL" : "the name is NULL");
      return nullptr;
    }
    auto found = region->all->get<Handle>(name);
    if (!found) {
      say(error, found.error().message);
      return nullptr;
    }
    Handle made = found.value();
    if constexpr (requires { made.medium; }) made.medium = &region->all->region().medium();
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
  case CHAINRING_TOO_MANY:
    return "the batch has as many changes as it may have";
  case CHAINRING_REPEATED:
    return "the operation took effect before";
  }
  return "an unknown status";
}

// --- regions and handles ----------------------------------------------------------------------

chainring_region* chainring_open_or_create(const char* path,
                                           const chainring_region_options* options,
                                           const chainring_object_spec* specs, size_t count,
                                           chainring_error* error) {
  return handle_or_null<chainring_region>(error, [&]() -> chainring_region* {
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
  return guarded(error, [&] {
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
  return guarded(error, [&] {
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

chainring_map* chainring_map_get_handle(chainring_region* region, const char* name,
                                        chainring_error* error) {
  return handle_of(region, name, &chainring_region::maps, error);
}

chainring_pairs* chainring_pairs_get_handle(chainring_region* region, const char* name,
                                            chainring_error* error) {
  return handle_of(region, name, &chainring_region::pairs, error);
}

chainring_queue* chainring_queue_get_handle(chainring_region* region, const char* name,
                                            chainring_error* error) {
  return handle_of(region, name, &chainring_region::queues, error);
}
