// SPDX-License-Identifier: BSD-3-Clause
// This benchmark holds as many durable sessions as --sessions says, a million without it. A second
// process, which is this program again, opens a region in a file of class `process` and connects
// the clients through a memory port: each sends CONNECT with CleanSession=0 and a keep-alive, which
// arms the timer of its connection, and SUBSCRIBE to a topic of its own. When all have their SUBACK
// it writes what it measured, and dies by SIGKILL. The first process opens the region again, looks
// every session and every subscription up, and connects some of the clients again, which receive a
// message each.
//
// Memory is what the kernel counts as anonymous memory of the process (RssAnon), where all
// structures in DRAM lie. The region is counted by its tables and by the blocks in use. EAL's heap,
// packet buffers and the emulated clients exist before the first session, and are no part of it.
#include "broker/broker.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <rte_cycles.h>
#include <rte_malloc.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/access.h"
#include "figures.h"
#include "mqttsn/gateway_state.h"
#include "rig.h"

namespace chainring::bench {

namespace {

constexpr std::uint16_t keep_alive_s = 36'000;
constexpr std::uint32_t in_progress_max = 256, messages_max = 65'536;
constexpr std::uint32_t back_max = 10'000; // clients that connect again after the kill

bool complain(const std::string& what) {
  std::fprintf(stderr, "million: %s\n", what.c_str());
  return false;
}

// Sizes of one run. A filter of 16 octets or fewer lies in its cell; a longer one takes a block.
struct plan {
  std::uint32_t sessions;
  bool long_filters;

  [[nodiscard]] static std::string id(std::uint32_t n) { return "client-" + std::to_string(n); }
  [[nodiscard]] std::string topic(std::uint32_t n) const {
    return (long_filters ? "building/7/floor/3/sensor/" : "sensor/") + std::to_string(n);
  }
  [[nodiscard]] store_layout layout(std::uint32_t n) const {
    store_layout l;
    l.sessions_max = n;
    l.subscriptions_max = n;
    l.messages_max = messages_max;
    return l;
  }
  [[nodiscard]] std::uint64_t tables(std::uint32_t n) const {
    std::uint64_t sum = 0;
    for (const area_spec& a : broker::areas(layout(n), 0, 256))
      sum += a.size;
    return sum;
  }
  [[nodiscard]] rig_options options(const std::string& path) const {
    rig_options o;
    o.path = path;
    o.layout = layout(sessions);
    o.region_size = tables(sessions) + std::uint64_t{sessions} * (long_filters ? 272 : 0) +
                    (std::uint64_t{back_max} * 8192) + (64 << 20);
    constexpr std::uint64_t hugepage = 2 << 20;
    o.region_size = (o.region_size + hugepage - 1) / hugepage * hugepage;
    o.broker = config();
    o.gateway.registrations_max = 2 * sessions + 16; // of the clients, and of deliveries
    return o;
  }
  [[nodiscard]] broker_config config() const {
    broker_config c;
    c.queue_slots = 64;
    c.topics_max = sessions + 16;
    return c;
  }
};

double eal_heap_bytes() {
  rte_malloc_socket_stats s{};
  return rte_malloc_get_socket_stats(static_cast<int>(rte_socket_id()), &s) == 0
             ? static_cast<double>(s.heap_allocsz_bytes)
             : 0;
}

/// What the process that dies has measured, which it writes as lines of a name and a number.
using measured = std::map<std::string, double>;

/// Connects all clients and subscribes them.
bool connect_all(rig& r, crowd& c, const plan& p) {
  const std::uint32_t count = p.sessions;
  std::uint32_t begun = 0, done = 0, moved = 0;
  double stands_s = clock_seconds();
  std::string wrong;
  while (done < count) {
    r.round();
    c.receive([&](std::uint32_t n, const mqttsn::message& m) {
      if (const auto* a = m.get<mqttsn::connack>(); a != nullptr) {
        if (a->code != mqttsn::return_code::accepted) wrong = "a CONNECT was refused";
        const std::string topic = p.topic(n);
        c.say(n, mqttsn::subscribe{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                                   .msg_id = 1,
                                   .topic = topic});
      } else if (const auto* s = m.get<mqttsn::suback>(); s != nullptr) {
        if (s->code != mqttsn::return_code::accepted) wrong = "a SUBSCRIBE was refused";
        ++done;
      } else {
        wrong = std::string("received an unexpected ") + mqttsn::to_string(m.type);
      }
    });
    for (; begun < count && begun - done < in_progress_max; ++begun) {
      const std::string id = plan::id(begun);
      c.say(begun, mqttsn::connect{.keep_alive_s = keep_alive_s, .client_id = id});
    }
    c.flush();
    if (wrong.empty() && c.lost() != 0) wrong = "the memory port has no room";
    if (done != moved) {
      moved = done;
      stands_s = clock_seconds();
    } else if (clock_seconds() - stands_s > 10) {
      wrong = std::to_string(done) + " of " + std::to_string(begun) +
              " clients have connected and subscribed, and then no more; " + r.dropped();
    }
    if (!wrong.empty()) return complain(wrong);
  }
  if (const std::string why = r.dropped(); !why.empty()) return complain(why);
  return true;
}

void say(const char* name, double value) {
  std::printf("%s %.0f\n", name, value);
}

/// Starts this program once more, which fills the region and dies. Returns what it measured.
bool run_child(const plan& p, const std::string& path, measured& out) {
  int ends[2];
  if (pipe(ends) != 0) return complain(std::string("pipe: ") + std::strerror(errno));
  const std::string sessions = std::to_string(p.sessions);
  std::vector<std::string> words = {"chainring-bench", "--fill-sessions", path, "--sessions",
                                    sessions};
  if (p.long_filters) words.emplace_back("--long-filters");
  std::vector<char*> argv;
  for (std::string& w : words)
    argv.push_back(w.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  pid_t child = 0;
  const int failed = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string text;
  char part[4096];
  for (ssize_t n; failed == 0 && (n = read(ends[0], part, sizeof part)) > 0;)
    text.append(part, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  if (failed != 0 || waitpid(child, &status, 0) != child)
    return complain("this program cannot be started once more");
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
    return complain("the process that fills the region did not come to its kill");
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = text.find('\n', at), gap = text.find(' ', at);
    if (end == std::string::npos || gap > end) break;
    out[text.substr(at, gap - at)] = std::stod(text.substr(gap + 1, end - gap - 1));
    at = end + 1;
  }
  return out.contains("filled_s") || complain("the process that fills the region said nothing");
}

/// Looks each session and each subscription up. Returns how many are there.
bool all_there(broker& b, const plan& p) {
  session_table& records = broker_access::state(b).sessions();
  filter_index& filters = broker_access::filters(b);
  std::uint32_t missing = 0;
  for (std::uint32_t n = 0; n < p.sessions; ++n) {
    std::uint32_t seen = 0;
    bool right = false;
    filters.match(0, p.topic(n), [&](const subscriber& s) {
      ++seen;
      right = records.identity(s.session) == plan::id(n);
    });
    missing += seen != 1 || !right;
  }
  if (missing != 0)
    return complain(std::to_string(missing) +
                    " subscriptions are not there, or not their session's");
  return b.session_count() == p.sessions && b.subscription_count() == p.sessions
             ? true
             : complain("there are other sessions or subscriptions than those that were made");
}

/// The bytes of DRAM that a broker takes to open the file with so many workers, and its addresses.
bool memory_with(const plan& p, const std::string& path, unsigned workers, double& resident,
                 double& addresses) {
  const double before = anonymous_bytes(), addresses_before = from_status("VmSize:");
  media_options at;
  at.path = path;
  auto r = region::open(at);
  if (!r) return complain(r.error().message);
  broker_config c = p.config();
  c.workers = workers;
  auto b = broker::open(std::move(*r), c);
  if (!b) return complain(b.error().message);
  mqttsn::gateway_config gc;
  gc.registrations_max = 2 * p.sessions + 16;
  auto g = mqttsn::gateway::create(**b, gc);
  if (!g) return complain(g.error().message);
  resident = anonymous_bytes() - before;
  addresses = from_status("VmSize:") - addresses_before;
  return true;
}

/// Some of the clients connect again, and each publishes a message to the topic of the next one.
/// All of them receive theirs.
bool come_back(rig& r, const plan& p) {
  crowd c(r);
  const std::uint32_t count = std::min(back_max, p.sessions), step = p.sessions / count;
  std::uint32_t begun = 0, accepted = 0, delivered = 0;
  std::string wrong;
  const double give_up = clock_seconds() + 60;
  while (wrong.empty() && (accepted < count || delivered < count)) {
    r.round();
    c.receive([&](std::uint32_t n, const mqttsn::message& m) {
      if (const auto* a = m.get<mqttsn::connack>(); a != nullptr) {
        const std::string topic = p.topic((n + 1) % count * step);
        c.say(n, mqttsn::register_topic{.msg_id = 1, .topic = topic});
      } else if (const auto* id = m.get<mqttsn::regack>(); id != nullptr) {
        static constexpr std::byte payload[8] = {};
        c.say(n, mqttsn::publish{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                                 .topic_id = id->topic_id,
                                 .msg_id = 2,
                                 .data = payload});
      } else if (const auto* asked = m.get<mqttsn::register_topic>(); asked != nullptr) {
        c.say(n, mqttsn::regack{.topic_id = asked->topic_id, .msg_id = asked->msg_id});
      } else if (const auto* message = m.get<mqttsn::publish>(); message != nullptr) {
        ++delivered;
        c.say(n, mqttsn::puback{.topic_id = message->topic_id, .msg_id = message->msg_id});
      } else if (const auto* ack = m.get<mqttsn::puback>(); ack != nullptr) {
        if (ack->code != mqttsn::return_code::accepted)
          wrong = "a PUBLISH was refused with code " + std::to_string(static_cast<int>(ack->code));
        ++accepted;
      } else {
        wrong = std::string("received an unexpected ") + mqttsn::to_string(m.type);
      }
    });
    // The clients are spread over all sessions, and have other addresses than before.
    for (; begun < count && begun - delivered < in_progress_max; ++begun) {
      const std::string id = plan::id(begun * step);
      c.say(begun, mqttsn::connect{.keep_alive_s = keep_alive_s, .client_id = id});
    }
    c.flush();
    if (clock_seconds() > give_up) wrong = "not every client that came back received its message";
  }
  return wrong.empty() || complain(wrong);
}

bool figures_for(bench_context& c, const plan& p) {
  struct statvfs space {};
  const std::uint64_t size = p.options("").region_size;
  if (statvfs(c.o.memory_directory.c_str(), &space) != 0 ||
      (space.f_blocks != 0 &&
       std::uint64_t{space.f_bavail} * space.f_frsize < size + (512u << 20))) {
    c.out.note(std::to_string(p.sessions) + " sessions need " + std::to_string(size >> 20) +
               " MiB and some in " + c.o.memory_directory + "; these figures are left out");
    return true;
  }
  const scratch_directory where(c.o.memory_directory);
  const std::string path = where.path() + "/region";
  if (where.path().empty())
    return complain("a directory cannot be made below " + c.o.memory_directory);
  measured m;
  if (!run_child(p, path, m)) return false;

  const double n = p.sessions;
  const auto add = [&](const std::string& name, const char* unit, double value,
                       std::optional<target> wanted = {}) {
    c.out.add(figure(name, unit, {value}, wanted));
  };
  const double tables =
      static_cast<double>(p.tables(p.sessions) - p.tables(1)) / std::max(n - 1, 1.0);
  const double blocks = m["blocks"] * 256 / n, dram = m["dram"] / n;
  const std::string of = p.long_filters ? ", long filter" : ", short filter";
  add("connected session" + of + ": region and DRAM", "B", tables + blocks + dram,
      target{target::sense::at_most, 1024});
  add("  region: tables", "B", tables);
  add("  region: blocks", "B", blocks);
  add("  DRAM", "B", dram);
  add("  DRAM: EAL's heap", "B", m["eal_heap"] / n);
  add("  timers armed a session", "", m["timers"] / n);
  add("CONNECT and SUBSCRIBE, worker and clients", "us", m["filled_s"] * 1e6 / n);

  // The first open of the file also recovers it. It is timed, and the memory is that of one worker.
  const double begin = clock_seconds();
  rig_options o = p.options(path);
  o.reopen = true;
  auto made = rig::create(o);
  if (!made) return complain(made.error().message);
  rig& r = **made;
  const double gateway_and_all = clock_seconds() - begin;
  const open_summary& found = r.broker().opened();
  if (!found.notes.empty()) return complain(found.notes.front());
  if (found.sessions != p.sessions || found.subscriptions != p.sessions)
    return complain("the open found " + std::to_string(found.sessions) + " sessions and " +
                    std::to_string(found.subscriptions) + " subscriptions of " +
                    std::to_string(p.sessions));
  if (!all_there(r.broker(), p)) return false;
  add("opened again after SIGKILL" + of, "s", found.seconds);
  add("  with port, pool and gateway", "s", gateway_and_all);
  add("  sessions and subscriptions looked up", "", n);
  const double kept = (anonymous_bytes() - r.memory_before()) / n;
  if (!come_back(r, p)) return false;
  add("  clients that came back and got their message", "", std::min(back_max, p.sessions));
  add("disconnected session" + of + ": region and DRAM", "B", tables + blocks + kept,
      target{target::sense::at_most, 1024});
  add("  DRAM", "B", kept);
  if (auto closed = r.broker().close(); !closed) return complain(closed.error().message);
  made->reset();

  double one = 0, one_addresses = 0, eight = 0, eight_addresses = 0;
  if (!memory_with(p, path, 1, one, one_addresses) ||
      !memory_with(p, path, 8, eight, eight_addresses))
    return false;
  add("a further worker: DRAM a session", "B", std::max(0.0, (eight - one) / 7 / n));
  add("a further worker: addresses a session", "B",
      std::max(0.0, (eight_addresses - one_addresses) / 7 / n));
  return true;
}

} // namespace

int fill_sessions(const options& o) {
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL); // it does not outlive the process that started it
  const plan p{o.sessions, o.long_filters};
  auto made = rig::create(p.options(o.fill_sessions));
  if (!made) return complain(made.error().message), 1;
  rig& r = **made;
  crowd c(r);
  const double heap_before = eal_heap_bytes();
  const std::uint64_t blocks_before = r.broker().block_statistics().live_blocks;
  const double begin = clock_seconds();
  if (!connect_all(r, c, p)) return 1;
  const double took = clock_seconds() - begin;
  say("dram", anonymous_bytes() - r.memory_before());
  say("eal_heap", eal_heap_bytes() - heap_before);
  say("blocks", static_cast<double>(r.broker().block_statistics().live_blocks - blocks_before));
  say("timers", r.gateway().timers_armed(0));
  std::printf("filled_s %.6f\n", took);
  std::fflush(stdout);
  (void)raise(SIGKILL);
  return 1;
}

bool million_figures(bench_context& c) {
  const std::uint32_t n = c.o.sessions != 0 ? c.o.sessions : c.o.quick ? 10'000 : 1'000'000;
  c.out.heading("million: " + std::to_string(n) +
                " durable sessions with a subscription and a timer each, class process");
  return figures_for(c, {n, false}) && figures_for(c, {n, true});
}

} // namespace chainring::bench
