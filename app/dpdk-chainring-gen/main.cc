// SPDX-License-Identifier: BSD-3-Clause
// dpdk-chainring-gen: EAL arguments, then the generator's own; one lcore, the main one.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <rte_eal.h>
#include <rte_errno.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "generator.h"
#include "ledger_file.h"
#include "options.h"
#include "report.h"

using namespace chainring;
using namespace chainring::gen;

namespace {

bool asks_for(int argc, char** argv, const char* option) {
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i)
    if (std::strcmp(argv[i], option) == 0) return true;
  return false;
}

/// Messages a publisher may have undelivered, where --window leaves it to us.
std::uint64_t window_for(const options& o) {
  if (o.window != 0) return o.window;
  const shape& s = o.shape;
  const std::uint64_t publishers = std::max(s.publishers, 1u);
  if (o.count != 0 && s.qos == 1) {
    const std::uint64_t share = o.count / publishers + 64;
    // Without subscribers nothing settles: all of it must fit.
    return o.phase == phase::publish ? share : std::min<std::uint64_t>(share, 1 << 20);
  }
  // Of a run without end: what 256 MiB hold.
  const std::uint64_t pairs =
      publishers * (s.wildcard ? s.subscribers : s.subscribers / s.topics + 1);
  const std::uint64_t fits = (std::uint64_t{256} << 20) / (pairs / 8 + publishers * 4 + 1);
  return std::clamp<std::uint64_t>(fits, 64, 65536);
}

result<ledger> open_ledger(options& o) {
  if (!o.resume) {
    struct stat st {};
    if (!o.ledger_path.empty() && ::stat(o.ledger_path.c_str(), &st) == 0)
      return error{errc::exists,
                   "--ledger " + o.ledger_path +
                       ": it is there already; go on from it with --resume, or remove it"};
    return ledger::create(o.shape, window_for(o));
  }
  auto text = read_file(o.ledger_path);
  if (!text) return text.error();
  auto of = ledger::shape_from_json(*text, o.ledger_path);
  if (!of) return of.error();
  if (auto adopted = adopt_shape(o, *of); !adopted) return adopted.error();
  return ledger::from_json(*text, o.ledger_path, window_for(o));
}

int complain(const error& e) {
  std::fprintf(stderr, "dpdk-chainring-gen: %s\n", e.message.c_str());
  return exit_unusable;
}

int work(const options& o, ledger& book, int signal_fd) {
  std::unique_ptr<ledger_file> file;
  if (!o.ledger_path.empty()) {
    file = std::make_unique<ledger_file>(o.ledger_path);
    // Before anything is sent: should this life die, the next one knows that there was one.
    if (auto written = file->write_now(book.to_json(false)); !written)
      return complain(written.error());
  }
  auto made = generator::create(o, book, file.get(), signal_fd);
  if (!made) return complain(made.error());
  const outcome how = (*made)->run();
  const int status = report(o, book, **made, how);
  if (file)
    if (auto written = file->write_now(book.to_json(true)); !written)
      return complain(written.error());
  return status;
}

} // namespace

int main(int argc, char** argv) {
  options o;
  if (asks_for(argc, argv, "--version")) {
    std::puts("dpdk-chainring-gen " CHAINRING_VERSION);
    return 0;
  }
  int own = 1;
  while (own < argc && std::strcmp(argv[own], "--") != 0)
    ++own;
  if (asks_for(argc, argv, "--help") || asks_for(argc, argv, "-h")) {
    char help[] = "--help";
    char* arguments[] = {argv[0], help, nullptr};
    (void)parse(2, arguments, o);
    std::puts("\nEAL arguments:");
    std::fflush(stdout);
  } else {
    // Our own arguments and the ledger are checked first: EAL takes a second to start.
    const parsed p = parse(own < argc ? argc - own : 1, own < argc ? argv + own : argv, o);
    if (!p.run) return p.exit_status;
  }
  auto book = open_ledger(o);
  if (!book) return complain(book.error());
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);

  if (rte_eal_init(own, argv) < 0) {
    std::fprintf(stderr, "EAL: %s; without hugepages add --no-huge -m 256\n",
                 rte_strerror(rte_errno));
    return exit_unusable;
  }
  const int status = work(o, *book, signal_fd);
  rte_eal_cleanup();
  close(signal_fd);
  return status;
}
