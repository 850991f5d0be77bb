// SPDX-License-Identifier: BSD-3-Clause
// chainring-client publishes and subscribes from the command line, over ordinary UDP sockets.
#include <CLI/CLI.hpp>
#include <iostream>
#include <random>
#include <unistd.h>

#include "common/parse.h"
#include "common/start.h"
#include "options.h"

namespace {

using namespace chainring;
using namespace chainring::client;

/// The options as the user types them; both commands have them.
struct typed {
  client_options client;
  std::vector<std::string> topics;
  std::vector<std::uint16_t> topic_ids;
  bool short_topics = false, keep_session = false, will_retain = false;
  int qos = 0, will_qos = 0;
  double retry_interval_s = 5;
  std::string will_topic, will_payload;
};

[[noreturn]] void refuse(const std::string& why) {
  throw CLI::ValidationError(why, exit_usage);
}

mqttsn::qos_level level(int qos) {
  return qos < 0 ? mqttsn::qos_level::minus_one : mqttsn::qos_level(qos);
}

void add_common(CLI::App& app, typed& t) {
  app.set_help_flag("--help", "Print this help and exit");
  app.add_option("-h,--host", t.client.host, "Host name or address of the broker")
      ->capture_default_str();
  app.add_option("-p,--port", t.client.port, "UDP port of the broker")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  app.add_option("-i,--id", t.client.client_id,
                 "Client id, 1 to 23 characters (default: a random one)");
  app.add_flag("-c,--disable-clean-session", t.keep_session,
               "Keep the session (subscriptions, queued messages) at the broker; needs --id");
  app.add_option(
         "-k,--keepalive", t.client.keep_alive_s,
         "Keep-alive: this client sends something within this many seconds; 0 means no limit")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_flag("--short-topic", t.short_topics,
               "Send topics of two characters as short topic names, without registration");
  app.add_option("--retry-interval", t.retry_interval_s,
                 "Seconds to wait for an answer before sending again (Tretry)")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  app.add_option("--max-retries", t.client.retries_max, "Times to send again (Nretry)")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  auto* will = app.add_option("--will-topic", t.will_topic,
                              "Topic of the will, published when this client is lost");
  app.add_option("--will-payload", t.will_payload, "Message of the will")->needs(will);
  app.add_option("--will-qos", t.will_qos, "QoS of the will")
      ->check(CLI::Range(0, 2))
      ->needs(will)
      ->capture_default_str();
  app.add_flag("--will-retain", t.will_retain, "Retain the will")->needs(will);
  app.add_flag("-d,--debug", t.client.debug,
               "Print each message sent and received on standard error");
}

std::string random_id() {
  std::random_device random;
  return "chainring-" + std::to_string(::getpid()) + "-" + std::to_string(random() % 10000);
}

client_options checked_client(const typed& t) {
  client_options out = t.client;
  if (t.keep_session && out.client_id.empty())
    refuse("--disable-clean-session: a session that the broker keeps needs a client id; give one "
           "with --id");
  if (out.client_id.empty()) out.client_id = random_id();
  if (!mqttsn::valid_client_id(out.client_id))
    refuse("--id: '" + out.client_id + "' is not 1 to 23 characters of UTF-8");
  out.clean = !t.keep_session;
  out.retry_interval = std::chrono::milliseconds(static_cast<long>(t.retry_interval_s * 1000));
  if (!t.will_topic.empty()) {
    if (!valid_topic_name(t.will_topic))
      refuse("--will-topic: '" + t.will_topic +
             "' is not a topic name: expected UTF-8 without + and #");
    out.will = will{t.will_topic, t.will_payload, level(t.will_qos), t.will_retain};
  }
  return out;
}

bool is_short(const std::string& name, const typed& t) {
  return t.short_topics && name.size() == 2;
}

pub_options checked_pub(const typed& t) {
  pub_options out;
  out.client = checked_client(t);
  out.qos = level(t.qos);
  if (!t.topic_ids.empty()) {
    out.to = topic::predefined(t.topic_ids[0]);
  } else {
    const std::string& name = t.topics[0];
    if (!valid_topic_name(name))
      refuse("--topic: '" + name +
             "' is not a topic name: expected 1 to 65,535 octets of UTF-8 without + and #");
    out.to = is_short(name, t) ? topic::short_name(name) : topic::named(name);
  }
  if (out.qos == mqttsn::qos_level::minus_one && out.to.type == mqttsn::topic_id_type::normal)
    refuse("--qos: QoS -1 has no session in which to register '" + out.to.name +
           "'; give a predefined id with --topic-id, or a topic of two characters with "
           "--short-topic");
  return out;
}

sub_options checked_sub(const typed& t) {
  sub_options out;
  out.client = checked_client(t);
  out.qos = level(t.qos);
  for (const auto& filter : t.topics) {
    if (!valid_topic_filter(filter))
      refuse("--topic: '" + filter +
             "' is not a topic filter: expected UTF-8, with + only as a whole level and # only as "
             "the whole last level");
    out.filters.push_back(is_short(filter, t) && !has_wildcard(filter) ? topic::short_name(filter)
                                                                       : topic::named(filter));
  }
  for (const auto id : t.topic_ids)
    out.filters.push_back(topic::predefined(id));
  return out;
}

} // namespace

int main(int argc, char** argv) {
  chainring::app::start_process();
  CLI::App app("MQTT-SN 1.2 client for the command line, over UDP.");
  app.set_help_flag("--help", "Print this help and exit");
  app.set_help_all_flag("--help-all", "Print the help of both commands and exit");
  app.set_version_flag("--version", "chainring-client " CHAINRING_VERSION);
  app.require_subcommand(1);
  app.footer("Exit status: 0 when all is done; 1 when something failed or was not acknowledged;\n"
             "2 for wrong usage; 27 when the time of --timeout was over.");

  // For an option that takes several values, CLI11 splits a value in brackets at its commas. A
  // topic may be such a value, so each topic option takes exactly one value.
  typed t;
  std::string text, file;
  bool lines = false, whole = false, null = false, retain = false;
  auto* pub =
      app.add_subcommand("pub", "Publish messages and wait for the broker's acknowledgement");
  add_common(*pub, t);
  auto* to = pub->add_option_group("topic", "Give exactly one of these; it says where to publish");
  to->add_option("-t,--topic", t.topics, "Topic name")->expected(1)->allow_extra_args(false);
  to->add_option("--topic-id,--predefined", t.topic_ids, "Predefined topic id")
      ->expected(1)
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 65534));
  to->require_option(1);
  auto* from =
      pub->add_option_group("message", "Give exactly one of these; it says what to publish");
  auto* message = from->add_option("-m,--message", text, "Publish this text as the message");
  from->add_flag("-l,--stdin-line", lines, "Publish each line of standard input as a message");
  auto* from_file =
      from->add_option("-f,--file", file, "Publish the contents of a file as one message");
  from->add_flag("-s,--stdin-file", whole, "Publish all of standard input as one message");
  from->add_flag("-n,--null-message", null, "Publish an empty message");
  from->require_option(1);
  pub->add_option("-q,--qos", t.qos, "Quality of service: -1 (no session), 0, 1 or 2")
      ->check(CLI::Range(-1, 2))
      ->capture_default_str();
  pub->footer(
      "This program does not have these flags of mosquitto_pub: -A, -I, -L, -M, -S, -u, -P, -V, "
      "-x, --nodelay,\n"
      "--proxy, --quiet, --repeat, --repeat-delay, -D, and all of TLS (--cafile ...). They are\n"
      "about TCP, accounts, TLS or MQTT 5, which MQTT-SN does not have.");
  pub->add_flag("-r,--retain", retain, "Ask the broker to retain the message");

  auto* sub = app.add_subcommand(
      "sub", "Subscribe, print messages, and acknowledge each after it is printed");
  add_common(*sub, t);
  unsigned long count = 0;
  double timeout_s = 0;
  bool verbose = false, no_newline = false;
  auto* what =
      sub->add_option_group("topics", "Give at least one of these, each as often as needed");
  what->add_option("-t,--topic", t.topics, "Topic filter; + and # are wildcards")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  what->add_option("--topic-id,--predefined", t.topic_ids, "Predefined topic id")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all()
      ->check(CLI::Range(1, 65534));
  what->require_option();
  sub->add_option("-q,--qos", t.qos, "Highest quality of service to ask for: 0, 1 or 2")
      ->check(CLI::Range(0, 2))
      ->capture_default_str();
  sub->add_option("-C,--count", count, "End after this many messages")->check(CLI::PositiveNumber);
  auto* timeout =
      sub->add_option("-W,--timeout", timeout_s, "End after this many seconds with status 27")
          ->check(CLI::Range(0.001, 1e9));
  sub->footer("This program does not have these flags of mosquitto_sub: -A, -E, -F, -I, -L, -R, "
              "-S, -T, -U, -u, "
              "-P, -V, -x,\n"
              "--nodelay, --pretty, --proxy, --quiet, --random-filter, --remove-retained,\n"
              "--retain-as-published, --retain-handling, --retained-only, -D, and all of TLS\n"
              "(--cafile ...).");
  sub->add_flag("-v,--verbose", verbose, "Print the topic before each message");
  sub->add_flag("-N,--no-newline", no_newline, "Print no newline after a message");

  try {
    chainring::app::refuse_unknown(app, argc, argv);
    app.parse(argc, argv);
    if (pub->parsed()) {
      auto options = checked_pub(t);
      options.retain = retain;
      using source = pub_options::source;
      options.from = *message     ? source::message
                     : lines      ? source::lines
                     : *from_file ? source::file
                     : whole      ? source::whole
                                  : source::null;
      options.text = *message ? text : file;
      return run_pub(options);
    }
    auto options = checked_sub(t);
    options.count = count;
    if (*timeout)
      options.timeout = std::chrono::milliseconds(static_cast<long long>(timeout_s * 1000));
    options.verbose = verbose;
    options.newline = !no_newline;
    return run_sub(options);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? exit_ok : exit_usage;
  }
}
