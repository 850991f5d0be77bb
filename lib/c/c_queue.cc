// SPDX-License-Identifier: BSD-3-Clause
// Queues of the C binding.
#include <chrono>
#include <type_traits>

#include "base/idle.h"
#include "c/handles.h"

using namespace chainring;
using namespace chainring::binding;

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

chainring_status chainring_queue_enqueue_operation(chainring_queue* queue,
                                                   chainring_operation_id id,
                                                   chainring_bytes entry) {
  operation_id named;
  if (queue == nullptr || queue->bytes->clients() == 0 || !to_cpp(id, named) || !whole(entry))
    return CHAINRING_INVALID;
  return status_of(queue->bytes->enqueue(named, bytes(entry)));
}
chainring_outcome chainring_queue_resolve(const chainring_queue* queue, chainring_operation_id id) {
  operation_id named;
  if (queue == nullptr || queue->bytes->clients() == 0 || !to_cpp(id, named))
    return CHAINRING_UNKNOWN_OUTCOME;
  return outcome(queue->bytes->resolve(named));
}
uint64_t chainring_queue_last_operation(const chainring_queue* queue, uint32_t client) {
  if (queue == nullptr || queue->bytes->clients() == 0) return 0;
  return queue->bytes->last_operation(client);
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
