// SPDX-License-Identifier: BSD-3-Clause
/// What the commands have in common: complaints, the message to send, signals, and a session that
/// is begun again when the broker ends it.
#pragma once
#include <functional>
#include <string>

#include "options.h"

namespace chainring::client {

/// The name of a command, and whether it says anything on standard error.
struct command {
  const char* name;
  bool quiet;

  /// Prints a sentence on standard error, such as "chainring-client sub: ...".
  void say(const std::string& sentence) const;
  /// Like say(); returns exit_failed.
  int complain(const std::string& why) const;
};

/// Reads the message to publish, from a file or from standard input where the source says so.
/// `kind::lines` is read by the caller.
status load(const message_source& source, std::string& text);

/// Opens a descriptor that becomes readable on SIGINT and SIGTERM, so that the client can end its
/// session properly before it exits. Returns -1 when that fails.
int open_stop_fd();

/// Connects and calls `prepare`, and does both again when the broker ends the session in between.
/// `with_pause` waits before the first attempt, so that a broker that ends every session at once is
/// not flooded.
status begin(client& c, const client_options& options, bool with_pause,
             const std::function<status()>& prepare);

/// Subscribes and warns when the broker grants a lower QoS than asked for.
status subscribe_to(client& c, const topic& filter, mqttsn::qos_level qos, const command& from);

} // namespace chainring::client
