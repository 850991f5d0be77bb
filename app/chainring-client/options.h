// SPDX-License-Identifier: BSD-3-Clause
/// The command line's options, after they have been checked.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "client.h"

namespace chainring::client {

/// The exit statuses of both commands.
inline constexpr int exit_ok = 0, exit_failed = 1, exit_usage = 2,
                     exit_timeout = 27; ///< the status that mosquitto_sub has

struct pub_options {
  client_options client;
  topic to;
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  bool retain = false;
  enum class source { message, lines, file, whole, null } from = source::message;
  std::string text; ///< the message or the name of the file, depending on `from`
};

struct sub_options {
  client_options client;
  std::vector<topic> filters;
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  unsigned long count = 0; ///< how many messages to print before the end; 0 means no limit
  std::optional<std::chrono::milliseconds> timeout;
  bool verbose = false;
  bool newline = true;
};

/// Each function returns the exit status. When it is not 0, standard error has said why.
int run_pub(const pub_options& options);
int run_sub(const sub_options& options);

} // namespace chainring::client
