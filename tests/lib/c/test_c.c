// SPDX-License-Identifier: BSD-3-Clause
// The C binding, from a program in C11 that is linked with the shared library.
#include <inttypes.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_timer.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "c.h"

#define EXPECT(condition)                                                                          \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                      \
      failed = 1;                                                                                  \
    }                                                                                              \
  } while (0)
#define REQUIRE(condition)                                                                         \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                      \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

static int failed;
static char path[64];
static chainring_error e;

static const chainring_bytes nothing = {NULL, 0};

static chainring_region *open_all(void) {
  chainring_object_spec of[] = {
      CHAINRING_OBJECT_SPEC("words", CHAINRING_MAP, 1000),
      CHAINRING_OBJECT_SPEC("topics", CHAINRING_BIMAP, 1000),
      CHAINRING_OBJECT_SPEC("orders", CHAINRING_MULTIMAP, 100),
      CHAINRING_OBJECT_SPEC("jobs", CHAINRING_QUEUE, 100),
  };
  of[3].streams = 2;
  chainring_region *r = chainring_open_or_create(path, NULL, of, sizeof of / sizeof *of, &e);
  if (r == NULL) fprintf(stderr, "%s\n", e.text);
  REQUIRE(r != NULL);
  EXPECT(e.text[0] == '\0');
  return r;
}

static chainring_map *words_of(chainring_region *r) {
  chainring_map *m = chainring_map_get_handle(r, "words", &e);
  REQUIRE(m != NULL);
  return m;
}

static bool count_visits(void *context, chainring_bytes key, chainring_bytes value) {
  (void)value;
  EXPECT(key.size != 0);
  return ++*(int *)context != 2; // the third visit is not made
}

static void test_maps(void) {
  chainring_region *r = open_all();
  chainring_map *m = words_of(r);
  EXPECT(m == words_of(r));
  EXPECT(chainring_map_insert(m, chainring_text("a"), chainring_text("one")) == CHAINRING_DONE);
  EXPECT(chainring_map_insert(m, chainring_text("a"), nothing) == CHAINRING_EXISTS);
  EXPECT(chainring_map_update(m, chainring_text("b"), nothing) == CHAINRING_MISSING);
  EXPECT(chainring_map_upsert(m, chainring_text("b"), chainring_text("two")) == CHAINRING_DONE);
  EXPECT(chainring_map_compare_exchange(m, chainring_text("b"), chainring_text("three"),
                                        chainring_text("four")) == CHAINRING_MISMATCH);
  EXPECT(chainring_map_compare_exchange(m, chainring_text("b"), chainring_text("two"),
                                        chainring_text("four")) == CHAINRING_DONE);
  char text[8];
  size_t size = 0;
  EXPECT(chainring_map_get(m, chainring_text("b"), text, sizeof text, &size) == CHAINRING_DONE);
  EXPECT(size == 4 && memcmp(text, "four", 4) == 0);
  size = 0;
  EXPECT(chainring_map_get(m, chainring_text("b"), text, 3, &size) == CHAINRING_TOO_LONG);
  EXPECT(size == 4);
  EXPECT(chainring_map_get(m, chainring_text("c"), NULL, 0, NULL) == CHAINRING_MISSING);
  EXPECT(chainring_map_increment(m, chainring_text("n"), 3) == CHAINRING_DONE);
  EXPECT(chainring_map_increment(m, chainring_text("b"), 1) == CHAINRING_MISMATCH);
  uint64_t n = 0;
  EXPECT(chainring_map_get(m, chainring_text("n"), &n, sizeof n, NULL) == CHAINRING_DONE && n == 3);
  EXPECT(chainring_map_decrement(m, chainring_text("n"), 3) == CHAINRING_DONE);
  EXPECT(chainring_map_erase(m, chainring_text("n")) == CHAINRING_MISSING);
  EXPECT(chainring_map_erase(m, chainring_text("a")) == CHAINRING_DONE);
  EXPECT(chainring_map_len(m) == 1);

  chainring_change changes[200];
  char keys[200][16];
  for (int i = 0; i < 200; ++i) {
    snprintf(keys[i], sizeof keys[i], "key %d", i);
    changes[i] = (chainring_change){CHAINRING_CHANGE_INSERT, -1, chainring_text(keys[i]),
                                    chainring_text(keys[i])};
  }
  changes[7].kind = CHAINRING_CHANGE_ERASE;
  changes[8].kind = 99;
  EXPECT(chainring_map_apply(m, changes, 200) == 198);
  EXPECT(changes[0].status == CHAINRING_DONE && changes[199].status == CHAINRING_DONE);
  EXPECT(changes[7].status == CHAINRING_MISSING && changes[8].status == CHAINRING_INVALID);
  EXPECT(chainring_map_len(m) == 199);
  int visits = 0;
  EXPECT(chainring_map_for_each(m, count_visits, &visits) == CHAINRING_DONE && visits == 2);

  static char long_text[200000];
  memset(long_text, 'x', sizeof long_text);
  const chainring_bytes too_long = {long_text, sizeof long_text};
  EXPECT(chainring_map_insert(m, too_long, nothing) == CHAINRING_TOO_LONG);
  EXPECT(chainring_map_capacity(m) >= 1000);
  EXPECT(chainring_close(r, &e) == CHAINRING_DONE);

  r = open_all();
  EXPECT(chainring_map_len(words_of(r)) == 199);
  EXPECT(chainring_damages(r) == 0);
  EXPECT(chainring_damage_text(r, 0, &e) == CHAINRING_MISSING);
  chainring_abandon(r);
}

static bool append(void *context, chainring_bytes key, chainring_bytes other) {
  (void)key;
  strncat((char *)context, (const char *)other.data, other.size);
  return true;
}

static void test_pairs(void) {
  chainring_region *r = open_all();
  chainring_pairs *p = chainring_pairs_get_handle(r, "topics", &e);
  REQUIRE(p != NULL);
  const chainring_bytes ada = chainring_text("ada"), bob = chainring_text("bob"),
                        news = chainring_text("news"), jobs = chainring_text("jobs");
  EXPECT(chainring_pairs_insert(p, ada, news) == CHAINRING_DONE);
  EXPECT(chainring_pairs_insert(p, ada, news) == CHAINRING_EXISTS);
  EXPECT(chainring_pairs_insert(p, bob, news) == CHAINRING_DONE);
  EXPECT(chainring_pairs_insert(p, ada, jobs) == CHAINRING_DONE);
  EXPECT(chainring_pairs_contains(p, ada, jobs) == CHAINRING_DONE);
  EXPECT(chainring_pairs_contains(p, bob, jobs) == CHAINRING_MISSING);
  char text[64] = "";
  EXPECT(chainring_pairs_for_each(p, CHAINRING_SECOND, news, append, text) == CHAINRING_DONE);
  EXPECT(strcmp(text, "adabob") == 0 || strcmp(text, "bobada") == 0);
  EXPECT(chainring_pairs_erase(p, bob, news) == CHAINRING_DONE);
  uint64_t erased = 0;
  EXPECT(chainring_pairs_erase_all(p, CHAINRING_FIRST, ada, &erased) == CHAINRING_DONE);
  EXPECT(erased == 2 && chainring_pairs_len(p) == 0);

  chainring_pairs *orders = chainring_pairs_get_handle(r, "orders", &e);
  REQUIRE(orders != NULL);
  EXPECT(chainring_pairs_insert(orders, ada, jobs) == CHAINRING_DONE);
  EXPECT(chainring_pairs_for_each(orders, CHAINRING_SECOND, jobs, append, text) ==
         CHAINRING_INVALID);
  EXPECT(chainring_close(r, NULL) == CHAINRING_DONE);
}

static void *enqueue_later(void *queue) {
  usleep(20000);
  EXPECT(chainring_queue_enqueue((chainring_queue *)queue, chainring_text("late")) ==
         CHAINRING_DONE);
  return NULL;
}

static void test_queues(void) {
  chainring_region *r = open_all();
  chainring_queue *q = chainring_queue_get_handle(r, "jobs", &e);
  REQUIRE(q != NULL);
  EXPECT(chainring_queue_enqueue(q, chainring_text("first")) == CHAINRING_DONE);
  chainring_bytes some[150];
  for (int i = 0; i < 150; ++i)
    some[i] = chainring_text("more");
  EXPECT(chainring_queue_enqueue_bulk(q, some, 65) == CHAINRING_INVALID);
  EXPECT(chainring_queue_enqueue_bulk(q, NULL, 0) == CHAINRING_DONE);
  EXPECT(chainring_queue_enqueue_burst(q, some, 0) == 0);
  EXPECT(chainring_queue_enqueue_bulk(q, some, 64) == CHAINRING_DONE);
  EXPECT(chainring_queue_enqueue_burst(q, some, 150) == chainring_queue_capacity(q) - 65);
  EXPECT(chainring_queue_enqueue(q, chainring_text("none")) == CHAINRING_FULL);

  chainring_taken t[200];
  EXPECT(chainring_queue_take(q, 0, t, 2) == 2);
  char text[8];
  EXPECT(t[0].bytes == 5 && t[0].again == 0);
  EXPECT(chainring_queue_copy(q, &t[0], text, 4) == CHAINRING_TOO_LONG);
  EXPECT(chainring_queue_copy(q, &t[0], text, sizeof text) == CHAINRING_DONE);
  EXPECT(memcmp(text, "first", 5) == 0);
  EXPECT(chainring_queue_give_back(q, 0, t, 2) == CHAINRING_DONE);
  EXPECT(chainring_queue_take(q, 0, t, 200) == 100);
  EXPECT(t[0].again != 0);
  EXPECT(chainring_queue_release(q, 0, t, 100) == CHAINRING_DONE);
  EXPECT(chainring_queue_depth(q, 0) == 0 && chainring_queue_depth(q, 1) == 100);
  EXPECT(chainring_queue_take(q, 0, t, 1) == 0);
  EXPECT(chainring_queue_take(q, 2, t, 1) == 0);
  EXPECT(chainring_queue_release(q, 2, t, 1) == CHAINRING_INVALID);
  chainring_abandon(r); // stream 1 has everything after this crash

  r = open_all();
  q = chainring_queue_get_handle(r, "jobs", &e);
  REQUIRE(q != NULL);
  EXPECT(chainring_queue_depth(q, 0) == 0);
  EXPECT(chainring_queue_take(q, 1, t, 200) == 100);
  EXPECT(chainring_queue_release(q, 1, t, 100) == CHAINRING_DONE);

  pthread_t later;
  REQUIRE(pthread_create(&later, NULL, enqueue_later, q) == 0);
  EXPECT(chainring_queue_wait_take(q, 0, t, 200, 60000) == 1);
  pthread_join(later, NULL);
  EXPECT(chainring_queue_release(q, 0, t, 1) == CHAINRING_DONE);
  EXPECT(chainring_queue_wait_take(q, 0, t, 200, 1) == 0);
  EXPECT(chainring_close(r, NULL) == CHAINRING_DONE);
}

static void test_chains(void) {
  chainring_region *r = open_all();
  chainring_chain c[4];
  size_t n = 0;
  REQUIRE(chainring_chain_allocate(r, 1000, c, 1, &n) == CHAINRING_DONE);
  EXPECT(n == 1 && chainring_chain_bytes(r, c[0]) >= 1000);
  char *bytes = chainring_chain_address(r, c[0]);
  REQUIRE(bytes != NULL);
  memset(bytes, 'x', 1000);
  EXPECT(chainring_chain_persist(r, c, 1) == CHAINRING_DONE);
  EXPECT(chainring_chain_resize(r, &c[0], 100) == CHAINRING_DONE);
  EXPECT(chainring_chain_bytes(r, c[0]) >= 100 && chainring_chain_bytes(r, c[0]) < 1000);
  EXPECT(chainring_chain_release(r, c, 1) == CHAINRING_DONE);
  EXPECT(chainring_chain_allocate(r, UINT64_MAX, c, 4, &n) == CHAINRING_FULL);
  EXPECT(chainring_chain_allocate(r, 0, c, 4, &n) == CHAINRING_INVALID);
  const chainring_chain no_chain = {UINT32_MAX, 1};
  EXPECT(chainring_chain_address(r, no_chain) == NULL);
  EXPECT(chainring_chain_release(r, &no_chain, 1) == CHAINRING_INVALID);
  EXPECT(chainring_close(r, NULL) == CHAINRING_DONE);
}

static void test_that_a_killed_process_loses_nothing(void) {
  const pid_t child = fork();
  if (child == 0) {
    chainring_region *r = open_all();
    if (chainring_map_increment(words_of(r), chainring_text("kills"), 1) != CHAINRING_DONE) _exit(1);
    if (chainring_wait_durable(r) != CHAINRING_DONE) _exit(2);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  chainring_region *r = open_all();
  uint64_t n = 0;
  EXPECT(chainring_map_get(words_of(r), chainring_text("kills"), &n, sizeof n, NULL) ==
         CHAINRING_DONE);
  EXPECT(n == 1);
  EXPECT(strcmp(chainring_durability(r), "process") == 0);
  EXPECT(chainring_close(r, NULL) == CHAINRING_DONE);
}

static void expect_refusal(const chainring_object_spec *of, const char *part) {
  EXPECT(chainring_open_or_create(path, NULL, of, 1, &e) == NULL);
  if (strstr(e.text, part) == NULL) {
    fprintf(stderr, "expected '%s' in: %s\n", part, e.text);
    failed = 1;
  }
}

static void test_refusals(void) {
  chainring_object_spec of = CHAINRING_OBJECT_SPEC("words", CHAINRING_MAP, 1000);
  of.key = 8;
  expect_refusal(&of, "the region has it as a 'map of string to string'");
  of.kind = 77;
  expect_refusal(&of, "its kind is 77");
  of.kind = CHAINRING_QUEUE;
  of.consumers = 2;
  expect_refusal(&of, "consumers is 2");
  of.consumers = 0;
  of.name = NULL;
  expect_refusal(&of, "its name is NULL");
  EXPECT(chainring_open_or_create(NULL, NULL, &of, 1, &e) == NULL);
  EXPECT(strstr(e.text, "path") != NULL);
  EXPECT(chainring_open_or_create(path, NULL, NULL, 0, NULL) == NULL);

  // A struct of a later version, in which something is asked for that this one does not know.
  struct {
    chainring_object_spec known;
    uint64_t later;
  } future = {CHAINRING_OBJECT_SPEC("words", CHAINRING_MAP, 1000), 1};
  future.known.size = sizeof future;
  expect_refusal(&future.known, "only a later version of the library has");
  of = (chainring_object_spec)CHAINRING_OBJECT_SPEC("words", CHAINRING_MAP, 1000);
  const size_t wrong_sizes[] = {0, 8, 9, sizeof of + 1, (size_t)-1};
  for (size_t i = 0; i < sizeof wrong_sizes / sizeof *wrong_sizes; ++i) {
    of.size = wrong_sizes[i];
    expect_refusal(&of, "expected that of the struct");
  }
  future.later = 0;
  chainring_region *r = chainring_open_or_create(path, NULL, &future.known, 1, &e);
  REQUIRE(r != NULL);
  EXPECT(chainring_queue_get_handle(r, "words", &e) == NULL);
  EXPECT(strstr(e.text, "map of string to string") != NULL);
  EXPECT(chainring_map_get_handle(r, "word", &e) == NULL);
  EXPECT(strstr(e.text, "object 'word'") != NULL);
  EXPECT(chainring_grow(r, "word", 1, &e) == CHAINRING_MISSING);
  EXPECT(chainring_grow(r, "words", 1, &e) == CHAINRING_DONE);
  chainring_abandon(r);

  chainring_region_options o = {sizeof o, 0, 0, "paper"};
  chainring_object_spec fine = CHAINRING_OBJECT_SPEC("words", CHAINRING_MAP, 1000);
  EXPECT(chainring_open_or_create(path, &o, &fine, 1, &e) == NULL);
  EXPECT(strstr(e.text, "paper") != NULL);
}

static void test_fixed_sizes(void) {
  char fixed_path[80];
  snprintf(fixed_path, sizeof fixed_path, "%s.fixed", path);
  unlink(fixed_path);
  chainring_object_spec of[] = {CHAINRING_OBJECT_SPEC("map", CHAINRING_MAP, 10),
                                CHAINRING_OBJECT_SPEC("pairs", CHAINRING_BIMAP, 10),
                                CHAINRING_OBJECT_SPEC("queue", CHAINRING_QUEUE, 10),
                                CHAINRING_OBJECT_SPEC("texts", CHAINRING_QUEUE, 10)};
  of[0].key = of[0].value = of[1].value = of[2].key = 8;
  chainring_region *r = chainring_open_or_create(fixed_path, NULL, of, 4, &e);
  if (r == NULL) fprintf(stderr, "%s\n", e.text);
  REQUIRE(r != NULL);
  chainring_map *m = chainring_map_get_handle(r, "map", &e);
  chainring_pairs *p = chainring_pairs_get_handle(r, "pairs", &e);
  chainring_queue *q = chainring_queue_get_handle(r, "queue", &e);
  chainring_queue *texts = chainring_queue_get_handle(r, "texts", &e);
  const chainring_bytes eight = chainring_text("12345678"), five = chainring_text("12345");
  EXPECT(chainring_map_insert(m, eight, eight) == CHAINRING_DONE);
  EXPECT(chainring_map_insert(m, five, eight) == CHAINRING_INVALID);
  EXPECT(chainring_map_upsert(m, eight, five) == CHAINRING_INVALID);
  EXPECT(chainring_map_increment(m, five, 1) == CHAINRING_INVALID);
  chainring_change c[] = {{CHAINRING_CHANGE_UPSERT, 0, eight, five},
                          {CHAINRING_CHANGE_ERASE, 0, eight, nothing}};
  EXPECT(chainring_map_apply(m, c, 2) == 1 && c[0].status == CHAINRING_INVALID);
  EXPECT(chainring_pairs_insert(p, five, eight) == CHAINRING_DONE);
  EXPECT(chainring_pairs_insert(p, eight, five) == CHAINRING_INVALID);
  EXPECT(chainring_queue_enqueue(q, five) == CHAINRING_TOO_LONG);
  EXPECT(chainring_queue_enqueue(q, eight) == CHAINRING_DONE);
  EXPECT(chainring_queue_enqueue(texts, chainring_text("a longer text")) == CHAINRING_DONE);
  chainring_taken t;
  char text[32];
  EXPECT(chainring_queue_take(texts, 0, &t, 1) == 1);
  EXPECT(chainring_queue_copy(q, &t, text, sizeof text) == CHAINRING_INVALID);
  EXPECT(chainring_queue_copy(texts, &t, text, sizeof text) == CHAINRING_DONE);
  EXPECT(chainring_close(r, NULL) == CHAINRING_DONE);
  unlink(fixed_path);

  of[0].name = "map#1";
  EXPECT(chainring_open_or_create(fixed_path, NULL, of, 1, &e) == NULL);
  EXPECT(strstr(e.text, "#") != NULL);
  of[0].name = "map";
  of[0].key = UINT32_MAX;
  EXPECT(chainring_open_or_create(fixed_path, NULL, of, 1, &e) == NULL);
  EXPECT(strstr(e.text, "keys of 4294967295 bytes") != NULL);
  EXPECT(access(fixed_path, F_OK) != 0);
}

static chainring_operation_id operation(uint32_t client, uint64_t sequence) {
  const chainring_operation_id id = {sequence, client, 0};
  return id;
}

static void test_batches(void) {
  chainring_region *r = open_all();
  chainring_map *m = words_of(r);
  chainring_batch *b = chainring_batch_create(m, &e);
  REQUIRE(b != NULL);
  EXPECT(chainring_batch_insert(b, chainring_text("x"), chainring_text("1")) == CHAINRING_DONE);
  EXPECT(chainring_batch_upsert(b, chainring_text("y"), chainring_text("2")) == CHAINRING_DONE);
  EXPECT(chainring_batch_erase(b, chainring_text("none")) == CHAINRING_DONE);
  EXPECT(chainring_batch_size(b) == 3);
  EXPECT(chainring_map_get(m, chainring_text("x"), NULL, 0, NULL) == CHAINRING_MISSING);
  EXPECT(chainring_batch_commit(b, &e) == CHAINRING_DONE);
  EXPECT(e.text[0] == '\0' && chainring_batch_size(b) == 0);
  EXPECT(chainring_map_get(m, chainring_text("x"), NULL, 0, NULL) == CHAINRING_TOO_LONG);

  EXPECT(chainring_batch_insert(b, chainring_text("x"), nothing) == CHAINRING_DONE);
  EXPECT(chainring_batch_erase(b, chainring_text("y")) == CHAINRING_DONE);
  EXPECT(chainring_batch_commit(b, &e) == CHAINRING_EXISTS);
  EXPECT(strstr(e.text, "a key of an insert is in the map already") != NULL);
  EXPECT(chainring_map_get(m, chainring_text("y"), NULL, 0, NULL) == CHAINRING_TOO_LONG);
  for (int i = 0; i < 257; ++i) {
    char key[16];
    snprintf(key, sizeof key, "b%d", i);
    EXPECT(chainring_batch_insert(b, chainring_text(key), nothing) ==
           (i < 256 ? CHAINRING_DONE : CHAINRING_TOO_MANY));
  }
  chainring_batch_clear(b);
  EXPECT(chainring_batch_size(b) == 0);

  // The batch is an operation, which takes effect once.
  for (int i = 0; i < 2; ++i) {
    EXPECT(chainring_batch_identify(b, operation(7, 5)) == CHAINRING_DONE);
    EXPECT(chainring_batch_identify(b, operation(7, 6)) == CHAINRING_INVALID);
    EXPECT(chainring_batch_erase(b, chainring_text("x")) == CHAINRING_DONE);
    EXPECT(chainring_batch_commit(b, &e) == (i == 0 ? CHAINRING_DONE : CHAINRING_REPEATED));
  }
  EXPECT(strstr(e.text, "took effect before") != NULL);
  EXPECT(chainring_batch_identify(b, operation(7, 0)) == CHAINRING_INVALID);
  EXPECT(chainring_batch_insert(b, chainring_text("kept"), nothing) == CHAINRING_DONE);
  chainring_batch_destroy(b);
  EXPECT(chainring_map_get(m, chainring_text("kept"), NULL, 0, NULL) == CHAINRING_MISSING);
  chainring_abandon(r);

  r = open_all();
  m = words_of(r);
  EXPECT(chainring_map_resolve(m, operation(7, 5)) == CHAINRING_TOOK_EFFECT);
  EXPECT(chainring_map_resolve(m, operation(7, 4)) == CHAINRING_SUPERSEDED);
  EXPECT(chainring_map_resolve(m, operation(7, 6)) == CHAINRING_NO_EFFECT);
  EXPECT(chainring_map_resolve(m, operation(7, 0)) == CHAINRING_UNKNOWN_OUTCOME);
  EXPECT(chainring_map_last_operation(m, 7) == 5 && chainring_map_last_operation(m, 8) == 0);
  EXPECT(chainring_map_erase(m, chainring_text("y")) == CHAINRING_DONE);
  EXPECT(chainring_close(r, NULL) == CHAINRING_DONE);
}

static void test_operations(void) {
  char other[80];
  snprintf(other, sizeof other, "%s.operations", path);
  unlink(other);
  chainring_object_spec of = CHAINRING_OBJECT_SPEC("orders", CHAINRING_QUEUE, 10);
  of.clients = 2;
  chainring_region *r = chainring_open_or_create(other, NULL, &of, 1, &e);
  if (r == NULL) fprintf(stderr, "%s\n", e.text);
  REQUIRE(r != NULL);
  chainring_queue *q = chainring_queue_get_handle(r, "orders", &e);
  const chainring_bytes text = chainring_text("two bolts");
  EXPECT(chainring_queue_enqueue_operation(q, operation(1, 1), text) == CHAINRING_DONE);
  EXPECT(chainring_queue_enqueue_operation(q, operation(1, 1), text) == CHAINRING_REPEATED);
  EXPECT(chainring_queue_enqueue_operation(q, operation(2, 1), text) == CHAINRING_DONE);
  EXPECT(chainring_queue_enqueue_operation(q, operation(3, 1), text) == CHAINRING_FULL);
  EXPECT(chainring_queue_enqueue_operation(q, operation(1, 0), text) == CHAINRING_INVALID);
  chainring_taken t[4];
  EXPECT(chainring_queue_take(q, 0, t, 4) == 2);
  EXPECT(chainring_queue_release(q, 0, t, 2) == CHAINRING_DONE);
  chainring_abandon(r);

  r = chainring_open_or_create(other, NULL, &of, 1, &e);
  REQUIRE(r != NULL);
  q = chainring_queue_get_handle(r, "orders", &e);
  EXPECT(chainring_queue_resolve(q, operation(1, 1)) == CHAINRING_TOOK_EFFECT);
  EXPECT(chainring_queue_resolve(q, operation(1, 2)) == CHAINRING_NO_EFFECT);
  EXPECT(chainring_queue_last_operation(q, 2) == 1);
  EXPECT(chainring_queue_enqueue_operation(q, operation(1, 1), text) == CHAINRING_REPEATED);
  EXPECT(chainring_close(r, NULL) == CHAINRING_DONE);
  of.clients = 0;
  EXPECT(chainring_open_or_create(other, NULL, &of, 1, &e) == NULL);
  EXPECT(strstr(e.text, "with ids") != NULL);
  of.zero = 1;
  EXPECT(chainring_open_or_create(other, NULL, &of, 1, &e) == NULL);
  unlink(other);
  r = open_all();
  q = chainring_queue_get_handle(r, "jobs", &e);
  EXPECT(chainring_queue_enqueue_operation(q, operation(1, 1), text) == CHAINRING_INVALID);
  EXPECT(chainring_queue_resolve(q, operation(1, 1)) == CHAINRING_UNKNOWN_OUTCOME);
  EXPECT(chainring_queue_last_operation(q, 1) == 0);
  chainring_abandon(r);
}

static void test_null(void) {
  EXPECT(chainring_close(NULL, &e) == CHAINRING_INVALID);
  chainring_abandon(NULL);
  EXPECT(chainring_map_get_handle(NULL, "x", &e) == NULL);
  EXPECT(chainring_map_insert(NULL, nothing, nothing) == CHAINRING_INVALID);
  EXPECT(chainring_map_get(NULL, nothing, NULL, 0, NULL) == CHAINRING_INVALID);
  EXPECT(chainring_pairs_insert(NULL, nothing, nothing) == CHAINRING_INVALID);
  EXPECT(chainring_queue_enqueue(NULL, nothing) == CHAINRING_INVALID);
  EXPECT(chainring_queue_take(NULL, 0, NULL, 1) == 0);
  EXPECT(chainring_chain_release(NULL, NULL, 0) == CHAINRING_INVALID);
  EXPECT(chainring_timers_manage(NULL) == 0);
  chainring_timers_destroy(NULL);
  EXPECT(chainring_batch_create(NULL, &e) == NULL && e.text[0] != '\0');
  EXPECT(chainring_batch_commit(NULL, &e) == CHAINRING_INVALID && e.text[0] != '\0');
  EXPECT(chainring_batch_insert(NULL, nothing, nothing) == CHAINRING_INVALID);
  EXPECT(chainring_batch_identify(NULL, operation(1, 1)) == CHAINRING_INVALID);
  EXPECT(chainring_map_resolve(NULL, operation(1, 1)) == CHAINRING_UNKNOWN_OUTCOME);
  chainring_batch_destroy(NULL);
  const chainring_bytes wrong = {NULL, 5};
  chainring_region *r = open_all();
  EXPECT(chainring_map_insert(words_of(r), wrong, nothing) == CHAINRING_INVALID);
  EXPECT(chainring_map_insert(words_of(r), nothing, nothing) == CHAINRING_TOO_LONG);
  chainring_abandon(r);
  for (int s = CHAINRING_DONE; s <= CHAINRING_REPEATED + 1; ++s)
    EXPECT(chainring_status_text((chainring_status)s) != NULL);
}

static void fire(void *context, uint64_t argument) {
  *(uint64_t *)context = *(uint64_t *)context * 10 + argument;
}

static void test_timers(void) {
  chainring_timers *t = chainring_timers_create(3, &e);
  if (t == NULL) fprintf(stderr, "%s\n", e.text);
  REQUIRE(t != NULL);
  uint64_t fired = 0;
  chainring_timer cancelled;
  const uint64_t now = rte_rdtsc();
  EXPECT(chainring_timers_arm(t, now + 2000, fire, &fired, 2, NULL) == CHAINRING_DONE);
  EXPECT(chainring_timers_arm(t, now + 1000, fire, &fired, 1, NULL) == CHAINRING_DONE);
  EXPECT(chainring_timers_arm(t, UINT64_MAX, fire, &fired, 3, &cancelled) == CHAINRING_DONE);
  EXPECT(chainring_timers_arm(t, 0, fire, &fired, 4, NULL) == CHAINRING_FULL);
  EXPECT(chainring_timers_armed(t) == 3);
  EXPECT(chainring_timers_cancel(t, cancelled) == CHAINRING_DONE);
  EXPECT(chainring_timers_cancel(t, cancelled) == CHAINRING_MISSING);
  while (rte_rdtsc() < now + 3000) {
  }
  EXPECT(chainring_timers_manage(t) == 2);
  EXPECT(fired == 12);
  EXPECT(chainring_timers_arm(t, 0, NULL, NULL, 0, NULL) == CHAINRING_INVALID);
  chainring_timers_destroy(t);
  EXPECT(chainring_timers_create(0, &e) == NULL && e.text[0] != '\0');
}

int main(int argc, char **argv) {
  (void)argc;
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", CHAINRING_VERSION_MAJOR, CHAINRING_VERSION_MINOR,
           CHAINRING_VERSION_PATCH);
  EXPECT(strcmp(version, chainring_version()) == 0);
  snprintf(path, sizeof path, "/dev/shm/test_c.%d", getpid());
  unlink(path);
  test_maps();
  test_pairs();
  test_queues();
  test_chains();
  test_that_a_killed_process_loses_nothing();
  test_refusals();
  test_fixed_sizes();
  test_batches();
  test_operations();
  test_null();
  unlink(path);

  char memory[] = "64", no_huge[] = "--no-huge", m[] = "-m", no_pci[] = "--no-pci",
       no_shconf[] = "--no-shconf", lcores[] = "--lcores", one[] = "0@0",
       no_telemetry[] = "--no-telemetry";
  char *eal[] = {argv[0], no_huge, m, memory, no_pci, no_shconf, lcores, one, no_telemetry};
  REQUIRE(rte_eal_init(sizeof eal / sizeof *eal, eal) >= 0);
  REQUIRE(rte_timer_subsystem_init() == 0);
  test_timers();
  puts(failed ? "failed" : "all passed");
  return failed;
}
