// SPDX-License-Identifier: BSD-3-Clause
// Batches of maps that are atomic as a whole, and operation ids of maps, of the C binding.
#include "c/handles.h"

using namespace chainring;
using namespace chainring::binding;

chainring_outcome chainring_map_resolve(const chainring_map* map, chainring_operation_id id) {
  operation_id named;
  if (map == nullptr || !to_cpp(id, named)) return CHAINRING_UNKNOWN_OUTCOME;
  return outcome(map->bytes->resolve(named));
}
uint64_t chainring_map_last_operation(const chainring_map* map, uint32_t client) {
  return map == nullptr ? 0 : map->bytes->last_operation(client);
}

chainring_batch* chainring_batch_create(chainring_map* map, chainring_error* error) {
  return handle_or_null<chainring_batch>(error, [&]() -> chainring_batch* {
    if (map == nullptr) {
      say(error, "the map is NULL; chainring_map_get_handle() gives one");
      return nullptr;
    }
    return new chainring_batch{durable_map::atomic_batch(*map->bytes), {}, map->key, map->value};
  });
}
void chainring_batch_destroy(chainring_batch* batch) {
  delete batch;
}

chainring_status chainring_batch_insert(chainring_batch* batch, chainring_bytes key,
                                        chainring_bytes value) {
  if (batch == nullptr || !fits(batch->key, key) || !fits(batch->value, value))
    return CHAINRING_INVALID;
  return guarded([&] { return status_of(batch->changes.insert(bytes(key), bytes(value))); });
}
chainring_status chainring_batch_upsert(chainring_batch* batch, chainring_bytes key,
                                        chainring_bytes value) {
  if (batch == nullptr || !fits(batch->key, key) || !fits(batch->value, value))
    return CHAINRING_INVALID;
  return guarded([&] { return status_of(batch->changes.upsert(bytes(key), bytes(value))); });
}
chainring_status chainring_batch_erase(chainring_batch* batch, chainring_bytes key) {
  if (batch == nullptr || !fits(batch->key, key)) return CHAINRING_INVALID;
  return guarded([&] { return status_of(batch->changes.erase(bytes(key))); });
}
chainring_status chainring_batch_identify(chainring_batch* batch, chainring_operation_id id) {
  operation_id named;
  if (batch == nullptr || !to_cpp(id, named)) return CHAINRING_INVALID;
  return guarded([&] {
    if (std::ranges::find(batch->clients, named.client) != batch->clients.end())
      return CHAINRING_INVALID;
    batch->clients.push_back(named.client);
    const map_status s = batch->changes.identify(named);
    if (s != map_status::done) batch->clients.pop_back();
    return status_of(s);
  });
}

size_t chainring_batch_size(const chainring_batch* batch) {
  return batch == nullptr ? 0 : batch->changes.size();
}
void chainring_batch_clear(chainring_batch* batch) {
  if (batch == nullptr) return;
  batch->changes.clear();
  batch->clients.clear();
}

chainring_status chainring_batch_commit(chainring_batch* batch, chainring_error* error) {
  return guarded(error, [&] {
    if (batch == nullptr) {
      say(error, "the batch is NULL; chainring_batch_create() makes one");
      return CHAINRING_INVALID;
    }
    batch->clients.clear();
    const map_status s = batch->changes.commit();
    if (s == map_status::exists)
      say(error, "a key of an insert is in the map already; nothing has changed");
    else if (s == map_status::repeated)
      say(error, "the operation, or a later one of its client, took effect before; nothing has "
                 "changed now");
    else if (s == map_status::full)
      say(error, "the map has no room for the changes, and nothing has changed; chainring_grow() "
                 "makes room");
    else if (s == map_status::failed)
      say(error, "the medium has failed and takes no more writes; the next open has all of the "
                 "batch or nothing");
    return status_of(s);
  });
}
