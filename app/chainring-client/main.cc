// SPDX-License-Identifier: BSD-3-Clause
// chainring-client publishes and subscribes from the command line, over ordinary UDP sockets.
#include "arguments.h"
#include "common/parse.h"
#include "common/start.h"

int main(int argc, char** argv) {
  chainring::app::start_process();
  CLI::App app("MQTT-SN 1.2 client for the command line, over UDP.");
  chainring::client::arguments arguments(app);
  try {
    chainring::app::refuse_unknown(app, argc, argv);
    app.parse(argc, argv);
    return arguments.run();
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? chainring::client::exit_ok : chainring::client::exit_usage;
  }
}
