// SPDX-License-Identifier: BSD-3-Clause
#include "rates.h"

#include <rte_cycles.h>

namespace chainring::app {

void rates::sample(const broker& core, const mqttsn::gateway& gateway) {
  const std::uint64_t now = rte_rdtsc();
  const std::lock_guard guard(lock_);
  if (last_.tsc != 0 && now - last_.tsc < rte_get_tsc_hz()) return;
  before_ = last_;
  last_ = {now, core.counters(), gateway.counters()};
}

bool rates::for_each(const std::function<void(const char*, double)>& fn) const {
  point from, to;
  {
    const std::lock_guard guard(lock_);
    from = before_;
    to = last_;
  }
  if (from.tsc == 0) return false;
  const double seconds =
      static_cast<double>(to.tsc - from.tsc) / static_cast<double>(rte_get_tsc_hz());
  broker_counters::for_each([&](const char* name, auto member) {
    fn(name, static_cast<double>(to.core.*member - from.core.*member) / seconds);
  });
  mqttsn::gateway_counters::for_each([&](const char* name, auto member) {
    fn(name, static_cast<double>(to.gateway.*member - from.gateway.*member) / seconds);
  });
  return true;
}

} // namespace chainring::app
