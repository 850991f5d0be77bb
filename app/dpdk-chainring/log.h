// SPDX-License-Identifier: BSD-3-Clause
/// The log types chainring.*, whose levels --log-level sets.
#pragma once
#include <rte_log.h>

namespace chainring::app {

extern int log_region, log_port, log_broker, log_session;

} // namespace chainring::app

#define CHAINRING_LOG(level, type, format, ...)                                                    \
  rte_log(RTE_LOG_##level, static_cast<std::uint32_t>(::chainring::app::log_##type),               \
          "chainring: " format "\n" __VA_OPT__(, ) __VA_ARGS__)
