// SPDX-License-Identifier: BSD-3-Clause
// This benchmark makes 256 scattered cache lines durable in class `file`, and compares that with
// writing the same 256 pages of an ordinary mapped file and one fdatasync.
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "figures.h"

namespace chainring::bench {

void use_hugepages(media& m) {
  (void)madvise(m.base(), m.size(), MADV_HUGEPAGE);
}

result<std::unique_ptr<file_region>> file_region::create(const bench_context& c,
                                                         std::uint64_t size, int journal_cpu) {
  std::unique_ptr<file_region> f(new file_region(c.o.directory));
  if (f->directory().empty())
    return system_error(
        errc::io, "--directory " + c.o.directory + ": a directory cannot be made in it", errno);
  media_options o;
  o.path = f->directory() + "/region";
  o.durability = durability_class::file;
  o.size = size;
  o.journal_size = c.o.journal_size;
  o.journal_cpu = journal_cpu;
  cpu_set_t own;
  CPU_ZERO(&own);
  sched_getaffinity(0, sizeof own, &own);
  sched_setaffinity(0, sizeof c.all_cpus, &c.all_cpus);
  auto made = create_media(o);
  sched_setaffinity(0, sizeof own, &own);
  if (!made) return made.error();
  f->media_ = std::move(*made);
  return f;
}

scratch_directory::scratch_directory(const std::string& where)
    : path_(where + "/chainring-bench-" + std::string(6, 'X')) {
  if (mkdtemp(path_.data()) == nullptr) path_.clear();
}

scratch_directory::~scratch_directory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

namespace {

constexpr std::uint64_t size = 64 << 20, page = 4096, lines = 256;

/// The offsets of one word in each of `lines` pages that lie far apart; each round takes others.
struct places {
  std::uint64_t round = 0;
  template <class Fn> void each(Fn&& fn) const {
    for (std::uint64_t i = 0; i < lines; ++i)
      fn((i * (size / page / lines) + round % (size / page / lines)) * page + round * 64 % page,
         round);
  }
};

struct ordinary_file {
  int fd = -1;
  std::byte* base = nullptr;
  std::string path;
  explicit ordinary_file(const std::string& directory) : path(directory + "/ordinary") {
    fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return;
    // The file is written in full: after a mere allocation the first write of each page would also
    // change metadata.
    const std::vector<std::byte> zeroes(1 << 20);
    for (std::uint64_t at = 0; at < size; at += zeroes.size())
      if (pwrite(fd, zeroes.data(), zeroes.size(), static_cast<off_t>(at)) < 0) return;
    if (fsync(fd) != 0) return;
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) base = static_cast<std::byte*>(at);
  }
  ~ordinary_file() {
    if (base != nullptr) munmap(base, size);
    if (fd >= 0) close(fd);
    unlink(path.c_str());
  }
  ordinary_file(const ordinary_file&) = delete;
  ordinary_file& operator=(const ordinary_file&) = delete;
};

} // namespace

bool journal_figures(bench_context& c) {
  c.out.heading("journal: class file, 256 scattered lines made durable");
  auto made = file_region::create(c, size);
  if (!made) {
    std::fprintf(stderr, "journal: %s\n", made.error().message.c_str());
    return false;
  }
  ordinary_file plain((*made)->directory());
  if (plain.base == nullptr) {
    std::fprintf(stderr, "journal: the file %s cannot be made\n", plain.path.c_str());
    return false;
  }
  const std::unique_ptr<media> m = (*made)->take();
  bool good = true;
  places own_places, peer_places;
  pairs p = alternate(
      c.time(),
      timed(
          [&] {
            ++own_places.round;
            own_places.each([&](std::uint64_t at, std::uint64_t value) {
              m->store(reinterpret_cast<std::uint64_t*>(m->base() + at), value);
            });
            own_places.each([&](std::uint64_t at, std::uint64_t) { m->flush(m->base() + at, 8); });
            m->drain();
            good &= m->wait(m->mark());
          },
          clock_seconds),
      timed(
          [&] {
            ++peer_places.round;
            peer_places.each([&](std::uint64_t at, std::uint64_t value) {
              std::memcpy(plain.base + at, &value, sizeof value);
            });
            good &= fdatasync(plain.fd) == 0;
          },
          clock_seconds));
  for (auto* side : {&p.own, &p.peer})
    for (double& ns : *side)
      ns /= 1000;
  c.out.add(against("stores, flushes, drain, wait for the mark", "us", p,
                    "mapped file, one fdatasync", {}, true));
  if (auto closed = m->close(); !closed || !good) {
    std::fprintf(stderr, "journal: %s\n",
                 closed ? "the journal could not be written" : closed.error().message.c_str());
    return false;
  }
  return true;
}

} // namespace chainring::bench
