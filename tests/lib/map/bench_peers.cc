// SPDX-License-Identifier: BSD-3-Clause
// Measures the maps beside those that a program could take instead, each in turns with ours in one
// run: seq_map beside the lock-free rte_hash, Feldman's and Michael's maps of libcds, oneTBB's
// concurrent_hash_map, and std::unordered_map under a std::shared_mutex; and the durable map beside
// a hash map in libpmemobj whose changes are transactions, as those of PMDK's example hashmap_tx
// are. Keys and values have 8 octets. The keys are there and come uniformly, or by Zipf's law with
// exponent 0.99. A write replaces a value. With two threads the second one does the same work on
// the same map, on another CPU.
//
//     bench_peers [--quick] [--keys N] [--seconds S]
//
// Then batches: of seq_map beside writes under one lock of std::unordered_map, and of the durable
// map beside as many single changes, with the drains of both.
//
// A library that was not installed when this program was built is named as not measured.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <rte_eal.h>
#include <rte_hash.h>
#include <sched.h>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <utility>
#include <vector>
#if CHAINRING_HAVE_TBB
#include <oneapi/tbb/concurrent_hash_map.h>
#endif
#if CHAINRING_HAVE_CDS
#include <cds/container/feldman_hashmap_hp.h>
#include <cds/container/michael_kvlist_hp.h>
#include <cds/container/michael_map.h>
#include <cds/gc/hp.h>
#include <cds/init.h>
#endif
#if CHAINRING_HAVE_PMEMOBJ
#include <libpmemobj.h>
#endif

#include "map/map.h"
#include "map/seq_map.h"
#include "measure.h"

namespace {

using namespace chainring;
using bench::clock;
using number = std::uint64_t;

struct settings {
  bool quick = false;
  number keys = 1'000'000;
  double seconds = 0.5;
};

number key_of(number n) {
  return n * 0x9e37'79b9'7f4a'7c15; // different keys for different numbers
}

number value_of(number n) {
  return n + 1; // never 0
}

// --- the maps -----------------------------------------------------------------------------------

struct own_map {
  static constexpr const char* name = "seq_map";
  std::unique_ptr<seq_map<number, number>> m;
  explicit own_map(number keys) : m(seq_map<number, number>::create(keys).value()) {}
  bool write(number k, number v) { return m->upsert(k, v) == map_status::done; }
  bool read(number k, number& v) const {
    const auto found = m->get(k);
    v = found.value_or(0);
    return found.has_value();
  }
};

struct dpdk_map {
  static constexpr const char* name = "rte_hash, lock-free";
  rte_hash* m;
  static std::uint32_t hash(const void* key, std::uint32_t, std::uint32_t) {
    number k;
    std::memcpy(&k, key, sizeof k);
    return static_cast<std::uint32_t>(map_hash<number>{}(k));
  }
  explicit dpdk_map(number keys) {
    rte_hash_parameters p{};
    p.name = "peers";
    p.entries = static_cast<std::uint32_t>(std::bit_ceil(keys));
    p.key_len = sizeof(number);
    p.hash_func = hash;
    p.socket_id = SOCKET_ID_ANY;
    p.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF | RTE_HASH_EXTRA_FLAGS_MULTI_WRITER_ADD;
    m = rte_hash_create(&p);
    if (m == nullptr) throw std::bad_alloc();
  }
  ~dpdk_map() { rte_hash_free(m); }
  dpdk_map(const dpdk_map&) = delete;
  dpdk_map& operator=(const dpdk_map&) = delete;
  bool write(number k, number v) {
    return rte_hash_add_key_data(m, &k, reinterpret_cast<void*>(v)) == 0;
  }
  bool read(number k, number& v) const {
    void* data = nullptr;
    const bool found = rte_hash_lookup_data(m, &k, &data) >= 0;
    v = reinterpret_cast<number>(data);
    return found;
  }
};

struct standard_map {
  static constexpr const char* name = "std::unordered_map, shared_mutex";
  std::unordered_map<number, number> m;
  mutable std::shared_mutex lock;
  explicit standard_map(number keys) { m.reserve(keys); }
  bool write(number k, number v) {
    const std::lock_guard guard(lock);
    m[k] = v;
    return true;
  }
  bool read(number k, number& v) const {
    const std::shared_lock guard(lock);
    const auto found = m.find(k);
    if (found == m.end()) return false;
    v = found->second;
    return true;
  }
};

#if CHAINRING_HAVE_TBB
struct tbb_map {
  static constexpr const char* name = "oneTBB concurrent_hash_map";
  using map_type = tbb::concurrent_hash_map<number, number>;
  map_type m;
  explicit tbb_map(number keys) : m(keys) {}
  bool write(number k, number v) {
    map_type::accessor at;
    m.insert(at, k);
    at->second = v;
    return true;
  }
  bool read(number k, number& v) const {
    map_type::const_accessor at;
    if (!m.find(at, k)) return false;
    v = at->second;
    return true;
  }
};
#endif

#if CHAINRING_HAVE_CDS
struct mixed_hash {
  std::size_t operator()(number k) const { return map_hash<number>{}(k); }
};

struct atomic_number {
  std::atomic<number> now{0};
  atomic_number() = default;
  atomic_number(const atomic_number& v) : now(v.now.load()) {} // libcds copies it into its node
};

struct feldman_map {
  static constexpr const char* name = "libcds FeldmanHashMap";
  struct traits : cds::container::feldman_hashmap::traits {
    using hash = mixed_hash;
  };
  using map_type = cds::container::FeldmanHashMap<cds::gc::HP, number, atomic_number, traits>;
  map_type m;
  explicit feldman_map(number keys)
      : m(static_cast<std::size_t>(std::bit_width(std::bit_ceil(keys)) - 2), 4) {}
  bool write(number k, number v) {
    return m
        .update(k, [v](auto& now, auto*) { now.second.now.store(v, std::memory_order_relaxed); })
        .first;
  }
  bool read(number k, number& v) {
    do { // a new node can be found before update() has given it its value
      const auto found = m.get(k);
      if (!found) return false;
      v = found->second.now.load(std::memory_order_relaxed);
    } while (v == 0);
    return true;
  }
};

struct michael_map {
  static constexpr const char* name = "libcds MichaelHashMap";
  struct list_traits : cds::container::michael_list::traits {
    using less = std::less<number>;
  };
  struct map_traits : cds::container::michael_map::traits {
    using hash = mixed_hash;
  };
  using list = cds::container::MichaelKVList<cds::gc::HP, number, atomic_number, list_traits>;
  cds::container::MichaelHashMap<cds::gc::HP, list, map_traits> m;
  explicit michael_map(number keys) : m(keys, 1) {}
  bool write(number k, number v) {
    return m.update(k, [v](bool, auto& now) { now.second.now.store(v, std::memory_order_relaxed); })
        .first;
  }
  bool read(number k, number& v) {
    return m.find(k, [&v](auto& now) { v = now.second.now.load(std::memory_order_relaxed); });
  }
};
#endif

// --- the work -----------------------------------------------------------------------------------

/// Which key each step takes, and whether it writes.
struct work {
  static constexpr std::size_t steps = 1 << 18;
  static constexpr unsigned burst = 64;
  std::vector<std::uint32_t> keys;
  std::vector<bool> writes;

  work(number count, bool zipf, unsigned percent_written, unsigned seed)
      : keys(steps), writes(steps) {
    std::mt19937_64 random(seed);
    std::vector<double> up_to;
    for (number i = 0; zipf && i < count; ++i)
      up_to.push_back((up_to.empty() ? 0 : up_to.back()) +
                      std::pow(static_cast<double>(i + 1), -0.99));
    for (std::size_t i = 0; i < steps; ++i) {
      number k = random() % count;
      if (zipf) {
        const double at = std::uniform_real_distribution<>(0, up_to.back())(random);
        k = static_cast<number>(std::ranges::lower_bound(up_to, at) - up_to.begin());
      }
      keys[i] = static_cast<std::uint32_t>(k);
      writes[i] = random() % 100 < percent_written;
    }
  }
};

std::atomic<bool> good{true};

/// Fails the run, and says what was wrong, once for each.
void wrong(const char* map, const char* what) {
  static std::mutex lock;
  static std::set<std::string> said;
  const std::lock_guard guard(lock);
  good = false;
  if (said.insert(std::string(map) + what).second) std::fprintf(stderr, "%s: %s\n", map, what);
}

template <class Map> std::function<void()> steps_on(Map& m, const work& w, std::size_t& at) {
  return [&m, &w, &at] {
    for (unsigned i = 0; i < work::burst; ++i) {
      number v = 0;
      const std::uint32_t key = w.keys[at];
      if (w.writes[at]) {
        if (!m.write(key_of(key), value_of(key))) wrong(Map::name, "a write was refused");
      } else if (!m.read(key_of(key), v)) {
        wrong(Map::name, "a key was not found");
      } else if (v != value_of(key)) {
        wrong(Map::name, "a value was another one");
      }
      at = (at + 1) % work::steps;
    }
  };
}

/// A thread on another CPU that repeats what it is given, until it is given nothing.
class helper {
 public:
  explicit helper(int cpu) : thread_([this, cpu] { run(cpu); }) {}
  ~helper() {
    end_ = true;
    thread_.join();
  }
  helper(const helper&) = delete;
  helper& operator=(const helper&) = delete;
  void repeat(const std::function<void()>* what) {
    next_ = what;
    while (now_ != what)
      std::this_thread::yield();
  }

 private:
  void run(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(cpu), &set);
    sched_setaffinity(0, sizeof set, &set);
#if CHAINRING_HAVE_CDS
    cds::threading::Manager::attachThread();
#endif
    while (!end_) {
      const std::function<void()>* const what = next_;
      now_ = what;
      if (what != nullptr)
        (*what)();
      else
        std::this_thread::yield();
    }
#if CHAINRING_HAVE_CDS
    cds::threading::Manager::detachThread();
#endif
  }
  std::atomic<const std::function<void()>*> next_{nullptr}, now_{nullptr};
  std::atomic<bool> end_{false};
  std::thread thread_;
};

bench::budget time_of(const settings& s) {
  return s.quick ? bench::budget{0, 3} : bench::budget{s.seconds, 7};
}

void print(const char* peer, const std::string& what, const bench::pairs& p, double each) {
  std::vector<double> faster;
  for (const double r : p.ratios())
    faster.push_back(1 / r);
  std::printf("  %-34s %-34s %8.1f %8.1f %7.2f\n", peer, what.c_str(), bench::median(p.own) / each,
              bench::median(p.peer) / each, bench::median(faster));
  std::fflush(stdout);
}

template <class Map> bool filled(Map& m, number keys) {
  for (number i = 0; i < keys; ++i)
    if (!m.write(key_of(i), value_of(i))) return false;
  return true;
}

template <class Peer> void compare(const settings& s, own_map& own, std::optional<int> other_cpu) {
  Peer peer(s.keys);
  if (!filled(peer, s.keys)) {
    wrong(Peer::name, "a write was refused");
    return;
  }
  for (const bool zipf : {false, true})
    for (const unsigned written : {0u, 5u, 50u}) {
      const work w(s.keys, zipf, written, 1), w2(s.keys, zipf, written, 2);
      const std::string mix = std::to_string(100 - written) + "/" + std::to_string(written) +
                              (zipf ? " zipf" : " uniform");
      std::size_t at = 0, peer_at = 0, at2 = 0, peer_at2 = 0;
      const auto ours = steps_on(own, w, at), theirs = steps_on(peer, w, peer_at);
      const auto ours2 = steps_on(own, w2, at2), theirs2 = steps_on(peer, w2, peer_at2);
      print(Peer::name, mix + ", 1 thread",
            bench::alternate(time_of(s), bench::timed(ours), bench::timed(theirs)), work::burst);
      if (!other_cpu) continue;
      helper second(*other_cpu);
      const auto with = [&second](std::function<double()> slice,
                                  const std::function<void()>& repeated) {
        return [&second, slice = std::move(slice), &repeated] {
          second.repeat(&repeated);
          const double ns = slice();
          second.repeat(nullptr);
          return ns;
        };
      };
      print(Peer::name, mix + ", 2 threads",
            bench::alternate(time_of(s), with(bench::timed(ours, bench::clock_seconds), ours2),
                             with(bench::timed(theirs, bench::clock_seconds), theirs2)),
            work::burst);
    }
}

// --- durable ------------------------------------------------------------------------------------

#if CHAINRING_HAVE_PMEMOBJ
/// A hash map with chains in a pool of libpmemobj. Each change is a transaction.
class pmem_map {
 public:
  static constexpr const char* name = "libpmemobj, transactions";
  explicit pmem_map(number keys) : buckets_(std::bit_ceil(keys)) {
    std::string directory = "/dev/shm/bench_peers-" + std::string(6, 'X');
    if (mkdtemp(directory.data()) == nullptr) std::exit(EXIT_FAILURE);
    const std::string path = directory + "/pool";
    pool_ = pmemobj_create(path.c_str(), "peers", (256u << 20) + keys * 256, 0600);
    if (pool_ == nullptr) {
      std::fprintf(stderr, "libpmemobj: %s\n", pmemobj_errormsg());
      std::exit(EXIT_FAILURE);
    }
    unlink(path.c_str());
    rmdir(directory.c_str());
    PMEMoid heads;
    pmemobj_zalloc(pool_, &heads, buckets_ * sizeof(PMEMoid), 0);
    heads_ = static_cast<PMEMoid*>(pmemobj_direct(heads));
  }
  ~pmem_map() { pmemobj_close(pool_); }
  pmem_map(const pmem_map&) = delete;
  pmem_map& operator=(const pmem_map&) = delete;

  bool insert(number k, number v) {
    PMEMoid& head = head_of(k);
    return transaction([&] {
      pmemobj_tx_add_range_direct(&head, sizeof head);
      const PMEMoid made = pmemobj_tx_alloc(sizeof(entry), 0);
      auto* e = static_cast<entry*>(pmemobj_direct(made));
      *e = {k, v, head};
      head = made;
    });
  }
  bool erase(number k) {
    PMEMoid* at = &head_of(k);
    while (!OID_IS_NULL(*at) && at_(*at)->key != k)
      at = &at_(*at)->next;
    if (OID_IS_NULL(*at)) return false;
    return transaction([&] {
      const PMEMoid gone = *at;
      pmemobj_tx_add_range_direct(at, sizeof *at);
      *at = at_(gone)->next;
      pmemobj_tx_free(gone);
    });
  }
  bool update(number k, number v) {
    entry* const e = find(k);
    return e != nullptr && transaction([&] {
             pmemobj_tx_add_range_direct(&e->value, sizeof e->value);
             e->value = v;
           });
  }
  bool read(number k, number& v) const {
    const entry* const e = const_cast<pmem_map*>(this)->find(k);
    if (e != nullptr) v = e->value;
    return e != nullptr;
  }

 private:
  struct entry {
    number key, value;
    PMEMoid next;
  };
  static entry* at_(PMEMoid o) { return static_cast<entry*>(pmemobj_direct(o)); }
  PMEMoid& head_of(number k) { return heads_[map_hash<number>{}(k) & (buckets_ - 1)]; }
  entry* find(number k) {
    PMEMoid o = head_of(k);
    while (!OID_IS_NULL(o) && at_(o)->key != k)
      o = at_(o)->next;
    return OID_IS_NULL(o) ? nullptr : at_(o);
  }
  template <class Fn> bool transaction(Fn&& fn) {
    if (pmemobj_tx_begin(pool_, nullptr, TX_PARAM_NONE) != 0) return false;
    fn();
    pmemobj_tx_commit();
    return pmemobj_tx_end() == 0;
  }

  number buckets_;
  PMEMobjpool* pool_ = nullptr;
  PMEMoid* heads_ = nullptr;
};

void durable(const settings& s) {
  const number count = std::min<number>(s.keys, 200'000);
  std::printf("\ndurable, class emulated, %llu keys; libpmemobj flushes with the same "
              "instructions (PMEM_IS_PMEM_FORCE=1)\n",
              static_cast<unsigned long long>(count));
  const std::uint64_t table = align_up((count + 64) * sizeof(map_cell), 4096);
  const auto medium = memory_media(table + 64 * 256, durability_class::emulated);
  const auto blocks = block_store::create(*medium, table, 256, 64).value();
  const auto bytes = durable_map::create(*medium, 0, count + 64, *blocks).value();
  map<number, number> own(*bytes);
  pmem_map peer(count);
  for (number i = 0; i < count; ++i)
    if (own.insert(key_of(i), i) != map_status::done || !peer.insert(key_of(i), i))
      wrong(pmem_map::name, "an insert, or ours, was refused");
  const work w(count, false, 0, 1);
  std::size_t at = 0, peer_at = 0;
  const auto next = [&](std::size_t& i) { return w.keys[i = (i + 1) % work::steps]; };
  const char* const name = pmem_map::name;
  print(name, "lookup",
        bench::alternate(time_of(s), bench::timed([&] {
                           const number k = next(at);
                           if (own.get(key_of(k)) != k) wrong("map", "a lookup failed");
                         }),
                         bench::timed([&] {
                           const number k = next(peer_at);
                           number v = 0;
                           if (!peer.read(key_of(k), v) || v != k)
                             wrong(pmem_map::name, "a lookup failed");
                         })),
        1);
  print(name, "update",
        bench::alternate(time_of(s), bench::timed([&] {
                           const number k = next(at);
                           if (own.update(key_of(k), k) != map_status::done)
                             wrong("map", "an update failed");
                         }),
                         bench::timed([&] {
                           const number k = next(peer_at);
                           if (!peer.update(key_of(k), k))
                             wrong(pmem_map::name, "an update failed");
                         })),
        1);
  print(name, "erase and insert",
        bench::alternate(time_of(s), bench::timed([&] {
                           const number k = next(at);
                           if (own.erase(key_of(k)) != map_status::done ||
                               own.insert(key_of(k), k) != map_status::done)
                             wrong("map", "an erase and insert failed");
                         }),
                         bench::timed([&] {
                           const number k = next(peer_at);
                           if (!peer.erase(key_of(k)) || !peer.insert(key_of(k), k))
                             wrong(pmem_map::name, "an erase and insert failed");
                         })),
        1);
}
#endif

// --- batches ------------------------------------------------------------------------------------

// Writes of several keys that are seen together: a batch, and one lock of the map for all of them.
void batches(const settings& s) {
  own_map own(s.keys);
  standard_map peer(s.keys);
  if (!filled(own, s.keys) || !filled(peer, s.keys)) wrong(own_map::name, "a write was refused");
  std::printf("\nwrites of several keys that are seen together, for each key\n");
  const work w(s.keys, false, 0, 1);
  for (const unsigned n : {8u, 64u}) {
    std::size_t at = 0, peer_at = 0;
    const auto next = [&](std::size_t& i) { return key_of(w.keys[i = (i + 1) % work::steps]); };
    seq_map<number, number>::atomic_batch b(*own.m);
    print(standard_map::name, std::to_string(n) + " keys, one lock",
          bench::alternate(time_of(s), bench::timed([&] {
                             for (unsigned i = 0; i < n; ++i)
                               (void)b.upsert(next(at), i);
                             if (b.commit() != map_status::done)
                               wrong(own_map::name, "a batch was refused");
                           }),
                           bench::timed([&] {
                             const std::lock_guard guard(peer.lock);
                             for (unsigned i = 0; i < n; ++i)
                               peer.m[next(peer_at)] = i;
                           })),
          n);
  }
}

// The durable map beside itself: a batch that is atomic as a whole, and as many single changes.
void durable_batches(const settings& s) {
  struct drain_counter final : persist_observer {
    number drains = 0;
    void on_store(const std::uint64_t*, std::uint64_t, const site&) noexcept override {}
    void on_write(const void*, const void*, std::size_t, const site&) noexcept override {}
    bool on_flush(const void*, std::size_t, const site&) noexcept override { return true; }
    bool on_drain(const site&) noexcept override { return ++drains > 0; }
  };
  constexpr number count = 20'000;
  const std::uint64_t table = align_up((count + 64) * sizeof(map_cell), 4096);
  const auto medium = memory_media(table + 512 * 256, durability_class::emulated);
  const auto blocks = block_store::create(*medium, table, 256, 512).value();
  const auto bytes = durable_map::create(*medium, 0, count + 64, *blocks).value();
  map<number, number> own(*bytes);
  for (number i = 0; i < count; ++i)
    if (own.insert(key_of(i), i) != map_status::done) wrong("map", "an insert was refused");
  std::printf(
      "\ndurable updates of several keys, class emulated, for each key; \"peer\" is as many "
      "single updates\n");
  const work w(count, false, 0, 1);
  for (const unsigned n : {8u, 64u, 256u}) {
    std::size_t at = 0, single_at = 0;
    const auto next = [&](std::size_t& i) { return key_of(w.keys[i = (i + 1) % work::steps]); };
    map<number, number>::atomic_batch b(own);
    const auto together = [&] {
      for (unsigned i = 0; i < n; ++i)
        (void)b.upsert(next(at), i);
      if (b.commit() != map_status::done) wrong("map", "a batch was refused");
    };
    const auto singly = [&] {
      for (unsigned i = 0; i < n; ++i)
        if (own.update(next(single_at), i) != map_status::done)
          wrong("map", "an update was refused");
    };
    drain_counter seen;
    number drains[2] = {};
    medium->observe(&seen);
    together();
    together();
    drains[0] = std::exchange(seen.drains, 0) / 2;
    bytes->settle();
    seen.drains = 0;
    singly();
    drains[1] = seen.drains;
    medium->observe(nullptr);
    const bench::pairs p = bench::alternate(time_of(s), bench::timed(together), bench::timed([&] {
                                              bytes->settle();
                                              singly();
                                            }));
    print("map, single updates",
          std::to_string(n) + " keys, " + std::to_string(drains[0]) + " and " +
              std::to_string(drains[1]) + " drains",
          p, n);
  }
}

[[maybe_unused]] void not_measured(const char* peer, const char* package) {
  std::printf("  %-34s not measured: install %s and configure the build again\n", peer, package);
}

bool read_arguments(int argc, char** argv, settings& s) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    if (a == "--quick") {
      s.quick = true;
      s.keys = 20'000;
    } else if (a == "--keys" && i + 1 < argc) {
      s.keys = std::strtoull(argv[++i], nullptr, 10);
    } else if (a == "--seconds" && i + 1 < argc) {
      s.seconds = std::strtod(argv[++i], nullptr);
    } else {
      return false;
    }
  }
  return s.keys >= 1000 && s.keys <= 10'000'000 && s.seconds >= 0;
}

} // namespace

int main(int argc, char** argv) {
  settings s;
  if (!read_arguments(argc, argv, s)) {
    std::fprintf(stderr, "usage: %s [--quick] [--keys 1000..10000000] [--seconds S]\n", argv[0]);
    return 2;
  }
  setenv("PMEM_IS_PMEM_FORCE", "1", 1);
  cpu_set_t cpus;
  sched_getaffinity(0, sizeof cpus, &cpus);
  const char* eal[] = {argv[0], "--no-huge", "--no-pci", "--no-shconf",    "-m",
                       "1024",  "--lcores",  "0@0",      "--no-telemetry", "--log-level=error"};
  if (rte_eal_init(sizeof eal / sizeof *eal, const_cast<char**>(eal)) < 0) return EXIT_FAILURE;
  std::optional<int> other;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(static_cast<std::size_t>(i), &cpus) && i != sched_getcpu()) other = i;
  std::printf("%llu keys; nanoseconds for each operation, and how many times faster ours is%s\n",
              static_cast<unsigned long long>(s.keys),
              other ? "" : "; two threads need two CPUs and were not measured");
  std::printf("  %-34s %-34s %8s %8s %7s\n", "peer", "read/written", "ours", "peer", "faster");
  {
#if CHAINRING_HAVE_CDS
    cds::Initialize();
    {
      cds::gc::HP hazard_pointers;
      cds::threading::Manager::attachThread();
#endif
      own_map own(s.keys);
      if (!filled(own, s.keys)) wrong(own_map::name, "a write was refused");
      compare<dpdk_map>(s, own, other);
#if CHAINRING_HAVE_CDS
      compare<feldman_map>(s, own, other);
      compare<michael_map>(s, own, other);
      cds::threading::Manager::detachThread();
    }
    cds::Terminate();
    own_map own(s.keys);
    if (!filled(own, s.keys)) wrong(own_map::name, "a write was refused");
#else
    not_measured("libcds", "libcds-dev");
#endif
#if CHAINRING_HAVE_TBB
    compare<tbb_map>(s, own, other);
#else
    not_measured("oneTBB", "libtbb-dev");
#endif
    compare<standard_map>(s, own, other);
  }
  batches(s);
  durable_batches(s);
#if CHAINRING_HAVE_PMEMOBJ
  durable(s);
#else
  not_measured("libpmemobj", "libpmemobj-dev");
#endif
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
