/* SPDX-License-Identifier: BSD-3-Clause */
/* This program counts words, also across its runs and whatever ends them, in C11:
 *   cc -std=c11 durable_words.c $(pkg-config --cflags --libs libchainring)
 *   ./a.out /var/tmp/words to be or not to be
 */
#include <chainring/c.h>
#include <inttypes.h>
#include <stdio.h>

static bool print(void *context, chainring_bytes word, chainring_bytes count) {
  uint64_t n = 0;
  (void)context;
  if (count.size == sizeof n) memcpy(&n, count.data, sizeof n);
  printf("%.*s %" PRIu64 "\n", (int)word.size, (const char *)word.data, n);
  return true;
}

int main(int argc, char **argv) {
  const chainring_object_spec words = CHAINRING_OBJECT_SPEC("words", CHAINRING_MAP, 1000);
  chainring_error error;
  if (argc < 2) {
    fprintf(stderr, "usage: %s REGION [WORD]...\n", argv[0]);
    return 2;
  }
  chainring_region *region = chainring_open_or_create(argv[1], NULL, &words, 1, &error);
  chainring_map *count = region ? chainring_map_get_handle(region, "words", &error) : NULL;
  if (count == NULL) {
    fprintf(stderr, "%s\n", error.text);
    chainring_abandon(region);
    return 1;
  }
  for (int i = 2; i < argc; ++i) {
    const chainring_status done = chainring_map_increment(count, chainring_text(argv[i]), 1);
    if (done != CHAINRING_DONE)
      fprintf(stderr, "'%s': %s\n", argv[i], chainring_status_text(done));
  }
  chainring_map_for_each(count, print, NULL);
  if (chainring_close(region, &error) == CHAINRING_DONE) return 0;
  fprintf(stderr, "%s\n", error.text);
  return 1;
}
