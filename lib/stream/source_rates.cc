// SPDX-License-Identifier: BSD-3-Clause
#include "stream/source_rates.h"

#include <algorithm>
#include <bit>

namespace chainring::stream {

source_rates::source_rates(std::uint32_t rate, std::uint64_t tsc_hz, const hash_key& key,
                           std::uint32_t hosts)
    : rate_(rate), per_tsc_(static_cast<double>(rate) / static_cast<double>(tsc_hz)), key_(key),
      buckets_(rate == 0 ? 0 : std::bit_ceil(std::max<std::size_t>(hosts, ways))) {}

void source_rates::fill(bucket& b, std::uint64_t now_tsc) const noexcept {
  if (now_tsc <= b.filled_tsc) return;
  b.tokens = std::min(rate_, b.tokens + static_cast<double>(now_tsc - b.filled_tsc) * per_tsc_);
  b.filled_tsc = now_tsc;
}

std::size_t source_rates::set_of(std::uint64_t host) const noexcept {
  return keyed_hash(key_, &host, sizeof host) % (buckets_.size() / ways) * ways;
}

bool source_rates::allows(const net::ip_address& from, std::uint64_t now_tsc) noexcept {
  if (buckets_.empty()) return true;
  const std::uint64_t host = net::host_of(from);
  const std::size_t set = set_of(host);
  for (std::size_t i = set; i < set + ways; ++i) {
    bucket& b = buckets_[i];
    if (!b.used || b.host != host) continue;
    fill(b, now_tsc);
    return b.tokens >= 1;
  }
  return true;
}

bool source_rates::take(const net::ip_address& from, std::uint64_t now_tsc) noexcept {
  if (buckets_.empty()) return true;
  const std::uint64_t host = net::host_of(from);
  const std::size_t set = set_of(host);
  std::size_t place = set;
  double most = -1;
  for (std::size_t i = set; i < set + ways; ++i) {
    bucket& b = buckets_[i];
    if (b.used && b.host == host) {
      fill(b, now_tsc);
      if (b.tokens < 1) return false;
      b.tokens -= 1;
      return true;
    }
    if (b.used) fill(b, now_tsc);
    const double has = b.used ? b.tokens : rate_ + 1; // a place that is empty comes first
    if (has > most) {
      most = has;
      place = i;
    }
  }
  if (most < rate_) ++forgotten_;
  buckets_[place] = {host, now_tsc, rate_ - 1, true};
  return true;
}

} // namespace chainring::stream
