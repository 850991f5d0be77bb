// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: a container of class `file` is changed, then opened, and its journal is replayed.
//
// Bits of an input's first octet: 1 the checksums of the header copies are made right after the
// changes, 2 the chain of checksums in the journal is made right, 4 the file is cut short. Then
// changes follow: {place (3), length (1), octets}.
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

/// Follows the chain of records as replay does, and makes their checksums right.
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
    fuzz::expect(life::format(disk).ok(), "the container could not be made");
    auto m = life::open(disk);
    fuzz::expect(m.ok(), "the container could not be opened");
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
    fuzz::expect(disk.visible() == bytes, "an open for reading changed the file");
  }
  auto m = life::open(disk);
  if (!m) {
    fuzz::expect(!m.error().message.empty(), "the open was refused without a reason");
    return 0;
  }
  fuzz::expect(shown == crc32c(0, (*m)->base(), (*m)->size()),
               "an open for reading showed other contents than an open");
  auto* word = reinterpret_cast<std::uint64_t*>((*m)->base()) + 8;
  (*m)->store(word, 0x1234567890abcdef);
  (*m)->flush(word, 8);
  (*m)->drain();
  fuzz::expect((*m)->commit_step() && (*m)->durable((*m)->mark()),
               "a drain did not become durable");
  shown = crc32c(0, (*m)->base(), (*m)->size());
  m = error{};
  m = life::open(disk);
  fuzz::expect(m.ok(), "the container could not be opened again");
  fuzz::expect(shown == crc32c(0, (*m)->base(), (*m)->size()),
               "the second open showed other contents than the first");
  return 0;
}
