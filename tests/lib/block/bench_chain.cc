// SPDX-License-Identifier: BSD-3-Clause
/// Compares allocation and release of blocks with rte_mempool and its cache, rte_malloc and, if it
/// is installed, libpmemobj, in one run on one thread. Prints nanoseconds for each pair of calls,
/// and the ratios.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <rte_eal.h>
#include <rte_malloc.h>
#include <rte_mempool.h>
#include <string>
#include <vector>
#if CHAINRING_HAVE_PMEMOBJ
#include <libpmemobj.h>
#include <unistd.h>
#endif

#include "message/message.h"

namespace {

using namespace chainring;

/// The best of several runs, which the caller interleaves with those of the others: noise only
/// adds.
struct subject {
  const char* name;
  unsigned pairs; ///< pairs that one call does
  std::function<void()> call;
  double best_ns = 1e9;
};

void measure(std::vector<subject>& subjects, unsigned calls) {
  for (int round = 0; round < 15; ++round)
    for (subject& s : subjects) {
      const auto start = std::chrono::steady_clock::now();
      for (unsigned i = 0; i < calls; ++i)
        s.call();
      const std::chrono::duration<double, std::nano> took =
          std::chrono::steady_clock::now() - start;
      s.best_ns = std::min(s.best_ns, took.count() / calls / s.pairs);
    }
}

void print(const char* title, const std::vector<subject>& subjects) {
  std::printf("%s\n", title);
  for (const subject& s : subjects)
    std::printf("  %-24s %9.2f ns  chain is %.2fx its time\n", s.name, s.best_ns,
                subjects[0].best_ns / s.best_ns);
}

/// Publishes bursts of 32 messages of 64 bytes with two drains, drops them, and then recovers many.
bool messages() {
  constexpr std::uint32_t count = 1 << 20, burst = 32, bytes = 64;
  auto m = memory_media(std::uint64_t{count} * (64 + 256), durability_class::emulated);
  auto store = block_store::create(*m, std::uint64_t{64} * count, 256, count).value();
  auto table = message_table::create(*m, 0, count, *store).value();
  std::byte content[bytes] = {};
  std::vector<message> all(count);
  bool ok = true;
  auto publish = [&](message* batch) {
    for (unsigned i = 0; i < burst; ++i) {
      message& each = batch[i];
      message_fields f;
      f.topic_size = 8;
      f.payload_size = bytes - 8;
      f.qos = 1;
      ok &= table->reserve(f, each);
      table->copy_in(each, content, bytes);
      table->stage(each);
      table->add_references(each.ref.index, 1);
    }
    for (unsigned i = 0; i < burst; ++i)
      table->flush_staged(batch[i]);
    m->drain();
    for (unsigned i = 0; i < burst; ++i)
      table->publish(batch[i]);
    for (unsigned i = 0; i < burst; ++i)
      table->flush_published(batch[i]);
    m->drain();
    for (unsigned i = 0; i < burst; ++i)
      table->drop_reference(batch[i].ref.index);
  };
  std::vector<subject> life = {{"chain", burst, [&] {
                                  publish(all.data());
                                  for (unsigned i = 0; i < burst; ++i) {
                                    message_view v;
                                    ok &= table->view(all[i].ref, v) == message_status::ok &&
                                          table->verify(v);
                                    table->drop_reference(all[i].ref.index);
                                  }
                                }}};
  measure(life, 5'000);
  std::printf("message of 64 bytes, published, read, checked, dropped: %.1f ns\n", life[0].best_ns);

  for (std::uint32_t i = 0; i < count; i += burst)
    publish(&all[i]);
  double best_s = 1e9;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    store->begin_recovery();
    table->begin_recovery();
    table->persist_as_read();
    m->drain();
    for (const message& each : all)
      ok &= table->recover_reference(each.ref) == message_status::ok;
    table->finish_recovery();
    store->finish_recovery();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best_s = std::min(best_s, took.count());
  }
  std::printf("recovery of a million messages: %.1f M messages/s\n", count / best_s / 1e6);
  return ok;
}

} // namespace

int main() {
  std::string arguments[] = {"bench_chain", "--no-huge", "--no-pci",          "--no-shconf",
                             "-m",          "256",       "--log-level=error", "--no-telemetry"};
  std::vector<char*> argv;
  for (auto& a : arguments)
    argv.push_back(a.data());
  if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0) return EXIT_FAILURE;

  constexpr std::uint32_t blocks = 1 << 16, block_size = 256;
  auto m = memory_media(std::uint64_t{blocks} * block_size, durability_class::emulated);
  auto store = block_store::create(*m, 0, block_size, blocks).value();
  rte_mempool* pool = rte_mempool_create("bench", 65535, block_size, 512, 0, nullptr, nullptr,
                                         nullptr, nullptr, SOCKET_ID_ANY, 0);
  if (pool == nullptr) return EXIT_FAILURE;

  chain c, many[32];
  void *object, *objects[32];
  bool ok = true;
  std::vector<subject> single = {
      {"chain", 1,
       [&] {
         ok &= store->allocate_contiguous(1, c);
         store->release(c);
       }},
      {"rte_mempool", 1,
       [&] {
         ok &= rte_mempool_get(pool, &object) == 0;
         rte_mempool_put(pool, object);
       }},
  };
  measure(single, 200'000);
  print("one block, allocated and released", single);

  std::vector<subject> held = {
      {"chain", 32,
       [&] {
         for (chain& each : many)
           ok &= store->allocate_contiguous(1, each);
         for (const chain& each : many)
           store->release(each);
       }},
      {"rte_mempool", 32,
       [&] {
         for (void*& each : objects)
           ok &= rte_mempool_get(pool, &each) == 0;
         for (void* each : objects)
           rte_mempool_put(pool, each);
       }},
  };
  measure(held, 10'000);
  print("32 times one block, then 32 released", held);

  std::vector<subject> bulk = {
      {"chain", 32,
       [&] {
         ok &= store->allocate_bulk(1, many);
         store->release(many);
       }},
      {"rte_mempool", 32,
       [&] {
         ok &= rte_mempool_get_bulk(pool, objects, 32) == 0;
         rte_mempool_put_bulk(pool, objects, 32);
       }},
  };
  measure(bulk, 10'000);
  print("32 blocks in bulk", bulk);

  std::vector<subject> contiguous = {
      {"chain", 1,
       [&] {
         ok &= store->allocate_contiguous(8, c);
         store->release(c);
       }},
      {"rte_malloc", 1,
       [&] {
         object = rte_malloc(nullptr, 8 * block_size, 64);
         ok &= object != nullptr;
         rte_free(object);
       }},
  };
#if CHAINRING_HAVE_PMEMOBJ
  setenv("PMEM_IS_PMEM_FORCE", "1", 1);
  std::string directory = "/tmp/bench_chain-" + std::string(6, 'X');
  if (mkdtemp(directory.data()) == nullptr) return EXIT_FAILURE;
  const std::string path = directory + "/pool";
  PMEMobjpool* objects_pool = pmemobj_create(path.c_str(), "bench", 64 << 20, 0600);
  if (objects_pool == nullptr) return EXIT_FAILURE;
  contiguous.push_back({"libpmemobj", 1, [&] {
                          PMEMoid id;
                          ok &= pmemobj_alloc(objects_pool, &id, 8 * block_size, 0, nullptr,
                                              nullptr) == 0;
                          pmemobj_free(&id);
                        }});
#endif
  measure(contiguous, 20'000);
  print("8 contiguous blocks", contiguous);
#if CHAINRING_HAVE_PMEMOBJ
  pmemobj_close(objects_pool);
  unlink(path.c_str());
  rmdir(directory.c_str());
#endif

  auto bare = block_store::create(*m, 0, block_size, blocks, {.cache_runs_max = 0}).value();
  std::vector<subject> index = {
      {"index, no cache", 1,
       [&] {
         ok &= bare->allocate_contiguous(8, c);
         bare->release(c);
       }},
  };
  measure(index, 20'000);
  print("8 contiguous blocks, caches off", index);
  ok &= messages();
  rte_mempool_free(pool);
  rte_eal_cleanup();
  if (!ok) std::printf("an allocation failed\n");
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
