// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: a region is changed, then opened and served from.
//
// Bit 0 of an input's first octet says whether the checksums are made right after the changes, as
// an attacker would do. Then changes follow: {what, place (3), length (1), octets}. `what`: 0
// octets are overwritten, 1 they are combined by exclusive or, 2 a line is copied from another
// place (3), 3 lines are zeroed, 4 a line gets its contents of an earlier moment.
#include "../lib/faults/damage_world.h"
#include "broker/broker.h"
#include "broker/broker_media.h"
#include "fuzz.h"
#include "message/message_media.h"
#include "region/region_cases.h"

using namespace chainring;
using namespace chainring::test_faults;

namespace {

void change(line_bytes& now, const image& i, fuzz::input& in) {
  const unsigned what = in.octet() % 5;
  const std::uint64_t at = in.number(3) % now.size(), length = in.octet();
  const std::uint64_t line = at / 64 * 64;
  const auto clipped = [&](std::uint64_t from, std::uint64_t n) {
    return std::min<std::uint64_t>(n, now.size() - from);
  };
  if (what <= 1) {
    const auto octets = in.take(clipped(at, length));
    for (std::size_t k = 0; k < octets.size(); ++k) {
      std::byte& to = now[at + k];
      to = what == 0 ? std::byte{octets[k]} : to ^ std::byte{octets[k]};
    }
  } else if (what == 2) {
    const std::uint64_t from = in.number(3) % now.size() / 64 * 64;
    std::memmove(now.data() + line, now.data() + from, 64);
  } else if (what == 3) {
    std::memset(now.data() + line, 0, clipped(line, (length + 1) * 64));
  } else {
    std::memcpy(now.data() + line, i.moments[length % i.moments.size()].data() + line, 64);
  }
}

/// Makes the seal of each descriptor fit its word 1.
void reseal_messages(line_bytes& now, const root_entry& area) {
  const auto& s = *reinterpret_cast<const superblock*>(now.data() + superblock_offsets[0]);
  if (area.offset > now.size() || area.size > now.size() - area.offset) return;
  auto* table = reinterpret_cast<message_descriptor*>(now.data() + area.offset);
  for (std::uint32_t n = 0; n < area.size / sizeof(message_descriptor); ++n) {
    message_descriptor& d = table[n];
    const auto word1 = message_word1::unpack(d.extent);
    const std::uint64_t list = s.block_offset + std::uint64_t{word1.first} * s.block_size;
    const std::uint64_t bytes = std::uint64_t{word1.count} * sizeof(message_extent);
    const bool inside = list <= now.size() && bytes <= now.size() - list;
    const std::uint32_t list_crc = word1.list && inside ? crc32c(0, now.data() + list, bytes) : 0;
    d.seals = message_seal(d.extent, list_crc, n, message_word0::unpack(d.state).generation);
  }
}

void reseal(line_bytes& now) {
  for (const std::uint64_t offset : superblock_offsets) {
    auto& s = *reinterpret_cast<superblock*>(now.data() + offset);
    s.crc = chainring::detail::crc_of(s);
  }
  auto* roots = reinterpret_cast<root_entry*>(now.data() + root_directory_offset);
  for (unsigned n = 0; n < root_directory_entries; ++n)
    if (roots[n].state != 0) {
      roots[n].crc = chainring::detail::crc_of(roots[n]);
      if (std::string_view(roots[n].name, strnlen(roots[n].name, sizeof roots[n].name)) ==
          "broker.messages")
        reseal_messages(now, roots[n]);
    }
  auto* sessions = reinterpret_cast<session_record*>(now.data() + areas_offset);
  for (unsigned n = 0; n < tiny_layout().sessions_max; ++n)
    sessions[n].check = session_check(n, sessions[n]);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const image* base = [] {
    fuzz::start_eal();
    return new image(memory_image());
  }();
  fuzz::input in(data, size);
  const bool forged = (in.octet() & 1) != 0;
  line_bytes now = base->moments.back();
  for (int changes = 0; changes < 64 && !in.empty(); ++changes)
    change(now, *base, in);
  if (forged) reseal(now);
  {
    auto r = region::open_on(std::make_unique<kept_media>(now), true);
    if (r) (void)broker::check(**r);
  }
  outcome_counts counts{};
  const std::string wrong = judge_memory(*base, now, counts);
  // A region with forged checksums may hold anything. The broker must only not crash on it.
  if (!forged) fuzz::expect(wrong.empty(), wrong);
  return 0;
}
