// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "command.h"
#include "format.h"

namespace chainring::client {
namespace {

/// One run of the command `sub`.
class subscriber {
 public:
  explicit subscriber(const sub_options& options)
      : options_(options), me_{"sub", options.client.quiet}, client_(options.client) {}

  int run();

 private:
  status subscribe_all();
  status begin_session(bool with_pause);
  status wait_asleep();
  status take(const delivery& d);
  int end(status s);
  [[nodiscard]] bool filtered_out(const delivery& d) const;
  [[nodiscard]] bool wanted(const delivery& d) const;
  [[nodiscard]] bool enough() const { return options_.count > 0 && seen_ >= options_.count; }

  const sub_options& options_;
  const command me_;
  client client_;
  unsigned long seen_ = 0;
  clock::time_point deadline_ = clock::time_point::max();
  clock::time_point wake_at_{};
};

/// Makes and deletes the subscriptions of the command line, then falls asleep if it says so.
status subscriber::subscribe_all() {
  for (const auto& filter : options_.unsubscribe)
    if (auto s = client_.unsubscribe(filter); !s) return s;
  for (const auto& filter : options_.filters)
    if (auto s = subscribe_to(client_, filter, options_.qos, me_); !s) return s;
  if (!options_.sleep) return {};
  wake_at_ = clock::now() + options_.sleep->awake_every;
  return client_.sleep(options_.sleep->duration_s);
}

status subscriber::begin_session(bool with_pause) {
  return begin(client_, options_.client, with_pause, [this] { return subscribe_all(); });
}

/// Waits until it is time to wake up, or until the deadline.
status subscriber::wait_asleep() {
  if (auto s = client_.doze(std::min(wake_at_, deadline_)); !s) return s;
  if (clock::now() < wake_at_) return {};
  wake_at_ = clock::now() + options_.sleep->awake_every;
  if (!client_.overslept()) return client_.wake();
  return {outcome::disconnected,
          {},
          "the broker at " + client_.peer() + " was not heard for the " +
              std::to_string(options_.sleep->duration_s) +
              " s of --sleep, so it may have given up the session"};
}

bool subscriber::filtered_out(const delivery& d) const {
  return std::any_of(options_.filters_out.begin(), options_.filters_out.end(),
                     [&](const std::string& filter) { return topic_matches(filter, d.topic); });
}

bool subscriber::wanted(const delivery& d) const {
  using kind = sub_options::retained_messages;
  if (d.flags.retain() ? options_.retained == kind::none : options_.retained == kind::only)
    return false;
  return !filtered_out(d);
}

/// Prints and acknowledges one message. It is acknowledged only after it is printed, so that the
/// broker sends it again if it is not.
status subscriber::take(const delivery& d) {
  if (wanted(d)) {
    if (!print(d, options_.output)) return system_failed("cannot write to standard output");
    ++seen_;
  }
  if (auto s = client_.acknowledge(d); !s) return s;
  if (!options_.remove_retained || !d.flags.retain() || filtered_out(d)) return {};
  const auto type = d.flags.topic_type();
  const topic to = type == mqttsn::topic_id_type::normal ? topic::named(d.topic)
                                                         : topic{type, d.topic_id, d.topic};
  return client_.publish(to, {}, mqttsn::qos_level::one, true);
}

int subscriber::end(status s) {
  if (client_.overflow_count() > 0)
    me_.say(std::to_string(client_.overflow_count()) +
            " messages of QoS 0 were dropped, because they came faster than they were printed");
  if (s.what == outcome::interrupted) {
    client_.ignore_stop();
    static_cast<void>(client_.disconnect());
    return exit_ok;
  }
  const auto ended = client_.disconnect();
  if (!s) return me_.complain(s.message);
  if (!ended && ended.what != outcome::disconnected && ended.what != outcome::interrupted)
    return me_.complain(ended.message);
  return exit_ok;
}

int subscriber::run() {
  if (auto s = client_.open(); !s)
    return s.what == outcome::interrupted ? exit_ok : me_.complain(s.message);
  auto s = begin_session(false);
  if (s && options_.end_when_subscribed) {
    // A client that has just fallen asleep stays asleep when the program ends.
    return client_.asleep() ? exit_ok : end(s);
  }
  if (options_.timeout) deadline_ = clock::now() + *options_.timeout;
  while (s && !enough()) {
    std::optional<delivery> d;
    if (s = client_.next(deadline_, d); s && d) s = take(*d);
    if (s && !d && clock::now() >= deadline_) {
      static_cast<void>(client_.disconnect());
      me_.say("the time of --timeout (" + in_seconds(*options_.timeout) + ") is over; " +
              std::to_string(seen_) + " messages were printed");
      return exit_timeout;
    }
    if (s && !d && client_.asleep()) s = wait_asleep();
    if (s.what == outcome::no_answer && client_.asleep()) {
      me_.say(s.message + "; sleeping on");
      s = {};
    } else if (s.what == outcome::disconnected || s.what == outcome::no_answer) {
      me_.say(s.message + "; connecting again");
      s = begin_session(true);
    }
  }
  return end(s);
}

} // namespace

int run_sub(const sub_options& given) {
  sub_options options = given;
  std::signal(SIGPIPE, SIG_IGN);
  options.client.stop_fd = open_stop_fd();
  if (options.client.stop_fd < 0)
    return command{"sub", options.client.quiet}.complain(std::string("cannot wait for signals: ") +
                                                         std::strerror(errno));
  return subscriber(options).run();
}

} // namespace chainring::client
