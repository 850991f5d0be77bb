/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The C binding of libchainring, in C11: regions with named objects, which are maps, pairs and
 * queues of byte strings; chains of blocks; and timers.
 *
 * **When to use:** programs in C, or in a language that calls C. **When not:** C++, which has the
 * same with types (chainring/chainring.h).
 *
 * **Memory:** handles are opaque. Bytes go in and out through memory of the caller's. No call keeps
 * a pointer that it was given, and none returns memory that the caller frees.
 *
 * **Bursts:** calls that take several entries make them durable with one drain, or two.
 *
 * **Durability:** a call that changes a map, pairs or a queue returns when its change is durable;
 * objects/objects.h, map/durable_map.h, map/durable_pairs.h and ring/durable_queue.h say what that
 * means. In class `file` a change is on the disk once chainring_wait_durable() has returned.
 *
 * **Thread-safety:** chainring_close(), chainring_abandon() and chainring_grow() come from one
 * thread, and nothing is used while a region closes. Any thread may make any other call, except that one thread at a time consumes a stream in mode `mpsc`, and that a set of
 * timers belongs to the thread that made it.
 *
 * **Errors:** a chainring_status says what became of a call. Calls that can fail for many reasons
 * also fill in a chainring_error, whose text is a sentence that names the object and the remedy. It
 * may be NULL. No exception comes out of a call. A NULL handle, and any other misuse that can be
 * seen, is CHAINRING_INVALID; a chain or an entry that is given back twice cannot be seen.
 *
 * **Compatibility:** a program that was built with this header runs with each later library of the
 * same SONAME (docs/abi.md). A struct that may grow begins with its size, which the caller sets.
 *
 *     chainring_error e;
 *     chainring_object_spec spec = CHAINRING_OBJECT_SPEC("words", CHAINRING_MAP, 1000);
 *     chainring_region *r = chainring_open_or_create("/var/tmp/words", NULL, &spec, 1, &e);
 *     if (r == NULL) { puts(e.text); return 1; }
 *     chainring_map *words = chainring_map_get_handle(r, "words", &e);
 *     chainring_map_increment(words, chainring_text("to"), 1);
 *     chainring_close(r, NULL);
 */
#ifndef CHAINRING_C_H
#define CHAINRING_C_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The version of this header. chainring_version() tells that of the library. */
#define CHAINRING_VERSION_MAJOR 0
#define CHAINRING_VERSION_MINOR 1
#define CHAINRING_VERSION_PATCH 0

/** "0.1.0" */
const char *chainring_version(void);

/* --- what calls take and return ---------------------------------------------------------------- */

typedef enum chainring_status {
  CHAINRING_DONE = 0,
  CHAINRING_EXISTS = 1,    /**< the key or pair is there already */
  CHAINRING_MISSING = 2,   /**< there is no such key, pair or object */
  CHAINRING_MISMATCH = 3,  /**< the value is not the expected one, or no number of 8 bytes */
  CHAINRING_FULL = 4,      /**< there is no room for it; chainring_grow() makes some */
  CHAINRING_TOO_LONG = 5,  /**< longer than the object takes, or than the caller's memory */
  CHAINRING_FAILED = 6,    /**< the medium has failed and takes no more writes */
  CHAINRING_NO_MEMORY = 7, /**< the process gets no more memory */
  CHAINRING_INVALID = 8,   /**< an argument is wrong */
  CHAINRING_ERROR = 9,     /**< the text of the chainring_error says what */
  CHAINRING_TOO_MANY = 10, /**< a batch has as many changes as it may have */
  CHAINRING_REPEATED = 11  /**< the operation, or a later one of its client, took effect before */
} chainring_status;

/** A few words about a status, never NULL. */
const char *chainring_status_text(chainring_status status);

typedef struct chainring_error {
  char text[512]; /**< cut off where it is longer; always ends with a 0 */
} chainring_error;

/** Bytes of the caller's, which a call reads. `data` may be NULL where `size` is 0. */
typedef struct chainring_bytes {
  const void *data;
  size_t size;
} chainring_bytes;

static inline chainring_bytes chainring_text(const char *text) {
  chainring_bytes b;
  b.data = text;
  b.size = strlen(text);
  return b;
}

/* --- regions ------------------------------------------------------------------------------------ */

typedef struct chainring_region chainring_region;
typedef struct chainring_map chainring_map;
typedef struct chainring_pairs chainring_pairs;
typedef struct chainring_queue chainring_queue;

typedef enum chainring_kind {
  CHAINRING_MAP = 1,
  CHAINRING_MULTIMAP = 2, /**< pairs that are found by their first half */
  CHAINRING_BIMAP = 3,    /**< pairs that are found by either half */
  CHAINRING_QUEUE = 4     /**< each stream of it has one consumer thread */
} chainring_kind;

/** An object that a program wants. What it leaves 0 has the meaning that is said here. */
typedef struct chainring_object_spec {
  size_t size;       /**< sizeof(chainring_object_spec) */
  const char *name;  /**< 1 to 24 characters, none of them # */
  int32_t kind;      /**< chainring_kind */
  uint32_t version;  /**< of the content; 0 means 1 */
  uint64_t entries;  /**< for which there is room at first, at least 1 */
  uint32_t key;      /**< bytes of each key, or first half, or queue entry; 0: any number */
  uint32_t value;    /**< bytes of each value, or second half; 0: any number */
  uint32_t streams;  /**< of a queue, 1 to 64; 0 means 1 */
  int32_t consumers; /**< of a stream: 0 means one thread, 1 means several threads */
  uint32_t clients;  /**< of a queue: those whose enqueues have operation ids; 0: none */
  uint32_t zero;
} chainring_object_spec;

#define CHAINRING_OBJECT_SPEC(name, kind, entries)                                                 \
  { sizeof(chainring_object_spec), (name), (kind), 1, (entries), 0, 0, 0, 0, 0, 0 }

/** How the region is made or opened. What a program leaves 0 is chosen by the library. */
typedef struct chainring_region_options {
  size_t size;              /**< sizeof(chainring_region_options) */
  uint64_t region_bytes;    /**< of a new region; 0: what its objects need */
  uint64_t region_max;      /**< to which it can grow */
  const char *durability;   /**< "power", "file", "process", "emulated"; NULL: that of the place */
} chainring_region_options;

/**
 * Makes the region, or opens it, recovers it, and makes the objects that it does not have yet.
 * Objects that the region has and the program does not name stay. `options` may be NULL. Returns
 * NULL on an error.
 */
chainring_region *chainring_open_or_create(const char *path, const chainring_region_options *options,
                                           const chainring_object_spec *objects, size_t count,
                                           chainring_error *error);
/** Makes everything durable, marks the region clean and frees all handles. They are freed on an
    error, too. */
chainring_status chainring_close(chainring_region *region, chainring_error *error);
/** Frees all handles with the effect of a crash. NULL does nothing. */
void chainring_abandon(chainring_region *region);
/** Gives an object room for `entries` more. Other threads may use the object meanwhile. */
chainring_status chainring_grow(chainring_region *region, const char *object, uint64_t entries,
                                chainring_error *error);
/** Returns when everything that was durable at the call is on the medium; at once, except in class
    `file`. Any thread may call it. */
chainring_status chainring_wait_durable(chainring_region *region);
/** "power", "file", "process" or "emulated"; NULL for a NULL handle. */
const char *chainring_durability(const chainring_region *region);
/** The damages that the open found. Damaged entries are left out; all others are served. */
size_t chainring_damages(const chainring_region *region);
/** A sentence about one of them. CHAINRING_MISSING: there are not so many, or it was not kept. */
chainring_status chainring_damage_text(const chainring_region *region, size_t number,
                                       chainring_error *text);

/* --- maps of byte strings ------------------------------------------------------------------------ */
/*
 * Keys and values of another size than the object has are CHAINRING_INVALID, and so are halves of
 * pairs, and the keys in which a map keeps operation ids (map/map_media.h). Each change may also
 * return CHAINRING_FAILED: it is not kept.
 */

/** The map of that name, which lives as long as its region is open. NULL on an error. */
chainring_map *chainring_map_get_handle(chainring_region *region, const char *name,
                                        chainring_error *error);
/**
 * Copies the value into `room` bytes at `to`. `size` becomes the bytes of the value and may be
 * NULL. Returns done, missing, or too_long, where nothing is copied.
 */
chainring_status chainring_map_get(const chainring_map *map, chainring_bytes key, void *to,
                                   size_t room, size_t *size);
/** Returns done, exists, full or too_long. */
chainring_status chainring_map_insert(chainring_map *map, chainring_bytes key,
                                      chainring_bytes value);
/** Returns done, missing, full or too_long. */
chainring_status chainring_map_update(chainring_map *map, chainring_bytes key,
                                      chainring_bytes value);
/** Returns done, full or too_long. */
chainring_status chainring_map_upsert(chainring_map *map, chainring_bytes key,
                                      chainring_bytes value);
/** Returns done or missing. */
chainring_status chainring_map_erase(chainring_map *map, chainring_bytes key);
/** Replaces the value if it is `expected`. Returns done, missing, mismatch, full or too_long. */
chainring_status chainring_map_compare_exchange(chainring_map *map, chainring_bytes key,
                                                chainring_bytes expected, chainring_bytes value);
/** Adds to a number of 8 bytes in the machine's order, and inserts it if it is missing. */
chainring_status chainring_map_increment(chainring_map *map, chainring_bytes key, uint64_t by);
/** Subtracts from such a number, and erases the key when it becomes 0. */
chainring_status chainring_map_decrement(chainring_map *map, chainring_bytes key, uint64_t by);
uint64_t chainring_map_len(const chainring_map *map);
uint64_t chainring_map_capacity(const chainring_map *map);

typedef enum chainring_change_kind {
  CHAINRING_CHANGE_INSERT = 1,
  CHAINRING_CHANGE_UPDATE = 2,
  CHAINRING_CHANGE_UPSERT = 3,
  CHAINRING_CHANGE_ERASE = 4
} chainring_change_kind;

typedef struct chainring_change {
  int32_t kind;    /**< chainring_change_kind */
  int32_t status;  /**< set by the call: a chainring_status */
  chainring_bytes key, value;
} chainring_change;

/**
 * Makes the changes of a burst with one drain for up to 64 of them, or two where keys over 24 or
 * values over 16 bytes are among them. Each change is atomic, and the burst is not. Returns how
 * many are done.
 */
size_t chainring_map_apply(chainring_map *map, chainring_change *changes, size_t count);

/** Is called for each entry; the bytes are valid during the call. False ends the calls. */
typedef bool (*chainring_visit)(void *context, chainring_bytes key, chainring_bytes value);
/** Calls visit(context, key, value) for the entries while other threads write. visit must not
    change the map. */
chainring_status chainring_map_for_each(const chainring_map *map, chainring_visit visit,
                                        void *context);

/* --- operation ids -------------------------------------------------------------------------------- */

/**
 * Names an operation, so that it takes effect once however often it is repeated, and so that its
 * outcome is known after a crash (base/operation_id.h). A client gives each operation a greater
 * sequence number than the one before, whose outcome it knows by then. Structures remember the last
 * operation of each client that took effect.
 */
typedef struct chainring_operation_id {
  uint64_t sequence; /**< 1 to 2^48 - 1 */
  uint32_t client;
  uint32_t zero;
} chainring_operation_id;

typedef enum chainring_outcome {
  CHAINRING_UNKNOWN_OUTCOME = 0, /**< an argument is wrong */
  CHAINRING_TOOK_EFFECT = 1,
  CHAINRING_NO_EFFECT = 2, /**< neither now nor later, unless it is repeated */
  CHAINRING_SUPERSEDED = 3 /**< a later operation of the client took effect */
} chainring_outcome;

/** Says whether the operation took effect, which it did durably. */
chainring_outcome chainring_map_resolve(const chainring_map *map, chainring_operation_id id);
/** The sequence number of the client's last operation that took effect; 0: none did. */
uint64_t chainring_map_last_operation(const chainring_map *map, uint32_t client);

/* --- batches of maps that are atomic as a whole ---------------------------------------------------- */

/**
 * Up to 256 changes of a map that are made together or not at all, to readers and after a crash
 * (durable_map::atomic_batch), with two drains. One thread uses a batch. It keeps copies of the
 * keys and values until it is committed, and its memory until it is destroyed.
 */
typedef struct chainring_batch chainring_batch;

/** NULL on an error. The batch is destroyed before its region is closed. */
chainring_batch *chainring_batch_create(chainring_map *map, chainring_error *error);
/** Forgets what is not committed. NULL does nothing. */
void chainring_batch_destroy(chainring_batch *batch);
/** Each returns done, too_long or too_many, and is part of the batch only with done. The last
   change of a key counts. */
chainring_status chainring_batch_insert(chainring_batch *batch, chainring_bytes key,
                                        chainring_bytes value);
chainring_status chainring_batch_upsert(chainring_batch *batch, chainring_bytes key,
                                        chainring_bytes value);
chainring_status chainring_batch_erase(chainring_batch *batch, chainring_bytes key);
/** Makes the batch the operation of that id, or of several, each of another client. It is one of
   the changes. Returns done, too_many, or invalid for a second id of one client. */
chainring_status chainring_batch_identify(chainring_batch *batch, chainring_operation_id id);
/** The number of changes. */
size_t chainring_batch_size(const chainring_batch *batch);
/** Forgets the changes. */
void chainring_batch_clear(chainring_batch *batch);
/** Makes the changes durable and then visible. Returns done; or repeated, exists (a key of an
    insert), full or failed. Only with done has anything changed; with failed, the next open has all
    of it or nothing. The batch is empty afterwards. */
chainring_status chainring_batch_commit(chainring_batch *batch, chainring_error *error);

/* --- pairs ---------------------------------------------------------------------------------------- */

typedef enum chainring_half { CHAINRING_FIRST = 0, CHAINRING_SECOND = 1 } chainring_half;

/** The multimap or bimap of that name. NULL on an error. */
chainring_pairs *chainring_pairs_get_handle(chainring_region *region, const char *name,
                                            chainring_error *error);
/** Returns done, exists, full or too_long. */
chainring_status chainring_pairs_insert(chainring_pairs *pairs, chainring_bytes first,
                                        chainring_bytes second);
/** Returns done or missing. */
chainring_status chainring_pairs_erase(chainring_pairs *pairs, chainring_bytes first,
                                       chainring_bytes second);
/** Returns done or missing. */
chainring_status chainring_pairs_contains(const chainring_pairs *pairs, chainring_bytes first,
                                          chainring_bytes second);
/** Calls visit(context, key, other half) for each pair whose half `by` is `key`, as they were at
    one moment. A multimap is asked by its first half. */
chainring_status chainring_pairs_for_each(const chainring_pairs *pairs, chainring_half by,
                                          chainring_bytes key, chainring_visit visit,
                                          void *context);
/** Erases these pairs. `erased` becomes their number and may be NULL. */
chainring_status chainring_pairs_erase_all(chainring_pairs *pairs, chainring_half by,
                                           chainring_bytes key, uint64_t *erased);
uint64_t chainring_pairs_len(const chainring_pairs *pairs);

/* --- queues of byte strings ----------------------------------------------------------------------- */

/** An entry that chainring_queue_take() has handed out. A program reads `bytes` and `again` only. */
typedef struct chainring_taken {
  uint64_t entry[2];
  uint32_t bytes; /**< its length */
  uint32_t again; /**< not 0: it may have been handed out before */
} chainring_taken;

/** The queue of that name. NULL on an error. */
chainring_queue *chainring_queue_get_handle(chainring_region *region, const char *name,
                                            chainring_error *error);
/** Puts an entry into every stream. Returns done, full, too_long or failed. */
chainring_status chainring_queue_enqueue(chainring_queue *queue, chainring_bytes entry);
/** Puts as many of the first entries into every stream as there is room for. Returns how many. */
size_t chainring_queue_enqueue_burst(chainring_queue *queue, const chainring_bytes *entries,
                                     size_t count);
/** Puts all of at most 64 entries into every stream, or none. */
chainring_status chainring_queue_enqueue_bulk(chainring_queue *queue,
                                              const chainring_bytes *entries, size_t count);
/** Puts an entry into every stream as the operation of that id. Returns done, repeated, full (also
    where there are as many clients as the queue has room for), too_long, failed, or invalid for a
    queue that was made without clients. */
chainring_status chainring_queue_enqueue_operation(chainring_queue *queue,
                                                   chainring_operation_id id,
                                                   chainring_bytes entry);
/** Says whether the operation took effect, also where its entry was released since. */
chainring_outcome chainring_queue_resolve(const chainring_queue *queue, chainring_operation_id id);
/** The sequence number of the client's last operation that took effect; 0: none did. */
uint64_t chainring_queue_last_operation(const chainring_queue *queue, uint32_t client);
/** Hands out the next entries of a stream, and returns how many. They are the caller's until they
    are released or given back; those of a process that ends are handed out again. */
size_t chainring_queue_take(chainring_queue *queue, uint32_t stream, chainring_taken *out,
                            size_t count);
/** As chainring_queue_take(), but waits until there is an entry, or for so long. */
size_t chainring_queue_wait_take(chainring_queue *queue, uint32_t stream, chainring_taken *out,
                                 size_t count, uint64_t milliseconds);
/** Copies the bytes of an entry. Returns done, too_long where nothing is copied, or missing where
    the entry is damaged. */
chainring_status chainring_queue_copy(const chainring_queue *queue, const chainring_taken *entry,
                                      void *to, size_t room);
/** Ends entries durably, with one drain for up to 64 of them. Returns done or failed. */
chainring_status chainring_queue_release(chainring_queue *queue, uint32_t stream,
                                         const chainring_taken *entries, size_t count);
/** Gives entries back: the next take hands them out again. */
chainring_status chainring_queue_give_back(chainring_queue *queue, uint32_t stream,
                                           const chainring_taken *entries, size_t count);
/** The entries in a stream, also those that are taken. */
uint64_t chainring_queue_depth(const chainring_queue *queue, uint32_t stream);
uint64_t chainring_queue_capacity(const chainring_queue *queue);

/* --- chains of blocks ------------------------------------------------------------------------------ */

/** Neighbouring blocks of a region. Nothing durable names them: the next open finds them free. */
typedef struct chainring_chain {
  uint32_t first, blocks;
} chainring_chain;

/**
 * Allocates blocks for `bytes` bytes in as few chains as possible, at most `chains_max`. `chains`
 * becomes their number. Returns done or full, where nothing is allocated.
 */
chainring_status chainring_chain_allocate(chainring_region *region, uint64_t bytes,
                                          chainring_chain *out, size_t chains_max,
                                          size_t *chains);
chainring_status chainring_chain_release(chainring_region *region, const chainring_chain *chains,
                                         size_t count);
/** Makes a chain as long as `bytes` need without moving it. Returns done, or full where the blocks
    behind it are taken. */
chainring_status chainring_chain_resize(chainring_region *region, chainring_chain *chain,
                                        uint64_t bytes);
/** The first byte of a chain, and its size in bytes; NULL and 0 where it is no chain. */
void *chainring_chain_address(chainring_region *region, chainring_chain chain);
uint64_t chainring_chain_bytes(const chainring_region *region, chainring_chain chain);
/** Makes the bytes of a chain durable with one drain. */
chainring_status chainring_chain_persist(chainring_region *region, const chainring_chain *chains,
                                         size_t count);

/* --- timers ----------------------------------------------------------------------------------------- */

/** Timers of one thread, which is an lcore of EAL and has called rte_timer_subsystem_init(). */
typedef struct chainring_timers chainring_timers;
/** Names one arming of one timer. A handle that was kept too long cancels nothing. */
typedef struct chainring_timer {
  uint32_t index, generation;
} chainring_timer;
typedef void (*chainring_timer_function)(void *context, uint64_t argument);

/** NULL on an error. */
chainring_timers *chainring_timers_create(uint32_t timers_max, chainring_error *error);
/** Cancels all armed timers. NULL does nothing. */
void chainring_timers_destroy(chainring_timers *timers);
/** Arms a timer: chainring_timers_manage() calls function(context, argument) once rte_rdtsc() has
    reached `deadline_tsc`, never before. Returns done or full. `out` may be NULL. */
chainring_status chainring_timers_arm(chainring_timers *timers, uint64_t deadline_tsc,
                                      chainring_timer_function function, void *context,
                                      uint64_t argument, chainring_timer *out);
/** Returns done, or missing where it has fired, was cancelled or was never armed. */
chainring_status chainring_timers_cancel(chainring_timers *timers, chainring_timer timer);
/** Fires all timers that are due, in the order of their deadlines. Returns how many. */
uint32_t chainring_timers_manage(chainring_timers *timers);
uint32_t chainring_timers_armed(const chainring_timers *timers);

#ifdef __cplusplus
}
#endif
#endif
