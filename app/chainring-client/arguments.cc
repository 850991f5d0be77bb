// SPDX-License-Identifier: BSD-3-Clause
#include "arguments.h"

#include "format.h"

namespace chainring::client {
namespace {

const CLI::Range seconds_range(0.001, 1e9);
const CLI::Validator not_empty([](std::string& text) { return text.empty() ? "it is empty" : ""; },
                               "", "not empty");

} // namespace

arguments::arguments(CLI::App& app) {
  app.set_help_flag("--help", "Print this help and exit");
  app.set_help_all_flag("--help-all", "Print the help of all commands and exit");
  app.set_version_flag("--version", "chainring-client " CHAINRING_VERSION);
  app.require_subcommand(1);
  app.footer("Each command has its own help: chainring-client COMMAND --help.\n\n"
             "Exit status: 0 when all is done; 1 when something failed or was not acknowledged;\n"
             "2 for wrong usage; 27 when the time of --timeout was over.");
  add_pub(app);
  add_sub(app);
  add_rr(app);
}

void arguments::add_common(CLI::App& command) {
  command.set_help_flag("--help", "Print this help and exit");
  auto* host = command
                   .add_option("-h,--host", client_.host,
                               "Host name, IPv4 address or IPv6 address of the broker")
                   ->capture_default_str();
  command.add_option("-p,--port", client_.port, "UDP port of the broker")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  auto* ipv4 = command.add_flag("--ipv4", ipv4_, "Use only IPv4 addresses of the host");
  command.add_flag("--ipv6", ipv6_, "Use only IPv6 addresses of the host")->excludes(ipv4);
  command.add_option("-A,--bind", client_.bind_address, "Local address to send from");
  command.add_flag("--fragments", client_.fragments,
                   "Send a message that is too long for one packet in IP fragments; the broker has "
                   "to accept them (--max-datagram of dpdk-chainring)");
  auto* search =
      command
          .add_option("--search", search_,
                      "Search a gateway instead of --host: send SEARCHGW to this broadcast, "
                      "multicast or unicast address and use the first gateway that answers")
          ->check(not_empty)
          ->excludes(host);
  command
      .add_option("--radius", radius_,
                  "Radius of the search, which is also the number of hops of a multicast; 0 means "
                  "the whole network")
      ->check(CLI::Range(0, 255))
      ->needs(search)
      ->capture_default_str();
  command
      .add_option("--search-delay", search_delay_s_,
                  "The search begins after a random time of at most this many seconds, so that "
                  "many clients do not search at once (TSEARCHGW)")
      ->check(CLI::Range(0.0, 3600.0))
      ->needs(search)
      ->capture_default_str();
  auto* id = command.add_option("-i,--id", client_.client_id,
                                "Client id, 1 to 23 characters (default: a random one)");
  command
      .add_option("-I,--id-prefix", id_prefix_,
                  "Client id of this prefix and the process id, for brokers that accept only "
                  "certain ids")
      ->excludes(id);
  command.add_flag("-c,--disable-clean-session", keep_session_,
                   "Keep the session (subscriptions, queued messages, will) at the broker; needs "
                   "--id");
  command
      .add_option(
          "-k,--keepalive", client_.keep_alive_s,
          "Keep-alive: this client sends something within this many seconds; 0 means no limit")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  command.add_flag("--short-topic", short_topics_,
                   "Send topics of two characters as short topic names, without registration");
  command
      .add_option("--retry-interval", retry_interval_s_,
                  "Seconds to wait for an answer before sending again (Tretry), and before a "
                  "request that was refused because of congestion is sent again")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  command.add_option("--max-retries", client_.retries_max, "Times to send again (Nretry)")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  add_will(command);
  command.add_flag("-d,--debug", client_.debug,
                   "Print each message sent and received on standard error");
  command.add_flag("--quiet", client_.quiet, "Print no errors and no warnings");
}

void arguments::add_will(CLI::App& command) {
  auto* will =
      command.add_option("--will-topic", will_topic_,
                         "Topic of the will, which the broker publishes when this client is lost");
  will->check(not_empty);
  command.add_option("--will-payload", will_payload_, "Message of the will")->needs(will);
  command.add_option("--will-qos", will_qos_, "QoS of the will")
      ->check(CLI::Range(0, 2))
      ->needs(will)
      ->capture_default_str();
  command.add_flag("--will-retain", will_retain_, "Retain the will")->needs(will);
  command.add_flag("--will-update", client_.update_will,
                   "Give or delete the will after CONNECT, by WILLTOPICUPD and WILLMSGUPD; "
                   "without --will-payload its message stays as it is");
  command
      .add_flag("--will-delete", client_.delete_will,
                "Delete the will that the broker keeps of an earlier session; needs "
                "--disable-clean-session")
      ->excludes(will);
}

// For an option that takes several values, CLI11 splits a value in brackets at its commas. A topic
// may be such a value, so each topic option takes exactly one value.
void arguments::add_topics(CLI::App& command, bool many) {
  auto* group = command.add_option_group(
      "topic", many ? "Give at least one of these, each as often as needed"
                    : "Give exactly one of these; it says where to publish");
  auto* names =
      group
          ->add_option("-t,--topic", topics_,
                       many ? "Topic filter; + and # are wildcards, and $share/GROUP/FILTER shares "
                              "the messages with the other members of the group"
                            : "Topic name")
          ->expected(1)
          ->allow_extra_args(false);
  auto* ids = group->add_option("--topic-id,--predefined", topic_ids_, "Predefined topic id")
                  ->expected(1)
                  ->allow_extra_args(false)
                  ->check(CLI::Range(1, 65534));
  if (!many) {
    group->require_option(1);
    return;
  }
  names->take_all();
  ids->take_all();
  group
      ->add_option("-U,--unsubscribe", unsubscribe_,
                   "Topic filter to unsubscribe from first, when the session was kept")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  group->require_option();
}

void arguments::add_message(CLI::App& command, bool lines) {
  auto* group =
      command.add_option_group("message", "Give exactly one of these; it says what to publish");
  group->add_option("-m,--message", text_, "Publish this text as the message");
  if (lines)
    group->add_flag("-l,--stdin-line", lines_, "Publish each line of standard input as a message");
  group->add_option("-f,--file", file_, "Publish the contents of a file as one message")
      ->check(not_empty);
  group->add_flag("-s,--stdin-file", whole_, "Publish all of standard input as one message");
  group->add_flag("-n,--null-message", null_, "Publish an empty message");
  group->require_option(1);
}

void arguments::add_output(CLI::App& command) {
  command.add_flag("-v,--verbose", verbose_, "Print the topic before each message");
  command.add_flag("-N,--no-newline", no_newline_, "Print no newline after a message");
  command
      .add_option("-F,--format", format_,
                  "Print each message in this format: %t topic, %p payload, %q QoS, %r 1 if it is "
                  "retained, %l octets of payload, %m message id, %x and %X payload in "
                  "hexadecimal, %I local time, %U seconds since 1970, %% a percent sign; \\n \\t "
                  "\\r \\0 \\\\ \\a \\e as in C")
      ->type_name("FORMAT");
}

void arguments::add_pub(CLI::App& app) {
  pub_ = app.add_subcommand("pub", "Publish messages and wait for the broker's acknowledgement");
  add_common(*pub_);
  add_topics(*pub_, false);
  add_message(*pub_, true);
  pub_->add_option("-q,--qos", qos_,
                   "Quality of service: -1 (no session, no answer; needs --topic-id or "
                   "--short-topic), 0, 1 or 2")
      ->check(CLI::Range(-1, 2))
      ->capture_default_str();
  pub_->add_flag("-r,--retain", retain_,
                 "Ask the broker to retain the message for later subscribers; an empty message "
                 "clears the retained one");
  auto* repeat = pub_->add_option("--repeat", repeat_, "Publish the message this many times")
                     ->check(CLI::PositiveNumber)
                     ->capture_default_str();
  pub_->add_option("--repeat-delay", repeat_delay_s_, "Seconds between two repetitions")
      ->check(CLI::Range(0.0, 1e9))
      ->needs(repeat)
      ->capture_default_str();
  pub_->footer(
      "Examples:\n"
      "  chainring-client pub -h 192.0.2.1 -q 2 -t site/7/temp -m 21.5\n"
      "  chainring-client pub -h 192.0.2.1 -q 1 -r -t site/7/state -m up --will-topic "
      "site/7/state --will-payload down\n\n"
      "This program does not have these flags of mosquitto_pub: -D, -L, -M, -S, -u, -P, -V, -x,\n"
      "--nodelay, --proxy, --unix, and all of TLS (--cafile ...). They are about TCP, accounts,\n"
      "TLS or MQTT 5, which MQTT-SN does not have.");
}

void arguments::add_sub(CLI::App& app) {
  sub_ = app.add_subcommand("sub",
                            "Subscribe, print messages, and acknowledge each after it is printed");
  add_common(*sub_);
  add_topics(*sub_, true);
  sub_->add_option("-q,--qos", qos_, "Highest quality of service to ask for: 0, 1 or 2")
      ->check(CLI::Range(0, 2))
      ->capture_default_str();
  add_output(*sub_);
  sub_->add_option("-T,--filter-out", filters_out_,
                   "Do not print messages to topics of this filter; may be given often")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  auto* none = sub_->add_flag("-R", no_retained_, "Do not print retained messages");
  sub_->add_flag("--retained-only", retained_only_, "Print only retained messages")->excludes(none);
  sub_->add_flag("--remove-retained", remove_retained_,
                 "Clear the retained message of each topic that sends one, unless --filter-out "
                 "names it");
  add_sub_ends(*sub_);
  sub_->footer(
      "Examples:\n"
      "  chainring-client sub -h 192.0.2.1 -c -i meter-reader -q 2 -v -t 'site/+/temp'\n"
      "  chainring-client sub -h 192.0.2.1 -q 1 -t '$share/workers/jobs/#'\n"
      "  chainring-client sub -h 192.0.2.1 -c -i node7 -q 1 -t cmd/node7 --sleep 600\n\n"
      "This program does not have these flags of mosquitto_sub: -D, -L, -S, -u, -P, -V, -x,\n"
      "--nodelay, --pretty, --proxy, --random-filter, --retain-as-published,\n"
      "--retain-handling, --unix, and all of TLS (--cafile ...).");
}

/// The options of `sub` that say when it sleeps and when it ends.
void arguments::add_sub_ends(CLI::App& command) {
  auto* sleep =
      command
          .add_option("--sleep", sleep_s_,
                      "Sleep between two looks at the broker, as a device on a battery does: the "
                      "broker keeps the messages, and counts this client as lost when it is not "
                      "heard for this many seconds")
          ->check(CLI::Range(1, 65535));
  command
      .add_option("--awake-every", awake_every_s_,
                  "Wake up after this many seconds of sleep and fetch the messages (default: "
                  "three quarters of --sleep)")
      ->check(seconds_range)
      ->needs(sleep);
  auto* count = command.add_option("-C,--count", count_, "End after this many printed messages")
                    ->check(CLI::PositiveNumber);
  auto* timeout =
      command.add_option("-W,--timeout", timeout_s_, "End after this many seconds with status 27")
          ->check(seconds_range);
  command.add_flag("-E", end_, "End as soon as all subscriptions are made; with --sleep, asleep")
      ->excludes(count)
      ->excludes(timeout);
}

void arguments::add_rr(CLI::App& app) {
  rr_ = app.add_subcommand("rr", "Publish a request, wait for one response and print it");
  add_common(*rr_);
  add_topics(*rr_, false);
  add_message(*rr_, false);
  rr_->add_option("-e,--response-topic", response_topic_,
                  "Topic or filter on which the response comes. MQTT-SN has no place for it in "
                  "the request, so the responder has to know it, from an agreement or from the "
                  "request's text")
      ->required();
  rr_->add_option("-q,--qos", qos_, "Quality of service of request and response: 0, 1 or 2")
      ->check(CLI::Range(0, 2))
      ->capture_default_str();
  rr_->add_flag("-r,--retain", retain_, "Ask the broker to retain the request");
  rr_->add_option("-W,--timeout", rr_timeout_s_,
                  "Seconds to wait for the response; then the program ends with status 27")
      ->check(seconds_range)
      ->capture_default_str();
  add_output(*rr_);
  rr_->footer(
      "The subscription is made before the request is published. A retained message on the\n"
      "response topic is an old one and counts as no response.\n\n"
      "Example:\n"
      "  chainring-client rr -h 192.0.2.1 -q 1 -t calc/request -e calc/response/7 -m '7 6*7'");
}

int arguments::run() const {
  if (pub_->parsed()) return run_pub(checked_pub());
  if (sub_->parsed()) return run_sub(checked_sub());
  return run_rr(checked_rr());
}

} // namespace chainring::client
