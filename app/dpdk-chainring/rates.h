// SPDX-License-Identifier: BSD-3-Clause
/// What the counters gain in a second.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>

#include "broker/broker.h"
#include "mqttsn/gateway.h"

namespace chainring::app {

/// Thread-safety: any thread may make any call.
class rates {
 public:
  /// Reads the counters, unless they were read less than a second ago. Call it now and then.
  void sample(const broker& core, const mqttsn::gateway& gateway);
  /// Calls fn(name, per second) for each counter, over the time between the last two readings. The
  /// counters must have been read twice; false says that they have not.
  bool for_each(const std::function<void(const char*, double)>& fn) const;

 private:
  struct point {
    std::uint64_t tsc = 0; ///< 0: the counters were not read yet
    broker_counters core{};
    mqttsn::gateway_counters gateway{};
  };
  mutable std::mutex lock_;
  point before_, last_;
};

} // namespace chainring::app
