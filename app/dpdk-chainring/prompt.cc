// SPDX-License-Identifier: BSD-3-Clause
#include "prompt.h"

#include <array>
#include <cinttypes>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <poll.h>
#include <rte_ethdev.h>
#include <string>
#include <sys/signalfd.h>
#include <unistd.h>
#include <vector>

#include <cmdline.h>
#include <cmdline_parse.h>
#include <cmdline_parse_string.h>
#include <cmdline_socket.h>

#include "base/escape.h"
#include "common/size.h"
#include "log.h"

namespace chainring::app {

namespace {

// cmdline_parse_inst_t ends in a flexible array member, which C++ cannot initialise. This struct
// has the same layout with an array of fixed size.
template <std::size_t N> struct instruction {
  void (*f)(void*, cmdline*, void*);
  void* data;
  const char* help_str;
  std::array<cmdline_parse_token_hdr_t*, N + 1> tokens;
};
static_assert(offsetof(instruction<1>, tokens) == offsetof(cmdline_parse_inst_t, tokens));

service* served = nullptr; // cmdline callbacks have no context of their own
bool quit = false;

struct two_words {
  cmdline_fixed_string_t first, second;
};
struct three_words {
  cmdline_fixed_string_t first, second, third;
};

void show_port_stats(cmdline* cl) {
  for (const auto& i : served->interfaces()) {
    rte_eth_stats t{};
    rte_eth_stats_get(i->device.id(), &t);
    cmdline_printf(cl,
                   "port %u (%s): rx %" PRIu64 " packets %" PRIu64 " bytes %" PRIu64
                   " missed %" PRIu64 " errors; tx %" PRIu64 " packets %" PRIu64 " bytes %" PRIu64
                   " errors\n",
                   i->device.id(), i->device.name().c_str(), t.ipackets, t.ibytes, t.imissed,
                   t.ierrors, t.opackets, t.obytes, t.oerrors);
    for (std::size_t r = 1; r < net::drop_reason_count; ++r) {
      std::uint64_t n = 0;
      const auto reason = static_cast<net::drop_reason>(r);
      for (const auto& w : served->workers())
        n += served->listener(w->number).links()[i->config.interface_id]->drops()[reason];
      if (n != 0) cmdline_printf(cl, "  dropped %s: %" PRIu64 "\n", net::to_string(reason), n);
    }
  }
  for (const auto& w : served->workers()) {
    const net::listener& l = served->listener(w->number);
    cmdline_printf(cl,
                   "worker %u (lcore %u): handed over %" PRIu64 ", hand-over full %" PRIu64
                   ", answers dropped %" PRIu64 "\n",
                   w->number, w->lcore, l.handed_over(), l.handed_dropped(), l.out().dropped());
  }
}

void show_region(cmdline* cl) {
  chainring::region& r = served->broker().region();
  const block_store_statistics b = served->broker().block_statistics();
  const message_table_statistics m = served->broker().message_statistics();
  cmdline_printf(cl,
                 "region %s: class %s, driver %s, %" PRIu64 " bytes, uuid %s, opened %" PRIu64
                 " times%s\n",
                 r.medium().path().c_str(), to_string(r.medium().durability()),
                 r.medium().driver_name(), r.medium().size(), r.uuid().c_str(), r.incarnation(),
                 r.medium().failed() ? ", FAILED: it is read-only until it is opened again" : "");
  cmdline_printf(cl,
                 "blocks: %" PRIu64 " of %" PRIu64 " bytes, %" PRIu64 " live, %" PRIu64
                 " free, largest free run %" PRIu64 ", fragmentation %.3f\n",
                 b.block_count, b.block_size, b.live_blocks, b.free_blocks, b.largest_run,
                 b.fragmentation);
  for (std::size_t i = 0; i < b.runs_by_length.size(); ++i)
    if (b.runs_by_length[i] != 0)
      cmdline_printf(cl, "  free runs of %" PRIu64 " blocks or more: %" PRIu64 "\n",
                     std::uint64_t{1} << i, b.runs_by_length[i]);
  cmdline_printf(cl, "messages: %" PRIu64 " live of %" PRIu64 ", %" PRIu64 " damaged\n", m.live,
                 m.descriptors, m.damaged);
  if (const std::uint64_t lost = r.medium().lost_pages(); lost != 0)
    cmdline_printf(cl,
                   "LOST: %" PRIu64 " pages of memory; %" PRIu64 " blocks are set aside, %" PRIu64
                   " messages were found damaged at delivery\n",
                   lost, b.withheld_blocks, served->broker().counters().damaged);
}

std::string address_text(net::client_address a) {
  return a == 0 ? "-" : net::to_string(net::endpoint::from_key(a));
}

/// Says why a full queue does not empty, and how many messages were refused because of it.
std::string full_text(const session_info& i) {
  if (i.queue_depth < i.queue_limit) return "";
  return std::string("; full: ") +
         (i.connected ? "its client does not acknowledge" : "its client is not connected") + ", " +
         std::to_string(i.refused) + " PUBLISH messages were refused because of it";
}

void show_sessions(cmdline* cl, bool queues) {
  std::uint32_t first = 0;
  std::uint64_t shown = 0;
  do {
    std::vector<session_info> page;
    first = served->broker().sessions(first, 256, page);
    for (const session_info& i : page) {
      if (queues && i.queue_capacity == 0) continue;
      ++shown;
      if (queues)
        cmdline_printf(cl,
                       "queue %u (%s): depth %" PRIu64 " of %" PRIu64 ", may grow to %" PRIu64
                       ", high water %" PRIu64 "%s\n",
                       i.number, escape(i.identity).c_str(), i.queue_depth, i.queue_capacity,
                       i.queue_limit, i.queue_high_water, full_text(i).c_str());
      else
        cmdline_printf(
            cl, "session %u '%s': %s%s, at %s, worker %u, keep alive %u s, queued %" PRIu64 "\n",
            i.number, escape(i.identity).c_str(), i.connected ? "connected" : "disconnected",
            i.ends_with_connection ? ", clean" : "", address_text(i.address).c_str(), i.home,
            i.keep_alive_s, i.queue_depth);
    }
  } while (first != 0);
  cmdline_printf(cl, "%" PRIu64 " %s\n", shown, queues ? "queues" : "sessions");
}

void show_topics(cmdline* cl) {
  std::uint64_t shown = 0;
  for (const topic_info& t : served->broker().topics(1000)) {
    ++shown;
    cmdline_printf(cl, "%s: %u subscriptions\n", escape(t.filter).c_str(), t.subscriptions);
  }
  cmdline_printf(cl, "%" PRIu64 " filters shown, %u subscriptions in all\n", shown,
                 served->broker().subscription_count());
}

void show_counters(cmdline* cl) {
  for_each_counter(served->broker().counters(), [cl](const char* name, std::uint64_t value) {
    cmdline_printf(cl, "%-20s %" PRIu64 "\n", name, value);
  });
  mqttsn::for_each_counter(served->gateway().counters(),
                           [cl](const char* name, std::uint64_t value) {
                             cmdline_printf(cl, "%-20s %" PRIu64 "\n", name, value);
                           });
}

void on_show(void* parsed, cmdline* cl, void*) {
  const std::string what = static_cast<two_words*>(parsed)->second;
  if (what == "region") show_region(cl);
  if (what == "sessions") show_sessions(cl, false);
  if (what == "queues") show_sessions(cl, true);
  if (what == "topics") show_topics(cl);
  if (what == "counters") show_counters(cl);
}
void on_show_port(void*, cmdline* cl, void*) {
  show_port_stats(cl);
}
void on_help(void*, cmdline* cl, void*) {
  cmdline_printf(cl,
                 "show port stats   print packets, drops by reason, and frames handed over\n"
                 "show region       print the region's class, space and messages\n"
                 "show sessions     print the clients and their addresses\n"
                 "show queues       print each queue's depth, capacity and high-water mark\n"
                 "show topics       print the filters and their numbers of subscriptions\n"
                 "show counters     print the broker's counters\n"
                 "grow region SIZE  make the region larger while it is served, such as 512M or 2G\n"
                 "kick CLIENT       end a client's session and delete its subscriptions and queue\n"
                 "clear queue CLIENT  drop all messages in a client's queue\n"
                 "reload            read the file of access rules again\n"
                 "quit              close the region cleanly and exit\n");
}
void on_grow(void* parsed, cmdline* cl, void*) {
  const std::string text = static_cast<three_words*>(parsed)->third;
  auto size = parse_size(text);
  if (!size)
    return cmdline_printf(cl, "grow region %s: %s\n", text.c_str(), size.error().message.c_str());
  if (auto grown = served->broker().grow(*size); !grown)
    return cmdline_printf(cl, "%s\n", grown.error().message.c_str());
  cmdline_printf(cl, "the region has %" PRIu64 " bytes\n",
                 served->broker().region().medium().size());
}
void on_kick(void* parsed, cmdline* cl, void*) {
  const std::string identity = static_cast<two_words*>(parsed)->second;
  cmdline_printf(cl, "%s\n",
                 served->broker().kick(identity)
                     ? "the client's session ends"
                     : "there is no such client; 'show sessions' lists them");
}
void on_clear(void* parsed, cmdline* cl, void*) {
  const std::string identity = static_cast<three_words*>(parsed)->third;
  cmdline_printf(cl, "%s\n",
                 served->broker().clear_queue(identity)
                     ? "the client's queue is cleared"
                     : "there is no such client; 'show sessions' lists them");
}
void on_reload(void*, cmdline* cl, void*) {
  const auto loaded = served->load_access();
  if (loaded)
    cmdline_printf(cl, "%s\n", loaded->c_str());
  else
    cmdline_printf(cl, "%s; the former access rules stay in force\n",
                   loaded.error().message.c_str());
}
void on_quit(void*, cmdline* cl, void*) {
  quit = true;
  cmdline_quit(cl);
}

cmdline_parse_token_string_t word_show = TOKEN_STRING_INITIALIZER(three_words, first, "show");
cmdline_parse_token_string_t word_what =
    TOKEN_STRING_INITIALIZER(two_words, second, "region#sessions#queues#topics#counters");
cmdline_parse_token_string_t word_port = TOKEN_STRING_INITIALIZER(three_words, second, "port");
cmdline_parse_token_string_t word_stats = TOKEN_STRING_INITIALIZER(three_words, third, "stats");
cmdline_parse_token_string_t word_grow = TOKEN_STRING_INITIALIZER(three_words, first, "grow");
cmdline_parse_token_string_t word_region = TOKEN_STRING_INITIALIZER(three_words, second, "region");
cmdline_parse_token_string_t word_size = TOKEN_STRING_INITIALIZER(three_words, third, nullptr);
cmdline_parse_token_string_t word_help = TOKEN_STRING_INITIALIZER(two_words, first, "help");
cmdline_parse_token_string_t word_reload = TOKEN_STRING_INITIALIZER(two_words, first, "reload");
cmdline_parse_token_string_t word_quit = TOKEN_STRING_INITIALIZER(two_words, first, "quit");

instruction<2> show_instruction = {on_show,
                                   nullptr,
                                   "show region|sessions|queues|topics|counters",
                                   {&word_show.hdr, &word_what.hdr, nullptr}};
instruction<3> show_port_instruction = {on_show_port,
                                        nullptr,
                                        "show port stats",
                                        {&word_show.hdr, &word_port.hdr, &word_stats.hdr, nullptr}};
instruction<3> grow_instruction = {on_grow,
                                   nullptr,
                                   "grow region SIZE",
                                   {&word_grow.hdr, &word_region.hdr, &word_size.hdr, nullptr}};
cmdline_parse_token_string_t word_kick = TOKEN_STRING_INITIALIZER(two_words, first, "kick");
cmdline_parse_token_string_t word_client = TOKEN_STRING_INITIALIZER(two_words, second, nullptr);
cmdline_parse_token_string_t word_clear = TOKEN_STRING_INITIALIZER(three_words, first, "clear");
cmdline_parse_token_string_t word_queue = TOKEN_STRING_INITIALIZER(three_words, second, "queue");
cmdline_parse_token_string_t word_whose = TOKEN_STRING_INITIALIZER(three_words, third, nullptr);
instruction<2> kick_instruction = {
    on_kick, nullptr, "kick CLIENT", {&word_kick.hdr, &word_client.hdr, nullptr}};
instruction<3> clear_instruction = {on_clear,
                                    nullptr,
                                    "clear queue CLIENT",
                                    {&word_clear.hdr, &word_queue.hdr, &word_whose.hdr, nullptr}};
instruction<1> help_instruction = {on_help, nullptr, "help", {&word_help.hdr, nullptr}};
instruction<1> reload_instruction = {on_reload, nullptr, "reload", {&word_reload.hdr, nullptr}};
instruction<1> quit_instruction = {on_quit, nullptr, "quit", {&word_quit.hdr, nullptr}};

template <std::size_t N> cmdline_parse_inst_t* as_instruction(instruction<N>& i) {
  return reinterpret_cast<cmdline_parse_inst_t*>(&i);
}

cmdline_parse_ctx_t context[] = {as_instruction(show_instruction),
                                 as_instruction(show_port_instruction),
                                 as_instruction(grow_instruction),
                                 as_instruction(kick_instruction),
                                 as_instruction(clear_instruction),
                                 as_instruction(help_instruction),
                                 as_instruction(reload_instruction),
                                 as_instruction(quit_instruction),
                                 nullptr};

/// Logs what became of each page that was lost since the last call. When there are too many to
/// describe, it logs only how many pages are lost.
void log_losses(region& r, std::uint64_t& logged) {
  const std::uint64_t lost = r.medium().lost_pages();
  if (lost == logged) return;
  std::string sentence;
  while (logged < lost && !(sentence = r.loss(logged)).empty()) {
    CHAINRING_LOG(ERR, region, "%s", sentence.c_str());
    ++logged;
  }
  if (logged == lost) return;
  CHAINRING_LOG(ERR, region, "region file %s: %" PRIu64 " pages of its memory are lost so far",
                r.medium().path().c_str(), lost);
  logged = lost;
}

} // namespace

namespace {

/// Gives more room to tables that are nearly full. An error that repeats is logged once.
void grow_tables(broker& b, std::string& logged_error) {
  if (b.region().failed()) return;
  auto grown = b.grow_tables();
  if (!grown) {
    if (grown.error().message != logged_error)
      CHAINRING_LOG(WARNING, region, "the tables of the region cannot grow: %s",
                    grown.error().message.c_str());
    logged_error = grown.error().message;
  } else if (*grown != 0) {
    CHAINRING_LOG(NOTICE, region,
                  "the tables have grown; there is room for %" PRIu32 " sessions, %" PRIu64
                  " subscriptions and %" PRIu64 " messages",
                  b.sessions_capacity(), b.subscriptions_capacity(),
                  b.message_statistics().descriptors);
  }
}

} // namespace

void wait_for_end(service& s, int signal_fd, bool interactive,
                  const std::function<void()>& hangup) {
  served = &s;
  cmdline* cl = interactive ? cmdline_stdin_new(context, "chainring> ") : nullptr;
  pollfd fds[2] = {{signal_fd, POLLIN, 0}, {cl != nullptr ? 0 : -1, POLLIN, 0}};
  bool failure_logged = false; // whether the failure of the region is logged
  std::uint64_t losses_logged = 0;
  std::string growth_error_logged;
  while (!quit) {
    std::fflush(stdout);
    const int got = poll(fds, 2, 1000);
    s.watch_links();
    log_losses(s.broker().region(), losses_logged);
    grow_tables(s.broker(), growth_error_logged);
    if (!failure_logged && s.broker().region().failed()) {
      failure_logged = true;
      CHAINRING_LOG(
          ERR, region,
          "%s. The broker acknowledges and delivers nothing more. Start it again when the cause "
          "is removed",
          s.broker().region().why_failed().c_str());
    }
    if (got <= 0) continue;
    if ((fds[0].revents & POLLIN) != 0) {
      signalfd_siginfo signal{};
      if (read(signal_fd, &signal, sizeof signal) != sizeof signal || signal.ssi_signo != SIGHUP)
        break;
      hangup();
    }
    if ((fds[1].revents & (POLLIN | POLLHUP)) == 0) continue;
    char text[256];
    const ssize_t n = read(0, text, sizeof text);
    if (n <= 0 || cmdline_in(cl, text, static_cast<int>(n)) < 0) fds[1].fd = -1;
  }
  if (cl != nullptr) cmdline_stdin_exit(cl);
}

} // namespace chainring::app
