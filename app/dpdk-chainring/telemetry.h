// SPDX-License-Identifier: BSD-3-Clause
/// /chainring/... for dpdk-telemetry.py.
#pragma once
#include "service.h"

namespace chainring::app {

/// The service must live until unregister_telemetry(), after which queries answer with nothing.
void register_telemetry(service& s);
void unregister_telemetry();

} // namespace chainring::app
