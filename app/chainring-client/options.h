// SPDX-License-Identifier: BSD-3-Clause
/// What the command line says, after it has been checked.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "client.h"

namespace chainring::client {

/// Exit statuses.
inline constexpr int exit_ok = 0, exit_failed = 1, exit_usage = 2,
                     exit_timeout = 27; ///< as mosquitto_sub

struct pub_options {
  client_options client;
  topic to;
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  bool retain = false;
  enum class source { message, lines, file, whole, null } from = source::message;
  std::string text; ///< the message, or the file's name
};

struct sub_options {
  client_options client;
  std::vector<topic> filters;
  mqttsn::qos_level qos = mqttsn::qos_level::zero;
  unsigned long count = 0; ///< messages after which to end; 0: never
  std::optional<std::chrono::milliseconds> timeout;
  bool verbose = false;
  bool newline = true;
};

/// Each returns the exit status, and has said on standard error why it is not 0.
int run_pub(const pub_options& options);
int run_sub(const sub_options& options);

} // namespace chainring::client
