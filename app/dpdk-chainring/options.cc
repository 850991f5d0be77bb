// SPDX-License-Identifier: BSD-3-Clause
#include "options.h"

#include <algorithm>
#include <cstdio>
#include <sched.h>

#include "common/checks.h"
#include "common/parse.h"
#include "common/stream.h"
#include "listeners.h"
#include "net/port.h"

namespace chainring::app {

namespace {

// A journal has at least this size, and the region of a broker is never smaller.
constexpr std::uint64_t size_min = 1u << 20;

/// Parses --address6 and --gateway6.
void parse_ipv6_ports(const std::vector<std::string>& addresses,
                      const std::vector<std::string>& gateways, options& o) {
  for (const std::string& text : addresses) {
    if (text.find('/') == std::string::npos)
      throw CLI::ValidationError("--address6",
                                 "'" + text +
                                     "': expected the address with the prefix length of the link, "
                                     "such as " +
                                     text + "/64");
    auto address = net::parse_ipv6_prefix(text);
    if (!address) throw CLI::ValidationError("--address6", address.error().message);
    o.addresses6.push_back(*address);
  }
  for (const std::string& text : gateways) {
    auto gateway = net::parse_ipv6(text);
    if (!gateway) throw CLI::ValidationError("--gateway6", gateway.error().message);
    o.gateways6.push_back(*gateway);
  }
  if (!gateways.empty() && gateways.size() != addresses.size())
    throw CLI::ValidationError("--gateway6", "expected one for each --address6; give :: for none");
}

/// Parses one --multicast. There may be one group of each family.
void parse_group(const std::string& text, options& o) {
  const bool ipv6 = text.find(':') != std::string::npos;
  const auto refuse = [&](const std::string& why) {
    throw CLI::ValidationError("--multicast", "'" + text + "': " + why);
  };
  if (!ipv6) {
    auto group = net::parse_ipv4(text);
    if (!group) throw CLI::ValidationError("--multicast", group.error().message);
    if (!net::is_multicast(*group)) refuse("expected 224.0.0.2 to 239.255.255.255");
    if (o.multicast != 0) refuse("there is an IPv4 group already");
    o.multicast = *group;
    return;
  }
  auto group = net::parse_ipv6(text);
  if (!group) throw CLI::ValidationError("--multicast", group.error().message);
  if (!net::is_multicast(*group)) refuse("expected ff00::/8");
  if (o.addresses6.empty()) refuse("an IPv6 group needs --address6");
  if (o.multicast6 != net::ip_address{}) refuse("there is an IPv6 group already");
  o.multicast6 = *group;
}

} // namespace

parsed parse(int argc, char** argv, options& o) {
  CLI::App a{"Durable broker for MQTT-SN 1.2 and MQTT 3.1.1 on DPDK.\n"
             "The EAL arguments choose lcores, memory and ports (see --help before the --)."};
  a.name("dpdk-chainring [EAL arguments] --");
  a.set_version_flag("--version", "dpdk-chainring " CHAINRING_VERSION);
  a.set_config(
       "--config", "",
       "Read arguments from this file, in lines KEY = VALUE; a key is an argument without its --")
      ->check(CLI::ExistingFile);
  a.allow_config_extras(false);
  std::string idle = "yield", overflow = "reject", overflow_clean;
  std::vector<std::string> addresses, gateways, addresses6, gateways6, levels;
  std::uint32_t retry_s = 10;

  a.add_option("--region", o.region,
               "The region's file or device; the broker creates a missing file")
      ->required();
  a.add_option("--size", o.size, "Size of the region; a smaller region grows to it [256M]")
      ->transform(size_text(size_min));
  a.add_option("--block-size", o.block_size, "Size of a block in bytes, for a new region")
      ->check(CLI::IsMember({"64", "128", "256", "512", "1024", "2048", "4096"}))
      ->capture_default_str();
  a.add_option(
       "--class", o.durability,
       "Durability class; auto takes the best one that the path allows; emulated is for benchmarks")
      ->check(CLI::IsMember(durability_choices))
      ->capture_default_str();
  a.add_option("--journal-size", o.journal_size,
               "Size of the redo journal, for a new region of class file [that of the region, from "
               "1M to 64M]")
      ->transform(size_text(size_min));
  a.add_option(
       "--journal-cpu", o.journal_cpu,
       "CPU of the threads that write the journal of class file, best one without a polling "
       "lcore; without it every CPU on which the broker was started")
      ->check(CLI::Range(0, CPU_SETSIZE - 1));
  a.add_option("--address", addresses,
               "IPv4 address and prefix length of a port, such as 192.0.2.1/24; once for each "
               "port, in order. With --address6 it may be left out, or be 0.0.0.0/0 for none");
  a.add_option("--gateway", gateways,
               "Address of the next hop off the link, or 0.0.0.0 for none; once for each port");
  a.add_option("--address6", addresses6,
               "IPv6 address and prefix length of a port, such as 2001:db8::1/64, or ::/0 for its "
               "link-local address alone; once for each port, in order");
  a.add_option("--gateway6", gateways6,
               "IPv6 address of the next hop off the link, or :: for none; once for each port");
  a.add_option("--vlan", o.vlans,
               "VLAN of a port, 1 to 4094, or 0 for frames without a tag; once for each port")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{net::vlan_max}, "0 to 4094"));
  CLI::Option* const udp_port = number<std::uint16_t>(
      a, "--udp-port", o.udp_port, 1, 65535, "UDP port at which the broker serves MQTT-SN");
  number<std::uint32_t>(a, "--sys-interval", o.sys_interval_s, 0, 86400,
                        "Seconds between two reports of the broker at its topics $SYS/broker/...; "
                        "0 means none");
  std::vector<std::string> listeners;
  a.add_option(
      "--listen", listeners,
      stream::tcp_available()
          ? "Serve MQTT over TCP too: mqtt:// at port 1883, mqtts:// by TLS at 8883, ws:// "
            "and wss:// in WebSockets at 8080 and 8081 and path /mqtt, or such as "
            "ws://192.0.2.1:80/path; ?max-connections=N and &allow-anonymous=true or =false behind "
            "it "
            "hold for it alone. These need one worker lcore. mqttsn://:PORT names the UDP port of "
            "MQTT-SN as --udp-port does. It may be given several times"
          : "Serve MQTT over TCP too. This program was built without TCP and "
            "refuses it; run .ci/install and build again");
  number<std::uint32_t>(a, "--max-packet", o.mqtt.packet_size_max, 128, 16u << 20,
                        "Longest packet of MQTT over TCP, in octets");
  number<std::uint32_t>(a, "--max-connections", o.mqtt.tcp.connections_max, 1, 1'000'000,
                        "TCP connections at one time");
  number<std::uint32_t>(a, "--max-connections-per-address", o.mqtt.tcp.connections_per_host_max, 1,
                        1'000'000,
                        "TCP connections at one time from one IPv4 address or IPv6 prefix of 64 "
                        "bits");
  number<std::uint32_t>(a, "--max-connection-rate", o.mqtt.tcp.connections_per_second_max, 0,
                        1'000'000,
                        "TCP connections that one IPv4 address or IPv6 prefix of 64 bits may begin "
                        "in a second; 0 means no limit");
  std::vector<std::string> chains, keys;
  std::string clients = "optional", version = "1.2";
  a.add_option("--tls-cert", chains,
               "PEM file of a certificate for mqtts:// and wss://, with those that lead to its "
               "issuer. It may be given several times, for the names that clients ask for; the "
               "first is for all others. SIGHUP and the command 'reload' read it again")
      ->check(CLI::ExistingFile);
  a.add_option("--tls-key", keys,
               "PEM file of its private key, without a passphrase; once for each --tls-cert")
      ->check(CLI::ExistingFile);
  a.add_option("--tls-ca", o.mqtt.tls.trusted,
               "PEM file of the authorities that the certificates of clients must lead to")
      ->check(CLI::ExistingFile);
  const CLI::Option* demand =
      a.add_option("--tls-clients", clients,
                   "Whether a client needs a certificate, with --tls-ca: optional or required")
          ->check(CLI::IsMember({"optional", "required"}))
          ->capture_default_str();
  a.add_option("--tls-crl", o.mqtt.tls.revoked,
               "PEM file of the revocation lists of these authorities. SIGHUP and the command "
               "'reload' read it again")
      ->check(CLI::ExistingFile);
  a.add_option("--psk-file", o.mqtt.tls.keys,
               "File of keys that clients of mqtts:// and wss:// share with the broker, a line "
               "'identity:key in hexadecimal' for each. SIGHUP and the command 'reload' read it "
               "again")
      ->check(CLI::ExistingFile);
  a.add_option("--tls-version", version, "Oldest version of TLS that is spoken: 1.2 or 1.3")
      ->check(CLI::IsMember({"1.2", "1.3"}))
      ->capture_default_str();
  bool anonymous = false;
  a.add_option("--password-file", o.passwords,
               "File of user names and hashed passwords, which dpdk-chainring-passwd or "
               "mosquitto_passwd writes; then MQTT clients over TCP need one of them. SIGHUP and "
               "the command 'reload' read it again")
      ->check(CLI::ExistingFile);
  a.add_flag("--tls-identity-as-user", o.mqtt.certificate_names_user,
             "The common name of a client's certificate, or the identity of its key, is its user "
             "name, and it needs no password");
  const CLI::Option* anyone =
      a.add_flag("--allow-anonymous", anonymous,
                 "Clients of MQTT over TCP need no user name; this is so without --password-file "
                 "and --tls-identity-as-user, unless --allow-anonymous=false is given");
  number<unsigned>(a, "--helper-threads", o.mqtt.helper_threads, 1, 64,
                   "Threads for the handshakes of TLS and the hashes of passwords, on the CPUs of "
                   "the main lcore");
  a.add_option("--websocket-origin", o.mqtt.websocket_origins,
               "Origin from which scripts in browsers may connect by WebSocket, such as "
               "https://example.org; may be given several times. Without it any may");
  const CLI::Option* mtu =
      number<std::uint16_t>(a, "--mtu", o.mtu, 576, 9000, "Largest IP packet in octets");
  number<std::uint16_t>(a, "--max-datagram", o.datagram_max, 0, 65000,
                        "Longest datagram in octets, sent and received in fragments where it is "
                        "longer than a packet; 0 means what fits into a packet");
  a.add_flag("--partial-checksums", o.partial_checksums,
             "Accept datagrams and TCP segments whose checksum a veth or bridge peer left to the "
             "hardware");
  std::uint32_t rx_in_region = 0;
  const CLI::Option* received =
      number<std::uint32_t>(a, "--rx-in-region", rx_in_region, 0, 65535,
                            "Receive into the region, so that payloads of at least so many octets "
                            "become messages at QoS 1 and 2 without a copy; needs a region with "
                            "blocks as long as a frame; without it all are copied")
          ->default_str("");
  std::vector<std::string> groups;
  a.add_option("--multicast", groups,
               "Multicast group that every port joins, such as 225.1.1.1, with --address6 also an "
               "IPv6 one such as ff02::101; clients search for the gateway there");
  const CLI::Option* advertise =
      number<std::uint16_t>(a, "--advertise", o.gateway.advertise_s, 0, 65535,
                            "Seconds between two ADVERTISE messages to the group, 0 for none; 900 "
                            "when --multicast is given");
  a.add_option("--predefined-topics", o.predefined_topics,
               "File of predefined topics, with one ID and NAME on each line")
      ->check(CLI::ExistingFile);
  a.add_flag(
      "--names-at-qos-minus-one", o.gateway.names_at_qos_minus_one,
      "Accept PUBLISH at QoS -1 with a topic name in front of the data, as some clients send");
  a.add_option("--access", o.access,
               "File of access rules, which SIGHUP and the command 'reload' read again; without it "
               "everything is allowed")
      ->check(CLI::ExistingFile);
  number<std::uint32_t>(a, "--max-sessions", o.tables.sessions_max, 1, 4'000'000,
                        "Number of sessions, for a new region");
  number<std::uint32_t>(a, "--max-retained", o.tables.retained_max, 1, 16'000'000,
                        "Number of retained messages, for a new region");
  number<std::uint32_t>(a, "--max-sessions-per-address", o.broker.sessions_per_source_max, 0,
                        4'000'000,
                        "Sessions whose clients connected last from one IPv4 address or one IPv6 "
                        "prefix of 64 bits; 0 means no limit");
  number<std::uint32_t>(a, "--max-subscriptions", o.tables.subscriptions_max, 1, 16'000'000,
                        "Number of subscriptions, for a new region");
  number<std::uint32_t>(a, "--max-messages", o.tables.messages_max, 0, 1'000'000'000,
                        "Number of messages, for a new region; 0 means one for every two blocks");
  number<std::uint32_t>(a, "--queue-size", o.broker.queue_slots, 4, 1 << 20,
                        "Messages that the queue of a session holds at most");
  const CLI::Option* first = number<std::uint32_t>(
      a, "--queue-first", o.broker.queue_slots_first, 0, 1 << 20,
      "Messages that a new queue has room for before it grows; 0 means --queue-size");
  a.add_option("--overflow", overflow,
               "What happens to a message for a full queue: reject, drop-newest or drop-oldest")
      ->check(CLI::IsMember({"reject", "drop-newest", "drop-oldest"}))
      ->capture_default_str();
  number<std::uint64_t>(a, "--queue-bytes", o.broker.queue_bytes, 0, 1'000'000'000'000,
                        "Octets that the messages in the queue of a session can have; 0 means no "
                        "limit");
  number<std::uint32_t>(a, "--queue-size-clean", o.broker.queue_slots_clean, 0, 1 << 20,
                        "The same limit for sessions with CleanSession=1; 0 means --queue-size");
  a.add_option("--overflow-clean", overflow_clean,
               "The same policy for sessions with CleanSession=1; without it --overflow counts")
      ->check(CLI::IsMember({"reject", "drop-newest", "drop-oldest"}));
  number<std::uint32_t>(a, "--retry-interval", retry_s, 1, 3600,
                        "Seconds before the first retransmission");
  number<std::uint32_t>(a, "--max-retries", o.gateway.retries_max, 0, 100,
                        "Retransmissions after which a silent client counts as lost");
  number<std::uint32_t>(
      a, "--requests-per-round", o.gateway.requests_per_round, 0, 1000,
      "Requests such as CONNECT that a worker handles in a round while messages "
      "are under way, so that a flood of requests does not delay messages; the "
      "others wait, or are dropped and counted; 0 means no limit, and 2 is enough");
  number<std::uint32_t>(a, "--max-topics", o.broker.topics_max, 16, 100'000'000,
                        "Topic names that each worker can know at one time");
  number<std::uint32_t>(a, "--max-registrations", o.gateway.registrations_max, 16, 100'000'000,
                        "Topic ids in all sessions of one worker");
  number<std::uint32_t>(a, "--max-registrations-per-session",
                        o.gateway.registrations_per_session_max, 1, 16383,
                        "Topic ids in one session");
  number<std::uint32_t>(a, "--max-subscriptions-per-session",
                        o.broker.subscriptions_per_session_max, 1, 16'000'000,
                        "Subscriptions in one session");
  number<std::uint16_t>(a, "--max-qos2-per-session", o.broker.identifiers_per_session_max, 1, 65535,
                        "QoS 2 messages that one session has published and not released");
  number<std::uint64_t>(a, "--max-retained-bytes", o.broker.retained_bytes_max, 0,
                        1'000'000'000'000,
                        "Octets that the blocks of retained messages can take; 0 means a quarter "
                        "of the region");
  number<std::uint32_t>(a, "--session-expiry", o.broker.session_expiry_s, 0, 4'000'000'000,
                        "Seconds after which a session without a connection ends; 0 means never");
  number<std::uint32_t>(a, "--message-expiry", o.broker.message_expiry_s, 0, 4'000'000'000,
                        "Seconds after which a message that is kept is not delivered any more; 0 "
                        "means never");
  number<std::uint32_t>(
      a, "--will-grace", o.broker.will_grace_s, 0, 86'400,
      "Seconds for which the will of a client that was connected waits for it after a restart");
  number<std::uint32_t>(a, "--max-qos0", o.broker.volatile_messages_max, 16, 10'000'000,
                        "QoS 0 messages that can be under way at one time");
  number<std::uint64_t>(a, "--home-seed", o.broker.home_seed, 0, 1'000'000'000'000'000,
                        "Seed by which clients are spread over the workers, for measurements; 0 "
                        "draws a secret one, so that no client can choose its worker");
  std::uint32_t gateway_id = o.gateway.gateway_id; // CLI11 reads an 8-bit number as a character
  number<std::uint32_t>(a, "--gateway-id", gateway_id, 1, 255, "Gateway id that GWINFO carries");
  number<std::uint32_t>(a, "--max-nodes", o.gateway.nodes_max, 1, 1 << 20,
                        "Wireless nodes that can be served behind forwarders");
  number<std::uint32_t>(a, "--max-nodes-per-forwarder", o.gateway.nodes_per_forwarder_max, 1, 65535,
                        "Wireless nodes that can be served behind one forwarder");
  a.add_option(
       "--idle", idle,
       "What a worker without work does: poll (only with one thread per CPU), yield or sleep")
      ->check(CLI::IsMember({"poll", "yield", "sleep"}))
      ->capture_default_str();
  a.add_option(
      "--log-file", o.log_file,
      "Append the log to this file instead of standard error; SIGHUP opens the file again");
  a.add_option(
      "--log-level", levels,
      "Log from this level on, such as debug or chainring.*:debug; may be given several times");
  a.add_flag("-i,--interactive", o.interactive,
             "Show a prompt on standard input; its command 'help' lists the others");

  const auto check = [&] {
    for (const std::string& text : addresses) {
      if (text.find('/') == std::string::npos)
        throw CLI::ValidationError("--address",
                                   "'" + text +
                                       "': expected the address with the prefix length "
                                       "of the link, such as " +
                                       text + "/24");
      auto address = net::parse_ipv4_prefix(text);
      if (!address) throw CLI::ValidationError("--address", address.error().message);
      o.addresses.push_back(*address);
    }
    parse_ipv6_ports(addresses6, gateways6, o);
    for (const std::string& group : groups)
      parse_group(group, o);
    if (!groups.empty()) {
      if (advertise->count() == 0) o.gateway.advertise_s = 900;
    } else if (o.gateway.advertise_s != 0) {
      throw CLI::ValidationError("--advertise",
                                 "expected --multicast with a group to advertise to");
    }
    for (const std::string& text : gateways) {
      auto gateway = net::parse_ipv4(text);
      if (!gateway) throw CLI::ValidationError("--gateway", gateway.error().message);
      o.gateways.push_back(*gateway);
    }
    if (o.addresses.empty() && o.addresses6.empty()) throw CLI::RequiredError("--address");
    if (o.addresses.empty()) o.addresses.resize(o.addresses6.size()); // without IPv4
    if (!o.addresses6.empty() && o.addresses6.size() != o.addresses.size())
      throw CLI::ValidationError("--address6",
                                 "expected one for each --address; give ::/0 for a port that has "
                                 "a link-local address only");
    for (const net::ipv4_prefix& address : o.addresses)
      if (address.address == 0 && o.addresses6.empty())
        throw CLI::ValidationError("--address", "0.0.0.0: expected an address, or --address6");
    if (!o.vlans.empty() && o.vlans.size() != o.addresses.size())
      throw CLI::ValidationError("--vlan", "expected one for each port; give 0 for none");
    o.mqtt.listeners.clear();
    bool of_mqtt_sn = udp_port->count() != 0;
    for (const std::string& text : listeners) {
      if (is_of_mqtt_sn(text)) {
        auto port = parse_mqtt_sn_listener(text);
        if (!port) throw CLI::ValidationError("--listen", port.error().message);
        if (std::exchange(of_mqtt_sn, true))
          throw CLI::ValidationError("--listen", "'" + text +
                                                     "': MQTT-SN is served at one port; expected "
                                                     "one mqttsn:// and no --udp-port beside it");
        o.udp_port = *port;
        continue;
      }
      auto l = parse_listener(text);
      if (!l) throw CLI::ValidationError("--listen", l.error().message);
      if (std::ranges::find(o.mqtt.listeners, l->port, &mqtt::listener_config::port) !=
          o.mqtt.listeners.end())
        throw CLI::ValidationError("--listen", "'" + text +
                                                   "': the port is listened to already; expected "
                                                   "another one");
      const auto is_own = [&](const auto& own) { return own.address == *l->address; };
      if (l->address &&
          std::ranges::none_of(o.addresses,
                               [&](const net::ipv4_prefix& own) {
                                 return net::ip_address(own.address) == *l->address;
                               }) &&
          std::ranges::none_of(o.addresses6, is_own))
        throw CLI::ValidationError("--listen", "'" + text +
                                                   "': expected an address of --address or "
                                                   "--address6, or none for all of them");
      o.mqtt.listeners.push_back(std::move(*l));
    }
    if (chains.size() != keys.size())
      throw CLI::ValidationError("--tls-key", "expected one for each --tls-cert");
    for (std::size_t i = 0; i < chains.size(); ++i)
      o.mqtt.tls.certificates.push_back({chains[i], keys[i]});
    if (chains.empty() && o.mqtt.tls.keys.empty() &&
        std::ranges::any_of(o.mqtt.listeners, &mqtt::listener_config::tls))
      throw CLI::ValidationError("--listen",
                                 "mqtts:// and wss:// need a certificate or shared keys: expected "
                                 "--tls-cert and --tls-key, or --psk-file");
    if (o.mqtt.tls.trusted.empty() && demand->count() != 0)
      throw CLI::ValidationError("--tls-clients", "expected --tls-ca with the authorities");
    if (o.mqtt.tls.trusted.empty() && !o.mqtt.tls.revoked.empty())
      throw CLI::ValidationError("--tls-crl", "expected --tls-ca with the authorities");
    if (chains.empty() && !o.mqtt.tls.trusted.empty())
      throw CLI::ValidationError("--tls-ca", "expected --tls-cert and --tls-key");
    if (o.mqtt.certificate_names_user && o.mqtt.tls.trusted.empty() && o.mqtt.tls.keys.empty())
      throw CLI::ValidationError("--tls-identity-as-user",
                                 "expected --tls-ca with the authorities, or --psk-file");
    o.mtu_given = mtu->count() != 0;
    if (received->count() != 0) {
      o.rx_in_region = rx_in_region;
      if (o.broker.queue_bytes != 0)
        throw CLI::ValidationError("--rx-in-region",
                                   "--queue-bytes would count the octets in front of a payload; "
                                   "leave one of the two out");
    }
    if (!gateways.empty() && gateways.size() != addresses.size())
      throw CLI::ValidationError("--gateway",
                                 "expected one for each --address; give 0.0.0.0 for none");
    if (o.broker.queue_slots_first > o.broker.queue_slots) {
      if (first->count() != 0)
        throw CLI::ValidationError(
            "--queue-first", std::to_string(o.broker.queue_slots_first) + ": expected 0 to " +
                                 std::to_string(o.broker.queue_slots) + ", which is --queue-size");
      o.broker.queue_slots_first = o.broker.queue_slots;
    }
    for (const std::string& text : levels) {
      auto level = parse_log_level(text);
      if (!level) throw CLI::ValidationError("--log-level", level.error().message);
      o.log_levels.push_back(*level);
    }
  };
  if (const parsed p = parse_arguments(a, argc, argv, check); !p.run) return p;
  if (!o.mqtt.tls.trusted.empty())
    o.mqtt.tls.clients = clients == "required" ? tls::client_certificates::required
                                               : tls::client_certificates::optional;
  o.mqtt.check_passwords = !o.passwords.empty();
  o.mqtt.allow_anonymous =
      anyone->count() != 0 ? anonymous : !o.mqtt.check_passwords && !o.mqtt.certificate_names_user;
  if (version == "1.3") o.mqtt.tls.version_min = tls::protocol_version::tls_1_3;
  o.idle = parse_idle_mode(idle).value();
  o.gateway.gateway_id = static_cast<std::uint8_t>(gateway_id);
  o.broker.overflow = parse_overflow_policy(overflow).value();
  if (!overflow_clean.empty())
    o.broker.overflow_clean = parse_overflow_policy(overflow_clean).value();
  o.gateway.retry_ms = retry_s * 1000;
  o.gateway.retry_ms_max = o.gateway.retry_ms * 8;
  if (!o.predefined_topics.empty()) {
    auto topics = mqttsn::read_predefined_topics(o.predefined_topics);
    if (!topics) {
      std::fprintf(stderr, "--predefined-topics: %s\n", topics.error().message.c_str());
      return {false, 2};
    }
    o.gateway.predefined = *topics;
  }
  return {true, 0};
}

std::string tls_refusal(const tls::context_options& files, const std::string& why) {
  const char* argument = "--tls-cert";
  for (const auto& [file, name] :
       {std::pair{&files.trusted, "--tls-ca"}, std::pair{&files.revoked, "--tls-crl"},
        std::pair{&files.keys, "--psk-file"}})
    if (!file->empty() && why.starts_with(*file + ":")) argument = name;
  return argument + (": " + why);
}

} // namespace chainring::app
