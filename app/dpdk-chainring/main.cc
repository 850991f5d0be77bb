// SPDX-License-Identifier: BSD-3-Clause
// dpdk-chainring takes EAL arguments, then its own. It then runs its workers until a signal or the
// command "quit" ends it.
#include <csignal>
#include <cstdio>
#include <rte_pdump.h>
#include <rte_timer.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "access/access.h"
#include "access/password_file.h"
#include "common/eal.h"
#include "common/start.h"
#include "common/stream.h"
#include "log.h"
#include "options.h"
#include "prompt.h"
#include "service.h"
#include "telemetry.h"

namespace chainring::app {
int log_region, log_port, log_broker, log_session;
}

using namespace chainring::app;

namespace {

int register_log(const char* name) {
  const int type = rte_log_register_type_and_pick_level(name, RTE_LOG_INFO);
  return type < 0 ? RTE_LOGTYPE_USER1 : type;
}

// Reads the access rules again. A file with a fault changes nothing.
void reload_access(service& s) {
  if (s.settings().access.empty()) return;
  if (auto loaded = s.load_access(); loaded)
    CHAINRING_LOG(NOTICE, broker, "%s", loaded->c_str());
  else
    CHAINRING_LOG(ERR, broker, "%s; the former access rules stay in force",
                  loaded.error().message.c_str());
}

// Does the same with the certificates of TLS and the passwords.
void log_reloaded(const chainring::result<std::string>& loaded, const char* former) {
  if (!loaded)
    CHAINRING_LOG(ERR, broker, "%s; the former %s", loaded.error().message.c_str(), former);
  else if (!loaded->empty())
    CHAINRING_LOG(NOTICE, broker, "%s", loaded->c_str());
}

// Handles SIGHUP: it opens the log file again, reads the access rules, the certificates and
// the passwords again, and the log levels from the arguments and the configuration file.
void reload(service& s, int argc, char** argv) {
  if (auto opened = reopen_log(); !opened)
    CHAINRING_LOG(ERR, broker, "%s", opened.error().message.c_str());
  reload_access(s);
  log_reloaded(s.load_certificates(), "certificates stay in use");
  log_reloaded(s.load_passwords(), "passwords stay in force");
  options again;
  const int own = own_arguments(argc, argv);
  if (own == argc || !parse(argc - own, argv + own, again).run) {
    CHAINRING_LOG(
        ERR, broker,
        "the arguments or the configuration file are not valid any more; the log levels stay");
    return;
  }
  apply(again.log_levels);
  CHAINRING_LOG(NOTICE, broker, "the log file is open again, and the log levels are read again");
}

} // namespace

int main(int argc, char** argv) {
  start_process();
  ignore_hangups();
  options o;
  if (const parsed p = read_arguments("dpdk-chainring", argc, argv, parse, o); !p.run)
    return p.exit_status;
  // A file with a fault is refused before EAL starts and before a region is made.
  if (!o.access.empty()) {
    if (auto rules = chainring::access::rule_set::read(o.access); !rules) {
      std::fprintf(stderr, "dpdk-chainring: --access: %s\n", rules.error().message.c_str());
      return 2;
    }
  }
  if (!o.passwords.empty()) {
    if (auto loaded = chainring::access::password_file::read(o.passwords); !loaded) {
      std::fprintf(stderr, "dpdk-chainring: --password-file: %s\n", loaded.error().message.c_str());
      return 2;
    }
  }
  if (!o.mqtt.tls.certificates.empty() || !o.mqtt.tls.keys.empty()) {
    if (auto loaded = chainring::tls::context::load(o.mqtt.tls); !loaded) {
      std::fprintf(stderr, "dpdk-chainring: %s\n",
                   chainring::app::tls_refusal(o.mqtt.tls, loaded.error().message).c_str());
      return 2;
    }
  }
  log_region = register_log("chainring.region");
  log_session = register_log("chainring.session");
  log_port = register_log("chainring.port");
  log_broker = register_log("chainring.broker");
  if (auto opened = open_log(o.log_file); !opened) {
    std::fprintf(stderr, "dpdk-chainring: %s\n", opened.error().message.c_str());
    return 2;
  }
  apply(o.log_levels);
  const sigset_t signals = block_end_signals({SIGHUP});
  if (!start_eal(own_arguments(argc, argv), argv)) return 2;
  apply(o.log_levels); // EAL and its drivers have registered further log types
  rte_timer_subsystem_init();
  if (rte_pdump_init() != 0)
    CHAINRING_LOG(WARNING, broker, "packet capture with dpdk-dumpcap is not available");

  int status = 0;
  {
    auto made = service::create(o);
    if (!made) {
      std::fprintf(stderr, "dpdk-chainring: %s\n", made.error().message.c_str());
      rte_eal_cleanup();
      return 2;
    }
    service& s = **made;
    register_telemetry(s);
    if (auto started = s.start(); !started) {
      std::fprintf(stderr, "dpdk-chainring: %s\n", started.error().message.c_str());
      status = 2;
    } else {
      CHAINRING_LOG(NOTICE, broker, "ready with %zu worker lcores", s.workers().size());
      const int wake = signalfd(-1, &signals, SFD_CLOEXEC);
      wait_for_end(s, wake, o.interactive, [&] { reload(s, argc, argv); });
      close(wake);
    }
    s.stop();
    if (auto closed = s.finish(); !closed) {
      std::fprintf(stderr, "dpdk-chainring: %s\n", closed.error().message.c_str());
      status = 1;
    } else if (const auto lost = s.broker().region().medium().lost_pages(); lost != 0) {
      CHAINRING_LOG(
          WARNING, broker,
          "the region is closed; %llu pages of its memory were lost, with the messages on them",
          static_cast<unsigned long long>(lost));
    } else if (status == 0) {
      CHAINRING_LOG(NOTICE, broker, "the region is closed cleanly");
    }
    unregister_telemetry();
  }
  rte_pdump_uninit();
  rte_eal_cleanup();
  return status;
}
