// SPDX-License-Identifier: BSD-3-Clause
// dpdk-chainring-gen takes EAL arguments, then its own. It runs on one lcore, the main lcore.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/eal.h"
#include "common/start.h"
#include "generator.h"
#include "ledger_file.h"
#include "options.h"
#include "report.h"

using namespace chainring;
using namespace chainring::gen;

namespace {

/// The number of messages that a publisher may have undelivered, chosen here without --window.
std::uint64_t window_for(const options& o) {
  if (o.window != 0) return o.window;
  const shape& s = o.shape;
  const std::uint64_t publishers = std::max(s.publishers, 1u);
  if (o.count != 0 && s.qos >= 1) {
    const std::uint64_t share = o.count / publishers + 64;
    // Without subscribers no message is settled, so all messages of the run must fit.
    return o.phase == phase::publish ? share : std::min<std::uint64_t>(share, 1 << 20);
  }
  // A run without an end gets as many messages as fit into 256 MiB.
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
                       ": the file exists; resume from it with --resume, or remove it"};
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
    // The ledger is written before anything is sent, so that the next life knows of this life even
    // if it dies.
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
  app::start_process();
  app::ignore_hangups();
  options o;
  // The arguments and the ledger are checked before EAL, which takes a second to start.
  if (const app::parsed p = app::read_arguments("dpdk-chainring-gen", argc, argv, parse, o); !p.run)
    return p.exit_status;
  auto book = open_ledger(o);
  if (!book) return complain(book.error());
  const sigset_t signals = app::block_end_signals();
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (!app::start_eal(app::own_arguments(argc, argv), argv)) return exit_unusable;
  const int status = work(o, *book, signal_fd);
  rte_eal_cleanup();
  close(signal_fd);
  return status;
}
