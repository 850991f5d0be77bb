// SPDX-License-Identifier: BSD-3-Clause
/// What the sources of the C binding share: what its handles are, and how arguments, statuses and
/// exceptions are turned into one another. Not installed.
#pragma once
#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "c.h"
#include "objects/object_map.h"
#include "objects/object_pairs.h"
#include "objects/object_queue.h"
#include "timer/timer.h"

// Handles are these objects. Those of maps, pairs and queues belong to their region.
struct chainring_map {
  chainring::durable_map* bytes;
  std::size_t key, value; ///< bytes of each; 0: any number
  const chainring::media* medium = nullptr;
};
/// A batch belongs to the program that made it.
struct chainring_batch {
  chainring::durable_map::atomic_batch changes;
  std::vector<std::uint32_t> clients; ///< those with an id in the batch
  std::size_t key, value;             ///< bytes of each; 0: any number
};
struct chainring_pairs {
  chainring::durable_pairs* bytes;
  std::size_t first, second; ///< bytes of each half; 0: any number
  bool by_second;
  const chainring::media* medium = nullptr;
};
struct chainring_queue {
  chainring::durable_queue* bytes;
};
struct chainring_region {
  std::unique_ptr<chainring::objects> all;
  std::mutex handles; ///< guards the maps below; what they hold stays where it is
  std::map<std::string, chainring_map, std::less<>> maps;
  std::map<std::string, chainring_pairs, std::less<>> pairs;
  std::map<std::string, chainring_queue, std::less<>> queues;
};
struct chainring_timers {
  std::unique_ptr<chainring::timer_set> set;
};

namespace chainring {

/// Makes a handle of objects that were opened in C++, also for tests. The handle owns the objects.
[[nodiscard]] chainring_region* region_of(std::unique_ptr<objects> all);

namespace binding {

using byte_span = std::span<const std::byte>;

inline void say(chainring_error* error, std::string_view text) noexcept {
  if (error == nullptr) return;
  const std::size_t n = std::min(text.size(), sizeof error->text - 1);
  if (n != 0) std::memcpy(error->text, text.data(), n);
  error->text[n] = '\0';
}

/// Runs fn() and gives what it returns, or what `thrown` makes of a status where something was
/// thrown. The error has a sentence then, and is empty otherwise.
template <class Fn, class Thrown>
auto guarded(chainring_error* error, Fn&& fn, Thrown&& thrown) noexcept {
  say(error, "");
  try {
    return fn();
  } catch (const std::bad_alloc&) {
    say(error, "there is not enough memory");
    return thrown(CHAINRING_NO_MEMORY);
  } catch (const std::exception& e) {
    say(error, e.what());
  } catch (...) {
    say(error, "an exception that says nothing of itself");
  }
  return thrown(CHAINRING_ERROR);
}
/// For calls that return a status, and for those that return a handle.
template <class Fn> chainring_status guarded(chainring_error* error, Fn&& fn) noexcept {
  return guarded(error, fn, [](chainring_status s) { return s; });
}
template <class Fn> chainring_status guarded(Fn&& fn) noexcept {
  return guarded(nullptr, fn);
}
template <class Handle, class Fn> Handle* handle_or_null(chainring_error* error, Fn&& fn) noexcept {
  return guarded(error, fn, [](chainring_status) -> Handle* { return nullptr; });
}

inline bool whole(chainring_bytes b) noexcept {
  return b.data != nullptr || b.size == 0;
}
inline byte_span bytes(chainring_bytes b) noexcept {
  return {static_cast<const std::byte*>(b.data), b.size};
}
inline chainring_bytes bytes(byte_span b) noexcept {
  return {b.data(), b.size()};
}

inline chainring_status status_of(map_status s) noexcept {
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
  case map_status::failed:
    return CHAINRING_FAILED;
  case map_status::too_many:
    return CHAINRING_TOO_MANY;
  case map_status::repeated:
    return CHAINRING_REPEATED;
  case map_status::reserved:
    return CHAINRING_INVALID;
  case map_status::busy:
    break; // of staged changes, which this binding has not
  }
  return CHAINRING_ERROR;
}
inline chainring_status status_of(queue_status s) noexcept {
  switch (s) {
  case queue_status::done:
    return CHAINRING_DONE;
  case queue_status::full:
    return CHAINRING_FULL;
  case queue_status::too_long:
    return CHAINRING_TOO_LONG;
  case queue_status::failed:
    return CHAINRING_FAILED;
  case queue_status::repeated:
    return CHAINRING_REPEATED;
  }
  return CHAINRING_ERROR;
}

/// True for an id that names an operation.
inline bool to_cpp(const chainring_operation_id& from, operation_id& to) noexcept {
  to = {.client = from.client, .sequence = from.sequence};
  return from.zero == 0 && to.valid();
}
inline chainring_outcome outcome(operation_outcome o) noexcept {
  switch (o) {
  case operation_outcome::took_effect:
    return CHAINRING_TOOK_EFFECT;
  case operation_outcome::no_effect:
    return CHAINRING_NO_EFFECT;
  case operation_outcome::superseded:
    return CHAINRING_SUPERSEDED;
  }
  return CHAINRING_UNKNOWN_OUTCOME;
}

/// True for bytes that an object with that fixed size takes; 0 stands for any size.
inline bool fits(std::size_t fixed, chainring_bytes b) noexcept {
  return whole(b) && (fixed == 0 || b.size == fixed);
}

/// What became of a change: a medium that has failed does not keep it.
inline chainring_status kept(map_status s, const media* medium) noexcept {
  return s == map_status::done && medium->failed() ? CHAINRING_FAILED : status_of(s);
}

} // namespace binding
} // namespace chainring
