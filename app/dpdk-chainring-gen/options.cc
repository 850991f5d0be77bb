// SPDX-License-Identifier: BSD-3-Clause
#include "options.h"

#include <charconv>
#include <CLI/CLI.hpp>

#include "common/parse.h"
#include "net/port.h"
#include "stream/tcp.h"

namespace chainring::gen {

namespace {

constexpr std::uint32_t clients_max = 1'000'000;
/// A short topic name (QoS -1) consists of two characters out of 62.
constexpr std::uint32_t short_topics_max = 62 * 62;
constexpr std::uint32_t publish_overhead = net::udp_ip_overhead + 9;
constexpr double seconds_max = 1e9;

std::string text_of(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", v);
  return text;
}

CLI::Validator range(double low, double high) {
  const std::string expected = text_of(low) + " to " + text_of(high);
  return CLI::Validator(
      [=](std::string& text) {
        double value = 0;
        const char* end = text.data() + text.size();
        const auto read = std::from_chars(text.data(), end, value);
        const bool fits =
            read.ec == std::errc() && read.ptr == end && value >= low && value <= high;
        return fits ? std::string() : "'" + text + "': expected " + expected;
      },
      expected);
}

template <class T>
CLI::Option* number(CLI::App& a, const char* name, T& to, double low, double high,
                    const char* text) {
  return a.add_option(name, to, text)->check(range(low, high))->capture_default_str();
}

void refuse(const char* argument, const std::string& why) {
  throw CLI::ValidationError(argument, why);
}

std::uint64_t digits(const char* argument, const std::string& text, const std::string& expected) {
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos)
    refuse(argument, "'" + text + "': expected " + expected);
  return std::stoull(text);
}

void parse_payload(const std::string& text, std::uint32_t mtu, shape& s) {
  const std::uint32_t most = mtu - publish_overhead;
  const std::string expected = "a number of octets or a range MIN-MAX, from " +
                               std::to_string(payload_size_min) + " to " + std::to_string(most) +
                               " (--mtu " + std::to_string(mtu) + ")";
  const std::size_t dash = text.find('-');
  const auto low = digits("--payload", text.substr(0, dash), expected);
  const auto high =
      dash == std::string::npos ? low : digits("--payload", text.substr(dash + 1), expected);
  if (low < payload_size_min || high > most || low > high)
    refuse("--payload", "'" + text + "': expected " + expected);
  s.payload_min = static_cast<std::uint32_t>(low);
  s.payload_max = static_cast<std::uint32_t>(high);
}

void parse_broker(const std::string& text, options& o) {
  net::endpoint& to = o.broker;
  const std::size_t colon = text.find(':');
  auto address = net::parse_ipv4(text.substr(0, colon));
  if (!address) refuse("--broker", address.error().message);
  to.address = *address;
  to.port = o.protocol == protocol::mqtt_sn ? 10000 : o.tls_ca.empty() ? 1883 : 8883;
  if (colon == std::string::npos) return;
  const auto port = digits("--broker", text.substr(colon + 1), "a port from 1 to 65535");
  if (port < 1 || port > 65535)
    refuse("--broker", "port " + text.substr(colon + 1) + ": expected 1 to 65535");
  to.port = static_cast<std::uint16_t>(port);
}

const char* const footer =
    "The exit status is 0 when the contract held: every acknowledged message reached every\n"
    "subscriber of its topic, whole, and no unknown message came. It is 1 when the contract is\n"
    "broken: messages were lost, corrupted, delivered twice at QoS 2, or delivered to some of\n"
    "their subscribers only. It is 2 when arguments are wrong, or the port or a file failed. It\n"
    "is 3 when the verdict is not known: the broker did not answer, or went away before\n"
    "everything was delivered.\n"
    "The first SIGINT or SIGTERM ends publishing; the second ends the wait for deliveries.";

/// Checks arguments that depend on each other.
void check_together(const options& o, bool fan_out, bool subscribers) {
  const shape& s = o.shape;
  const bool sn = o.protocol == protocol::mqtt_sn;
  if (s.qos == (sn ? 2 : -1))
    refuse("--qos", std::string("the generator does not publish at QoS ") + std::to_string(s.qos) +
                        " of this protocol; expected " + (sn ? "-1, 0 or 1" : "0, 1 or 2"));
  if (sn && !o.tls_ca.empty())
    refuse("--tls-ca", "MQTT-SN has no TLS; give --protocol mqtt or mqtt5");
  if (!sn && !stream::tcp_available())
    refuse("--protocol", "this program was built without TCP; run .ci/install, which brings the "
                         "sources of lwIP, and build again");
  if (fan_out && (subscribers || s.wildcard))
    refuse("--fan-out", "it sets the number of subscribers; give it without --subscribers and "
                        "without --wildcard");
  if (o.crossing.share >= 0) {
    if (o.crossing.workers == 0 || o.crossing.home_seed == 0)
      refuse("--crossing", "homes follow from the broker's workers and seed; give --broker-workers "
                           "and the --home-seed with which the broker was started");
    if (o.crossing.share > 0 && o.crossing.workers == 1)
      refuse("--crossing", "with --broker-workers 1 nothing crosses; expected 0");
    if (s.wildcard)
      refuse("--crossing", "a subscriber to all topics has no home of its publishers; give it "
                           "without --wildcard");
    if (!o.ledger_path.empty())
      refuse("--crossing", "a ledger does not keep the client ids; give it without --ledger");
  }
  if (s.qos == -1 && s.topics > short_topics_max)
    refuse("--topics", "at QoS -1 topics have two characters; expected 1 to " +
                           std::to_string(short_topics_max));
  if (s.prefix.empty() || s.prefix.size() > 10 ||
      s.prefix.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."
                                 "-") != std::string::npos)
    refuse("--prefix", "'" + s.prefix + "': expected 1 to 10 letters, digits, '_', '.' or '-'");
  if (s.publishers + s.subscribers == 0)
    refuse("--publishers", "there are no clients; give --publishers or --subscribers");
  if (o.phase != phase::all && s.clean)
    refuse("--clean", "the broker deletes clean sessions between phases; expected --phase all");
  if (o.phase == phase::collect && !o.resume)
    refuse("--phase", "collect continues from a ledger; add --resume");
  if (o.phase != phase::all && o.ledger_path.empty())
    refuse("--phase", "all phases except 'all' continue from a ledger; add --ledger FILE");
  if (o.resume && o.ledger_path.empty())
    refuse("--resume", "the ledger to resume from is missing; add --ledger FILE");
  if (o.source_port + o.source_ports - 1 > 65535)
    refuse("--source-ports", "the ports start at " + std::to_string(o.source_port) +
                                 "; expected 1 to " + std::to_string(65536 - o.source_port));
}

} // namespace

app::parsed parse(int argc, char** argv, options& o) {
  CLI::App a{
      "Emulate MQTT-SN or MQTT clients on a DPDK port, and judge the broker by what it delivers.\n"
      "Usage: dpdk-chainring-gen [EAL arguments] -- [arguments below]"};
  a.name("dpdk-chainring-gen [EAL arguments] --");
  a.footer(footer);
  a.set_version_flag("--version", "dpdk-chainring-gen " CHAINRING_VERSION);
  std::string broker, address, gateway, payload = "64", phase_text = "all", idle = "yield",
                                        spoken = "mqtt-sn";
  std::uint32_t fan_out = 0;
  shape& s = o.shape;

  a.add_option(
       "--broker", broker,
       "The broker's IPv4 address and, unless it is 10000 for MQTT-SN, 1883 for MQTT or 8883 for "
       "MQTT by TLS, its port")
      ->required();
  a.add_option(
       "--protocol", spoken,
       "What the clients speak: mqtt-sn over UDP; mqtt (version 3.1.1) or mqtt5 (5.0) over TCP")
      ->check(CLI::IsMember({"mqtt-sn", "mqtt", "mqtt5"}))
      ->capture_default_str();
  a.add_option("--tls-ca", o.tls_ca,
               "Speak MQTT by TLS: PEM file of the authorities that the broker's certificate must "
               "lead to")
      ->check(CLI::ExistingFile);
  a.add_option("--address", address,
               "First IPv4 address of the clients, with its prefix length, such as 192.0.2.100/24")
      ->required();
  a.add_option("--gateway", gateway, "Address of the next hop to a broker that is not on the link");
  number(a, "--port", o.port_id, 0, 1023, "Number of the DPDK port");
  number(a, "--source-port", o.source_port, 1, 65535,
         "Source port of the first client of each address");
  number(a, "--source-ports", o.source_ports, 1, 65535,
         "Number of clients per address; further clients use the next address");
  number(a, "--mtu", o.mtu, 576, 9000, "Largest IP packet in octets");
  a.add_flag("--partial-checksums", o.partial_checksums,
             "Accept UDP datagrams whose checksum a veth or bridge peer left to the hardware");

  auto* publishers =
      number(a, "-p,--publishers", s.publishers, 0, clients_max, "Number of publishers");
  auto* subscribers =
      number(a, "-s,--subscribers", s.subscribers, 0, clients_max, "Number of subscribers");
  auto* topics = number(a, "-t,--topics", s.topics, 1, clients_max,
                        "Number of topics; client number N uses topic N % TOPICS");
  auto* fan = number(a, "--fan-out", fan_out, 1, clients_max,
                     "Number of subscribers per topic, instead of --subscribers");
  auto* wildcard =
      a.add_flag("--wildcard", s.wildcard, "Every subscriber subscribes to all topics");
  auto* clean = a.add_flag("--clean", s.clean, "Use clean sessions instead of durable ones");
  auto* qos = number(a, "-q,--qos", s.qos, -1, 2, "QoS of messages and subscriptions");
  auto* sizes = a.add_option("--payload", payload, "Size of a message in octets: SIZE or MIN-MAX")
                    ->capture_default_str();
  auto* seed = a.add_option("--seed", s.seed, "Seed from which the sizes of the messages follow")
                   ->capture_default_str();
  auto* prefix =
      a.add_option("--prefix", s.prefix, "How client ids and topics begin")->capture_default_str();

  a.add_option(
       "--crossing", o.crossing.share,
       "Share of the subscribers that another worker of the broker serves than their publishers; "
       "the client ids are chosen for it. It needs --broker-workers and --home-seed")
      ->check(range(0, 1));
  number(a, "--broker-workers", o.crossing.workers, 0, 64, "Worker lcores of the broker");
  number(a, "--home-seed", o.crossing.home_seed, 0, 1e15, "The --home-seed of the broker");
  a.add_option("--phase", phase_text,
               "all, or subscribe, publish and collect in turn, each with --ledger")
      ->check(CLI::IsMember({"all", "subscribe", "publish", "collect"}))
      ->capture_default_str();
  number(a, "-r,--rate", o.rate, 0, 1e9,
         "Messages per second of all publishers together; 0 means as fast as possible");
  number(a, "-n,--count", o.count, 0, 1e12, "Number of messages in all; 0 means no limit");
  number(a, "--duration", o.duration_s, 0, seconds_max, "Seconds to publish; 0 means no limit");
  number(a, "--drain-timeout", o.drain_timeout_s, 0.1, seconds_max,
         "Seconds without progress before giving up; choose more than the broker's retry interval");
  number(a, "--retry-interval", o.retry_interval_s, 0.01, 3600,
         "Seconds before a message is sent again, and between pings");
  number(a, "--connection-timeout", o.connection_timeout_s, 0.1, 3600,
         "Seconds without a word from the broker, which was pinged, after which a client of MQTT "
         "begins another connection");
  number(a, "--report-interval", o.report_interval_s, 0.1, seconds_max, "Seconds between reports");
  number(a, "--window", o.window, 0, 1e9,
         "Messages that a publisher may have undelivered; 0 means as many as --count needs");
  a.add_option("--ledger", o.ledger_path,
               "File for the ledger, which is written at each report and at the end");
  a.add_flag("--resume", o.resume,
             "Continue from the ledger; the messages that it owes are expected");
  a.add_flag("--json", o.json, "Print the final report also as one line of JSON");
  a.add_option("--idle", idle, "What the loop does when it has no work: poll, yield or sleep")
      ->check(CLI::IsMember({"poll", "yield", "sleep"}))
      ->capture_default_str();

  const auto check = [&] {
    o.protocol = spoken == "mqtt-sn" ? protocol::mqtt_sn
                 : spoken == "mqtt"  ? protocol::mqtt_3_1_1
                                     : protocol::mqtt_5;
    parse_broker(broker, o);
    auto own = net::parse_ipv4_prefix(address);
    if (!own) refuse("--address", own.error().message);
    o.address = *own;
    if (!gateway.empty()) {
      auto hop = net::parse_ipv4(gateway);
      if (!hop) refuse("--gateway", hop.error().message);
      o.gateway = *hop;
    }
    parse_payload(payload, o.mtu, s);
    o.phase = phase_text == "all"         ? phase::all
              : phase_text == "subscribe" ? phase::subscribe
              : phase_text == "publish"   ? phase::publish
                                          : phase::collect;
    check_together(o, fan->count() != 0, subscribers->count() != 0);
    if (fan->count() != 0) {
      const std::uint64_t n = std::uint64_t{fan_out} * s.topics;
      if (n > clients_max)
        refuse("--fan-out", "it makes " + std::to_string(n) + " subscribers; expected at most " +
                                std::to_string(clients_max));
      s.subscribers = static_cast<std::uint32_t>(n);
    }
    if (o.protocol != protocol::mqtt_sn && o.clients() > o.source_ports)
      refuse("--protocol",
             "clients of MQTT have one address, so there are at most --source-ports (" +
                 std::to_string(o.source_ports) + ") of them, and not " +
                 std::to_string(o.clients()));
  };
  if (const app::parsed p = app::parse_arguments(a, argc, argv, check); !p.run) return p;
  o.idle = parse_idle_mode(idle).value();
  const auto note = [&](const CLI::Option* option, const char* name) {
    if (option->count() != 0) o.given.insert(name);
  };
  note(publishers, "--publishers");
  note(subscribers, "--subscribers");
  note(topics, "--topics");
  note(fan, "--fan-out");
  note(wildcard, "--wildcard");
  note(clean, "--clean");
  note(qos, "--qos");
  note(sizes, "--payload");
  note(seed, "--seed");
  note(prefix, "--prefix");
  return {true, 0};
}

result<void> adopt_shape(options& o, const shape& of) {
  const shape& s = o.shape;
  const auto differs = [&](const char* name) -> bool {
    const std::string n = name;
    if (n == "--publishers") return s.publishers != of.publishers;
    if (n == "--subscribers" || n == "--fan-out") return s.subscribers != of.subscribers;
    if (n == "--topics") return s.topics != of.topics;
    if (n == "--wildcard") return s.wildcard != of.wildcard;
    if (n == "--clean") return s.clean != of.clean;
    if (n == "--qos") return s.qos != of.qos;
    if (n == "--payload") return s.payload_min != of.payload_min || s.payload_max != of.payload_max;
    if (n == "--seed") return s.seed != of.seed;
    return s.prefix != of.prefix;
  };
  for (const std::string& name : o.given)
    if (differs(name.c_str()))
      return error{
          errc::invalid_argument,
          name + ": the ledger " + o.ledger_path +
              " was begun with another value; leave the argument out, or begin another ledger"};
  if (of.payload_max + publish_overhead > o.mtu)
    return error{errc::invalid_argument,
                 "--mtu " + std::to_string(o.mtu) + ": messages of the ledger have up to " +
                     std::to_string(of.payload_max) + " octets of payload; expected " +
                     std::to_string(of.payload_max + publish_overhead) + " or more"};
  o.shape = of;
  return {};
}

} // namespace chainring::gen
