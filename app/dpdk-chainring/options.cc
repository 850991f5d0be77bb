// SPDX-License-Identifier: BSD-3-Clause
#include "options.h"

#include <cstdio>

#include "common/checks.h"
#include "common/parse.h"
#include "common/stream.h"

namespace chainring::app {

namespace {

constexpr std::uint64_t size_min = 1u << 20; // a journal's least, and no broker's region is smaller

} // namespace

parsed parse(int argc, char** argv, options& o) {
  CLI::App a{"Durable MQTT-SN 1.2 broker on DPDK.\n"
             "The EAL arguments choose lcores, memory and ports (see --help before the --)."};
  a.name("dpdk-chainring [EAL arguments] --");
  a.set_version_flag("--version", "dpdk-chainring " CHAINRING_VERSION);
  a.set_config("--config", "",
               "Read arguments from this file: KEY = VALUE, the keys as here without --")
      ->check(CLI::ExistingFile);
  a.allow_config_extras(false);
  std::string idle = "yield", overflow = "reject";
  std::vector<std::string> addresses, gateways, levels;
  std::uint32_t retry_s = 10;

  a.add_option("--region", o.region, "Region file or device; created when it is not there")
      ->required();
  a.add_option("--size", o.size, "Size of the region: created with, or grown to [256M]")
      ->transform(size_text(size_min));
  a.add_option("--block-size", o.block_size, "Bytes of a block, when creating")
      ->check(CLI::IsMember({"64", "128", "256", "512", "1024", "2048", "4096"}))
      ->capture_default_str();
  a.add_option("--class", o.durability,
               "Durability class: auto, or one to insist on; emulated is for benchmarks")
      ->check(CLI::IsMember(durability_choices))
      ->capture_default_str();
  a.add_option("--journal-size", o.journal_size, "Redo journal of class file, when creating [64M]")
      ->transform(size_text(size_min));
  a.add_option("--address", addresses,
               "Our IPv4 address and prefix length, as 192.0.2.1/24; once a port, in their order")
      ->required();
  a.add_option("--gateway", gateways, "Next hop off the link, or 0.0.0.0; once a port");
  number<std::uint16_t>(a, "--udp-port", o.udp_port, 1, 65535, "UDP port MQTT-SN is served at");
  number<std::uint16_t>(a, "--mtu", o.mtu, 576, 9000, "Largest IP packet, octets");
  a.add_flag("--partial-checksums", o.partial_checksums,
             "Take UDP datagrams whose checksum a veth or bridge peer left to hardware");
  a.add_option("--predefined-topics", o.predefined_topics,
               "File of predefined topics: ID NAME, a line each")
      ->check(CLI::ExistingFile);
  number<std::uint32_t>(a, "--max-sessions", o.tables.sessions_max, 1, 4'000'000,
                        "Sessions, when creating");
  number<std::uint32_t>(a, "--max-subscriptions", o.tables.subscriptions_max, 1, 16'000'000,
                        "Subscriptions, when creating");
  number<std::uint32_t>(a, "--max-messages", o.tables.messages_max, 0, 1'000'000'000,
                        "Messages, when creating; 0: one for every two blocks");
  number<std::uint32_t>(a, "--queue-size", o.broker.queue_slots, 4, 1 << 20,
                        "Messages a session's queue holds at most");
  const CLI::Option* first =
      number<std::uint32_t>(a, "--queue-first", o.broker.queue_slots_first, 0, 1 << 20,
                            "Messages it has room for at first: it grows as it fills; 0: all");
  a.add_option("--overflow", overflow, "What a full queue does: reject, drop-newest, drop-oldest")
      ->check(CLI::IsMember({"reject", "drop-newest", "drop-oldest"}))
      ->capture_default_str();
  number<std::uint32_t>(a, "--retry-interval", retry_s, 1, 3600,
                        "Seconds before the first retransmission");
  number<std::uint32_t>(a, "--max-retries", o.gateway.retries_max, 0, 100,
                        "Retransmissions before a client counts as lost");
  number<std::uint32_t>(a, "--max-topics", o.broker.topics_max, 16, 100'000'000,
                        "Topic names a worker knows at one time");
  number<std::uint32_t>(a, "--max-registrations", o.gateway.registrations_max, 16, 100'000'000,
                        "Topic ids in all of a worker's sessions");
  number<std::uint32_t>(a, "--max-registrations-per-session",
                        o.gateway.registrations_per_session_max, 1, 16383,
                        "Topic ids of one session");
  number<std::uint32_t>(a, "--max-subscriptions-per-session",
                        o.broker.subscriptions_per_session_max, 1, 16'000'000,
                        "Subscriptions of one session");
  number<std::uint32_t>(a, "--session-expiry", o.broker.session_expiry_s, 0, 4'000'000'000,
                        "Seconds after which a session without a connection ends; 0: never");
  number<std::uint32_t>(a, "--max-qos0", o.broker.volatile_messages_max, 16, 10'000'000,
                        "QoS 0 messages on their way at one time");
  std::uint32_t gateway_id = o.gateway.gateway_id; // CLI11 takes 8-bit numbers for characters
  number<std::uint32_t>(a, "--gateway-id", gateway_id, 1, 255, "Id given in GWINFO");
  a.add_option("--idle", idle,
               "What a loop without work does: poll (one thread a CPU only), yield, sleep")
      ->check(CLI::IsMember({"poll", "yield", "sleep"}))
      ->capture_default_str();
  a.add_option("--log-file", o.log_file,
               "Append the log to this file instead of standard error; SIGHUP opens it anew");
  a.add_option("--log-level", levels,
               "Log from this level on, as debug or chainring.*:debug; as often as needed");
  a.add_flag("-i,--interactive", o.interactive,
             "A prompt on standard input; 'help' lists its commands");

  const auto check = [&] {
    for (const std::string& text : addresses) {
      if (text.find('/') == std::string::npos)
        throw CLI::ValidationError("--address",
                                   "'" + text +
                                       "': expected the address with the link's prefix "
                                       "length, as " +
                                       text + "/24");
      auto address = net::parse_ipv4_prefix(text);
      if (!address) throw CLI::ValidationError("--address", address.error().message);
      o.addresses.push_back(*address);
    }
    for (const std::string& text : gateways) {
      auto gateway = net::parse_ipv4(text);
      if (!gateway) throw CLI::ValidationError("--gateway", gateway.error().message);
      o.gateways.push_back(*gateway);
    }
    if (!gateways.empty() && gateways.size() != addresses.size())
      throw CLI::ValidationError("--gateway", "give one for each --address, 0.0.0.0 for none");
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
  o.idle = parse_idle_mode(idle).value();
  o.gateway.gateway_id = static_cast<std::uint8_t>(gateway_id);
  o.broker.overflow = parse_overflow_policy(overflow).value();
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

} // namespace chainring::app
