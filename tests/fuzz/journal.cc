// SPDX-License-Identifier: BSD-3-Clause
// Opening a container of class file, its journal replayed, that somebody has changed.
//
// An input's first octet says whether the header copies' checksums (1) and the journal's chain of
// them (2) are made right afterwards; then changes: {place (3), length (1), octets}.
#include "../lib/media/journal_world.h"
#include "base/crc32c.h"
#include "fuzz.h"

using namespace chainring;
using namespace chainring::test;
namespace format = chainring::file_format;

namespace {

void seal_headers(file_bytes& b) {
  for (const std::uint64_t place : {std::uint64_t{0}, format::header_spacing}) {
    auto* h = reinterpret_cast<format::header*>(b.data() + place);
    h->crc = crc32c(0, h, offsetof(format::header, crc));
  }
}

/// Follows the chain as replay does, for as long as it leads anywhere.
void seal_records(file_bytes& b, const format::header& h) {
  std::uint64_t at = h.tail, sequence = h.tail_sequence;
  std::uint32_t crc = h.tail_crc;
  const std::uint64_t journal = std::min(h.journal_size, b.size() - format::journal_offset);
  if (journal == 0) return;
  for (int n = 0; n < 1000; ++n, ++sequence) {
    const std::uint64_t place = at % journal;
    if (place % 64 != 0 || place + sizeof(format::record) > journal) return;
    auto* r = reinterpret_cast<format::record*>(b.data() + format::journal_offset + place);
    if (r->bytes == 0 || r->bytes % 64 != 0 || r->bytes > journal - place) return;
    r->position = at;
    r->sequence = sequence;
    r->salt = h.salt;
    constexpr std::size_t covered = offsetof(format::record, reserved_word);
    const std::uint64_t checked = r->lines == 0 ? sizeof *r : r->bytes;
    r->crc = crc = crc32c(crc, reinterpret_cast<const std::byte*>(r) + covered, checked - covered);
    at += r->bytes;
  }
}

const file_bytes& base() {
  static const file_bytes bytes = [] {
    model_disk disk;
    fuzz::expect(life::format(disk).ok(), "does not format");
    auto m = life::open(disk);
    fuzz::expect(m.ok(), "does not open");
    workload w(3, 30);
    for (std::uint64_t k = 1; k <= 12; ++k) {
      w.run(**m, k);
      (void)(*m)->commit_step();
      if (k == 5) (void)(*m)->checkpoint_step();
    }
    return disk.visible();
  }();
  return bytes;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  const unsigned seals = in.octet();
  file_bytes bytes = base();
  for (int n = 0; n < 64 && !in.empty(); ++n) {
    const std::uint64_t at = in.number(3) % bytes.size();
    const auto octets = in.take(std::min<std::uint64_t>(in.octet(), bytes.size() - at));
    if (!octets.empty()) std::memcpy(bytes.data() + at, octets.data(), octets.size());
  }
  if ((seals & 2) != 0) seal_records(bytes, *reinterpret_cast<const format::header*>(bytes.data()));
  if ((seals & 1) != 0) seal_headers(bytes);
  if ((seals & 4) != 0) bytes.resize(bytes.size() - in.number(3) % bytes.size());
  model_disk disk(bytes);
  std::uint64_t shown = 0;
  if (auto m = life::open(disk, true)) {
    shown = crc32c(0, (*m)->base(), (*m)->size());
    fuzz::expect(disk.visible() == bytes, "an inspection changes the file");
  }
  auto m = life::open(disk);
  if (!m) {
    fuzz::expect(!m.error().message.empty(), "refused without a reason");
    return 0;
  }
  fuzz::expect(shown == crc32c(0, (*m)->base(), (*m)->size()), "shown otherwise to a reader");
  auto* word = reinterpret_cast<std::uint64_t*>((*m)->base()) + 8;
  (*m)->store(word, 0x1234567890abcdef);
  (*m)->flush(word, 8);
  (*m)->drain();
  fuzz::expect((*m)->commit_step() && (*m)->durable((*m)->mark()), "does not commit");
  shown = crc32c(0, (*m)->base(), (*m)->size());
  m = error{};
  m = life::open(disk);
  fuzz::expect(m.ok(), "does not open again");
  fuzz::expect(shown == crc32c(0, (*m)->base(), (*m)->size()), "another content after an open");
  return 0;
}
