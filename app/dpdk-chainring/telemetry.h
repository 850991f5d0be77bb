// SPDX-License-Identifier: BSD-3-Clause
/// The telemetry commands /chainring/..., which dpdk-telemetry.py calls.
#pragma once
#include "service.h"

namespace chainring::app {

/// Registers the commands. The service must live until unregister_telemetry(), after which the
/// queries fail.
void register_telemetry(service& s);
void unregister_telemetry();

} // namespace chainring::app
