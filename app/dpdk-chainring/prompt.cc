// SPDX-License-Identifier: BSD-3-Clause
#include "prompt.h"

#include <array>
#include <charconv>
#include <chrono>
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
#include "common/stream.h"
#include "log.h"
#include "show.h"

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

/// Seconds without a compaction before one begins by itself.
constexpr unsigned compaction_pause = 60;

/// True if a lot of memory is free, and all of it in runs so short that a message of 16 KiB has
/// several chains.
bool is_scattered(const broker& b) {
  const block_store_statistics s = b.block_statistics();
  return s.free_blocks >= s.block_count / 16 && s.largest_run * s.block_size < 16 * 1024;
}

/// What the thread of the prompt does besides the prompt. Commands that wait go on with it.
class housekeeper {
 public:
  housekeeper(service& s, int signal_fd, const std::function<void()>& hangup)
      : service_(s), signal_fd_(signal_fd), hangup_(hangup) {}
  [[nodiscard]] bool ended() const noexcept { return ended_; }

  /// Logs what has changed, and gives more room to tables. Call it about once a second.
  void look();
  /// Looks if a second has passed, and does a step of what goes on beside the prompt.
  void look_in_time();
  /// Reads the signal that has arrived.
  void take_signal();
  /// Waits until done() or for so many milliseconds. Returns false when the broker is to end.
  template <class Done> bool wait(unsigned ms, unsigned step_ms, Done&& done) {
    using clock = std::chrono::steady_clock;
    const auto end = clock::now() + std::chrono::milliseconds(ms);
    auto next_look = clock::now() + std::chrono::seconds(1);
    for (auto now = clock::now(); !ended_ && now < end && !done(); now = clock::now()) {
      service_.go_on_compacting();
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - now).count();
      pollfd signal = {signal_fd_, POLLIN, 0};
      const std::int64_t most = service_.compacting() ? 1 : step_ms;
      if (poll(&signal, 1, static_cast<int>(std::min<std::int64_t>(most, left + 1))) > 0)
        take_signal();
      if (clock::now() < next_look) continue;
      look();
      next_look = clock::now() + std::chrono::seconds(1);
    }
    return !ended_;
  }

 private:
  service& service_;
  int signal_fd_;
  const std::function<void()>& hangup_;
  bool ended_ = false;
  std::chrono::steady_clock::time_point next_look_{};
  unsigned looks_since_compaction_ = compaction_pause;
  bool failure_logged_ = false;
  std::uint64_t losses_logged_ = 0;
  std::string growth_error_logged_;
};

void housekeeper::look_in_time() {
  service_.go_on_compacting();
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return;
  next_look_ = now + std::chrono::seconds(1);
  look();
}

void housekeeper::look() {
  if (service_.compacting())
    looks_since_compaction_ = 0;
  else if (++looks_since_compaction_ > compaction_pause && is_scattered(service_.broker()))
    service_.want_compaction();
  service_.watch_links();
  service_.sample_rates();
  log_losses(service_.broker().region(), losses_logged_);
  grow_tables(service_.broker(), growth_error_logged_);
  if (failure_logged_ || !service_.broker().region().failed()) return;
  failure_logged_ = true;
  CHAINRING_LOG(ERR, region,
                "%s. The broker acknowledges and delivers nothing more. Start it again when the "
                "cause is removed",
                service_.broker().region().why_failed().c_str());
}

void housekeeper::take_signal() {
  signalfd_siginfo signal{};
  if (read(signal_fd_, &signal, sizeof signal) != sizeof signal || signal.ssi_signo != SIGHUP)
    ended_ = true;
  else
    hangup_();
}

/// What is typed at the prompt. DPDK's command line takes a '#' for the beginning of a comment
/// wherever it stands, so that "kick a#b" would end the session of "a". Such a line is not carried
/// out. A line that begins with '#' is a comment.
class typed_text {
 public:
  /// Returns false when the prompt has ended.
  [[nodiscard]] bool pass_on(cmdline* cl, std::string_view text) {
    for (const char c : text) {
      if (c == '\n' || c == '\r') {
        const bool refused = std::exchange(has_hash_, false);
        begun_ = false;
        if (refused) {
          if (cmdline_in(cl, &clear_line, 1) < 0) return false;
          cmdline_printf(cl, "'#' begins a comment, so nothing was done. Write \\u0023 for it in a "
                             "client id, and * in a pattern\n");
          continue;
        }
      } else {
        has_hash_ |= c == '#' && begun_;
        begun_ |= c != ' ';
        if (c == clear_line) has_hash_ = begun_ = false;
      }
      if (cmdline_in(cl, &c, 1) < 0) return false;
    }
    return true;
  }

 private:
  static constexpr char clear_line = 3; ///< control and c
  bool begun_ = false;                  // whether the line has more than spaces
  bool has_hash_ = false;               // behind its beginning
};

// cmdline callbacks have no context of their own.
service* served = nullptr;
housekeeper* keeper = nullptr;
bool quit = false;

// The last word of a command may be the rest of its line, so that a client id may have spaces.
struct two_words {
  cmdline_fixed_string_t first;
  cmdline_multi_string_t second;
};
struct three_words {
  cmdline_fixed_string_t first, second;
  cmdline_multi_string_t third;
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

void show_counters(cmdline* cl) {
  for_each_counter(served->broker().counters(), [cl](const char* name, std::uint64_t value) {
    cmdline_printf(cl, "%-20s %" PRIu64 "\n", name, value);
  });
  mqttsn::for_each_counter(served->gateway().counters(),
                           [cl](const char* name, std::uint64_t value) {
                             cmdline_printf(cl, "%-20s %" PRIu64 "\n", name, value);
                           });
  for_each_tcp_counter(*served, [cl](const std::string& name, std::uint64_t value) {
    cmdline_printf(cl, "%-20s %" PRIu64 "\n", name.c_str(), value);
  });
}

void show_rates(cmdline* cl) {
  const bool known = served->sampled_rates().for_each([cl](const char* name, double per_second) {
    if (per_second > 0) cmdline_printf(cl, "%-20s %.1f a second\n", name, per_second);
  });
  if (!known) cmdline_printf(cl, "the rates are known two seconds after the start\n");
}

void print_rows(cmdline* cl, const std::string& what, const std::string& words) {
  const print_line print = [cl](const std::string& line) {
    cmdline_printf(cl, "%s\n", line.c_str());
  };
  if (what == "session") return show_session(*served, words, print);
  if (what == "top") {
    constexpr unsigned seconds_max = 10;
    const unsigned seconds = words.empty() ? 1 : static_cast<unsigned>(std::atoi(words.c_str()));
    if (seconds == 0 || seconds > seconds_max)
      return print("show top SECONDS: expected 1 to " + std::to_string(seconds_max));
    const pause_function pause = [](unsigned ms) {
      return keeper->wait(ms, 100, [] { return false; });
    };
    return show_top(*served, seconds, pause, print);
  }
  auto rows = row_choice::parse(words);
  if (!rows) return print("show " + what + ": " + rows.error().message);
  if (what == "sessions") show_sessions(*served, *rows, print);
  if (what == "queues") show_queues(*served, *rows, print);
  if (what == "topics") show_topics(*served, *rows, print);
  if (what == "retained") show_retained(*served, *rows, print);
  if (what == "groups") show_groups(*served, *rows, print);
  if (what == "subscriptions") show_subscriptions(*served, *rows, print);
}

void on_show(void* parsed, cmdline* cl, void*) {
  const std::string what = static_cast<two_words*>(parsed)->second;
  if (what == "region") return show_region(cl);
  if (what == "counters") return show_counters(cl);
  if (what == "rates") return show_rates(cl);
  print_rows(cl, what, "");
}
void on_show_rows(void* parsed, cmdline* cl, void*) {
  const auto* words = static_cast<three_words*>(parsed);
  print_rows(cl, words->second, words->third);
}
void on_show_port(void*, cmdline* cl, void*) {
  show_port_stats(cl);
}
void on_help(void*, cmdline* cl, void*) {
  cmdline_printf(cl, "show port stats   print packets, drops by reason, and frames handed over\n"
                     "show region       print the region's class, space and messages\n"
                     "show sessions     print the clients and their addresses\n"
                     "show session CLIENT  print everything about one client\n"
                     "show queues       print each queue's depth, capacity and high-water mark\n"
                     "show subscriptions  print the filters of each client\n"
                     "show topics       print the filters and their numbers of subscriptions\n"
                     "show retained     print the retained messages\n"
                     "show groups       print the groups of shared subscriptions\n"
                     "show counters     print the broker's counters\n"
                     "show rates        print what the counters gained in the last second\n"
                     "show top [SECONDS]  print who sends the most and whose queues are longest\n"
                     "  Behind a list may stand: like PATTERN,\n"
                     "  connected, disconnected, full, from N, count N (100 rows without it).\n");
  cmdline_printf(
      cl, "grow region SIZE  make the region larger while it is served, such as 512M or 2G\n"
          "compact           move messages together, so that the free space forms long runs\n"
          "kick CLIENT       end a client's session and delete its subscriptions and queue\n"
          "clear queue CLIENT  drop all messages in a client's queue\n"
          "clear retained TOPIC  delete the retained message of a topic\n"
          "drain on|off      refuse new sessions and publishes, and go on delivering\n"
          "set session-expiry SECONDS  end sessions so long after their connection; 0: never\n"
          "set retry-interval SECONDS  wait so long before the first retransmission\n"
          "set max-retries N  count a client as lost after so many retransmissions\n"
          "set log-level LEVEL  log from this level on, such as debug or chainring.*:debug\n"
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
/// Waits until the home of the session has handled a request, and returns nullptr when it takes too
/// long, as while the region has failed.
const operator_reply* wait_for(const std::shared_ptr<const operator_reply>& reply, cmdline* cl) {
  constexpr unsigned ms_max = 2000;
  const bool goes_on = keeper->wait(ms_max, 1, [&] { return reply->done(); });
  if (reply->done()) return reply.get();
  cmdline_printf(cl, "%s; the request stands\n",
                 goes_on ? "the worker of the client has not answered for 2 s"
                         : "the broker ends before the worker of the client has answered");
  return nullptr;
}
constexpr const char* no_such_client = "there is no such client; 'show sessions' lists them\n";

void on_kick(void* parsed, cmdline* cl, void*) {
  const std::string client = static_cast<two_words*>(parsed)->second;
  const auto session = find_session(served->broker(), client);
  const auto reply = session ? served->broker().kick(session->identity) : nullptr;
  if (reply == nullptr) return cmdline_printf(cl, "%s", no_such_client);
  const operator_reply* r = wait_for(reply, cl);
  if (r == nullptr) return;
  if (!r->found) return cmdline_printf(cl, "the client's session has ended meanwhile\n");
  cmdline_printf(cl,
                 "the client's session has ended: %s, %u subscriptions and %" PRIu64
                 " queued messages are deleted\n",
                 r->connected ? "its connection is closed" : "it was not connected",
                 r->subscriptions, r->messages);
}
void clear_retained(cmdline* cl, const std::string& topic) {
  const auto reply = served->broker().clear_retained(topic);
  const operator_reply* r = reply != nullptr ? wait_for(reply, cl) : nullptr;
  if (reply != nullptr && r == nullptr) return;
  cmdline_printf(cl, r != nullptr && r->found
                         ? "the retained message is deleted\n"
                         : "the topic has no retained message; 'show retained' lists them\n");
}
void on_clear(void* parsed, cmdline* cl, void*) {
  const std::string client = static_cast<three_words*>(parsed)->third;
  if (std::string(static_cast<three_words*>(parsed)->second) == "retained")
    return clear_retained(cl, client);
  const auto session = find_session(served->broker(), client);
  const auto reply = session ? served->broker().clear_queue(session->identity) : nullptr;
  if (reply == nullptr) return cmdline_printf(cl, "%s", no_such_client);
  const operator_reply* r = wait_for(reply, cl);
  if (r == nullptr) return;
  if (!r->found) return cmdline_printf(cl, "the client's session has ended meanwhile\n");
  cmdline_printf(cl, "the client's queue is cleared: %" PRIu64 " messages are dropped\n",
                 r->messages);
}
void on_compact(void*, cmdline* cl, void*) {
  const compactor_statistics before = served->broker().compaction_statistics();
  served->want_compaction();
  while (served->compacting() && keeper->wait(1000, 1, [] { return !served->compacting(); }))
    if (served->compacting())
      cmdline_printf(cl, "%" PRIu64 " messages are moved so far\n",
                     served->broker().compaction_statistics().moved - before.moved);
  const compactor_statistics now = served->broker().compaction_statistics();
  const block_store_statistics b = served->broker().block_statistics();
  cmdline_printf(cl,
                 "%s: %" PRIu64 " messages were moved, %" PRIu64
                 " of them have one chain again; the largest free run has %" PRIu64 " of %" PRIu64
                 " free blocks\n",
                 served->compacting() ? "the broker ends before the messages are moved together"
                                      : "the messages are moved together",
                 now.moved - before.moved, now.joined - before.joined, b.largest_run,
                 b.free_blocks);
}
void on_drain(void* parsed, cmdline* cl, void*) {
  const bool on = std::string(static_cast<two_words*>(parsed)->second) == "on";
  served->broker().set_draining(on);
  if (!on) return cmdline_printf(cl, "the broker serves again\n");
  std::uint64_t queued = 0;
  std::uint32_t first = 0;
  do {
    std::vector<session_info> page;
    first = served->broker().sessions(first, 256, page);
    for (const session_info& i : page)
      queued += i.queue_depth;
  } while (first != 0);
  cmdline_printf(cl,
                 "the broker refuses new sessions and publishes; %" PRIu64
                 " messages are queued. 'drain off' serves again\n",
                 queued);
}
void on_set(void* parsed, cmdline* cl, void*) {
  const auto* words = static_cast<three_words*>(parsed);
  const std::string what = words->second, value = words->third;
  if (what == "log-level") {
    auto level = parse_log_level(value);
    if (!level) return cmdline_printf(cl, "set log-level: %s\n", level.error().message.c_str());
    apply({*level});
    return cmdline_printf(cl, "the log level is %s\n", value.c_str());
  }
  const std::uint32_t least = what == "retry-interval" ? 1 : 0;
  const std::uint32_t most = what == "retry-interval" ? 3600
                             : what == "max-retries"  ? 100
                                                      : 4'000'000'000;
  std::uint32_t n = 0;
  const auto [end, bad] = std::from_chars(value.data(), value.data() + value.size(), n);
  if (bad != std::errc{} || end != value.data() + value.size() || n < least || n > most)
    return cmdline_printf(cl, "set %s %s: expected %u to %u\n", what.c_str(), value.c_str(), least,
                          most);
  if (what == "session-expiry") served->broker().set_session_expiry(n);
  if (what == "retry-interval") served->gateway().set_retry_interval(n * 1000);
  if (what == "max-retries") served->gateway().set_retries_max(n);
  cmdline_printf(cl, "%s is %u from now on\n", what.c_str(), n);
}
void on_reload(void*, cmdline* cl, void*) {
  const auto loaded = served->load_access();
  if (loaded)
    cmdline_printf(cl, "%s\n", loaded->c_str());
  else
    cmdline_printf(cl, "%s; the former access rules stay in force\n",
                   loaded.error().message.c_str());
  const auto say = [&](const result<std::string>& one, const char* former) {
    if (!one)
      cmdline_printf(cl, "%s; the former %s\n", one.error().message.c_str(), former);
    else if (!one->empty())
      cmdline_printf(cl, "%s\n", one->c_str());
  };
  say(served->load_certificates(), "certificates stay in use");
  say(served->load_passwords(), "passwords stay in force");
}
void on_quit(void*, cmdline* cl, void*) {
  quit = true;
  cmdline_quit(cl);
}

cmdline_parse_token_string_t word_show = TOKEN_STRING_INITIALIZER(three_words, first, "show");
cmdline_parse_token_string_t word_what = TOKEN_STRING_INITIALIZER(
    two_words, second,
    "region#sessions#queues#subscriptions#topics#retained#groups#counters#rates#top");
cmdline_parse_token_string_t word_rows = TOKEN_STRING_INITIALIZER(
    three_words, second, "sessions#session#queues#subscriptions#topics#retained#groups#top");
cmdline_parse_token_string_t rest_of_line =
    TOKEN_STRING_INITIALIZER(three_words, third, TOKEN_STRING_MULTI);
cmdline_parse_token_string_t word_drain = TOKEN_STRING_INITIALIZER(two_words, first, "drain");
cmdline_parse_token_string_t word_on = TOKEN_STRING_INITIALIZER(two_words, second, "on#off");
cmdline_parse_token_string_t word_set = TOKEN_STRING_INITIALIZER(three_words, first, "set");
cmdline_parse_token_string_t word_setting = TOKEN_STRING_INITIALIZER(
    three_words, second, "session-expiry#retry-interval#max-retries#log-level");
cmdline_parse_token_string_t word_value = TOKEN_STRING_INITIALIZER(three_words, third, nullptr);
cmdline_parse_token_string_t word_port = TOKEN_STRING_INITIALIZER(three_words, second, "port");
cmdline_parse_token_string_t word_stats = TOKEN_STRING_INITIALIZER(three_words, third, "stats");
cmdline_parse_token_string_t word_grow = TOKEN_STRING_INITIALIZER(three_words, first, "grow");
cmdline_parse_token_string_t word_region = TOKEN_STRING_INITIALIZER(three_words, second, "region");
cmdline_parse_token_string_t word_size = TOKEN_STRING_INITIALIZER(three_words, third, nullptr);
cmdline_parse_token_string_t word_compact = TOKEN_STRING_INITIALIZER(two_words, first, "compact");
cmdline_parse_token_string_t word_help = TOKEN_STRING_INITIALIZER(two_words, first, "help");
cmdline_parse_token_string_t word_reload = TOKEN_STRING_INITIALIZER(two_words, first, "reload");
cmdline_parse_token_string_t word_quit = TOKEN_STRING_INITIALIZER(two_words, first, "quit");

instruction<2> show_instruction = {on_show,
                                   nullptr,
                                   "show region|sessions|queues|subscriptions|topics|counters|"
                                   "rates|top",
                                   {&word_show.hdr, &word_what.hdr, nullptr}};
instruction<3> show_rows_instruction = {
    on_show_rows,
    nullptr,
    "show sessions|session|queues|subscriptions|topics|top WHICH",
    {&word_show.hdr, &word_rows.hdr, &rest_of_line.hdr, nullptr}};
instruction<2> drain_instruction = {
    on_drain, nullptr, "drain on|off", {&word_drain.hdr, &word_on.hdr, nullptr}};
instruction<3> set_instruction = {on_set,
                                  nullptr,
                                  "set session-expiry|retry-interval|max-retries|log-level VALUE",
                                  {&word_set.hdr, &word_setting.hdr, &word_value.hdr, nullptr}};
instruction<3> show_port_instruction = {on_show_port,
                                        nullptr,
                                        "show port stats",
                                        {&word_show.hdr, &word_port.hdr, &word_stats.hdr, nullptr}};
instruction<3> grow_instruction = {on_grow,
                                   nullptr,
                                   "grow region SIZE",
                                   {&word_grow.hdr, &word_region.hdr, &word_size.hdr, nullptr}};
cmdline_parse_token_string_t word_kick = TOKEN_STRING_INITIALIZER(two_words, first, "kick");
cmdline_parse_token_string_t word_client =
    TOKEN_STRING_INITIALIZER(two_words, second, TOKEN_STRING_MULTI);
cmdline_parse_token_string_t word_clear = TOKEN_STRING_INITIALIZER(three_words, first, "clear");
cmdline_parse_token_string_t word_queue =
    TOKEN_STRING_INITIALIZER(three_words, second, "queue#retained");
cmdline_parse_token_string_t word_whose =
    TOKEN_STRING_INITIALIZER(three_words, third, TOKEN_STRING_MULTI);
instruction<2> kick_instruction = {
    on_kick, nullptr, "kick CLIENT", {&word_kick.hdr, &word_client.hdr, nullptr}};
instruction<3> clear_instruction = {on_clear,
                                    nullptr,
                                    "clear queue CLIENT, clear retained TOPIC",
                                    {&word_clear.hdr, &word_queue.hdr, &word_whose.hdr, nullptr}};
instruction<1> compact_instruction = {on_compact, nullptr, "compact", {&word_compact.hdr, nullptr}};
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
                                 as_instruction(show_rows_instruction),
                                 as_instruction(drain_instruction),
                                 as_instruction(set_instruction),
                                 as_instruction(compact_instruction),
                                 as_instruction(quit_instruction),
                                 nullptr};

} // namespace

void wait_for_end(service& s, int signal_fd, bool interactive,
                  const std::function<void()>& hangup) {
  housekeeper house(s, signal_fd, hangup);
  served = &s;
  keeper = &house;
  cmdline* cl = interactive ? cmdline_stdin_new(context, "chainring> ") : nullptr;
  typed_text typed;
  pollfd fds[2] = {{signal_fd, POLLIN, 0}, {cl != nullptr ? 0 : -1, POLLIN, 0}};
  while (!quit && !house.ended()) {
    std::fflush(stdout);
    const int got = poll(fds, 2, s.compacting() ? 1 : 1000);
    if (s.compacting())
      house.look_in_time(); // what wakes this thread is the next step
    else
      house.look();
    if (got <= 0) continue;
    if ((fds[0].revents & POLLIN) != 0) house.take_signal();
    if (house.ended() || (fds[1].revents & (POLLIN | POLLHUP)) == 0) continue;
    char text[256];
    const ssize_t n = read(0, text, sizeof text);
    if (n <= 0 || !typed.pass_on(cl, {text, static_cast<std::size_t>(n)})) fds[1].fd = -1;
  }
  keeper = nullptr;
  if (cl != nullptr) cmdline_stdin_exit(cl);
}

} // namespace chainring::app
