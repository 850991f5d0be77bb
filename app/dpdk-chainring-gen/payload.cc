// SPDX-License-Identifier: BSD-3-Clause
#include "payload.h"

#include <algorithm>
#include <cstring>

#include "base/cacheline.h"
#include "base/crc32c.h"

namespace chainring::gen {

namespace {

struct header {
  std::uint32_t magic, run, publisher;
  std::uint16_t life, size;
  std::uint64_t sequence, sent_ns;
};
static_assert(sizeof(header) == payload_header_size);

} // namespace

void write_payload(std::span<std::byte> to, const stamp& s) noexcept {
  const header h{
      payload_magic, s.run,    s.publisher, s.life, static_cast<std::uint16_t>(to.size()),
      s.sequence,    s.sent_ns};
  std::memcpy(to.data(), &h, sizeof h);
  std::uint64_t state = mix(std::uint64_t{s.run} << 32 ^ s.publisher) ^ s.sequence;
  const std::size_t end = to.size() - 4;
  for (std::size_t at = sizeof h; at < end;) {
    const std::uint64_t word = mix(state++);
    const std::size_t n = std::min(end - at, sizeof word);
    std::memcpy(to.data() + at, &word, n);
    at += n;
  }
  const std::uint32_t sum = crc32c(0, to.data(), end);
  std::memcpy(to.data() + end, &sum, sizeof sum);
}

bool read_payload(std::span<const std::byte> from, stamp& s) noexcept {
  if (from.size() < payload_size_min) return false;
  header h;
  std::memcpy(&h, from.data(), sizeof h);
  std::uint32_t sum = 0;
  std::memcpy(&sum, from.data() + from.size() - 4, sizeof sum);
  if (h.magic != payload_magic || h.size != from.size() ||
      sum != crc32c(0, from.data(), from.size() - 4))
    return false;
  s = {h.run, h.publisher, h.life, h.sequence, h.sent_ns};
  return true;
}

} // namespace chainring::gen
