// SPDX-License-Identifier: BSD-3-Clause
/// The command line's options, after they have been checked, and the commands.
#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "client.h"

namespace chainring::client {

/// The exit statuses of all commands.
inline constexpr int exit_ok = 0, exit_failed = 1, exit_usage = 2,
                     exit_timeout = 27; ///< the status that mosquitto_sub has

/// Where the message to publish comes from.
struct message_source {
  enum class kind { message, lines, file, whole, null } from = kind::message;
  std::string text; ///< the message or the name of the file, depending on `from`
};

/// How received messages are printed.
struct output_options {
  std::string format; ///< see format.h; empty: the payload
  bool verbose = false;
  bool newline = true;
};

struct pub_options {
  client_options client;
  topic to;
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  bool retain = false;
  message_source source;
  unsigned long repeat = 1; ///< how often to publish the message
  std::chrono::milliseconds repeat_delay{0};
};

/// How to sleep between two looks at the broker (section 6.14 of the specification).
struct sleep_options {
  std::uint16_t duration_s = 0; ///< the broker counts the client as lost after this time
  std::chrono::milliseconds awake_every{0};
};

struct sub_options {
  client_options client;
  std::vector<topic> filters;
  std::vector<topic> unsubscribe;
  std::vector<std::string> filters_out; ///< messages to these topics are not printed
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  unsigned long count = 0; ///< how many messages to print before the end; 0 means no limit
  std::optional<std::chrono::milliseconds> timeout;
  std::optional<sleep_options> sleep;
  enum class retained_messages { all, none, only } retained = retained_messages::all;
  bool remove_retained = false; ///< clear the retained message of each topic that has one
  bool end_when_subscribed = false;
  output_options output;
};

struct rr_options {
  client_options client;
  topic request, response;
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  bool retain = false;
  message_source source;
  std::chrono::milliseconds timeout{60'000};
  output_options output;
};

/// Each function returns the exit status. When it is not 0, standard error has said why.
int run_pub(const pub_options& options);
int run_sub(const sub_options& options);
int run_rr(const rr_options& options);

} // namespace chainring::client
