// SPDX-License-Identifier: BSD-3-Clause
// A durable structure of one's own: tallies, each a count and a sum that change together. The
// program adds a value to a tally in a region, and prints what the tally holds after all runs so
// far.
//   c++ -std=c++20 durable_tally.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /var/tmp/tally 20 && ./a.out /var/tmp/tally 22    # the second run prints "2 values,
//   sum 42"
#include <array>
#include <chainring/chainring.h>
#include <cstdio>
#include <cstdlib>
#include <sys/stat.h>

using namespace chainring;

/// A tally on the medium: one line. It holds its values twice, and its commit word says which half
/// counts.
///
/// Valid if and only if the commit word is 0, which stands for a tally without values, or its check
/// is the checksum of the record's number, the sequence, and the half that the sequence selects.
struct alignas(64) tally_record {
  std::uint64_t commit; ///< sequence in bits 0 to 31, whose lowest bit selects the half; check in
                        ///< bits 32 to 63
  struct half {
    std::uint64_t count;
    std::uint64_t sum;
  } halves[2];
  std::uint64_t reserved[3]; ///< zero
};
static_assert(sizeof(tally_record) == 64);
static_assert(offsetof(tally_record, commit) == 0);
static_assert(offsetof(tally_record, halves) == 8);
static_assert(offsetof(tally_record, reserved) == 40);

/// A table of tallies.
///
/// Durability: what add() was told is durable after flush() and the caller's drain; a crash before
/// leaves the tally as some add() left it, never a count without its sum. Thread-safety: one thread
/// for each tally.
class tally_table {
 public:
  tally_table(media& m, std::uint64_t offset, std::uint32_t count)
      : medium_(m), records_(reinterpret_cast<tally_record*>(m.base() + offset)), count_(count) {}

  /// Stages one value more. The stores go to one line in program order, so that a crash keeps a
  /// prefix of them.
  void add(std::uint32_t n, std::uint64_t value) noexcept {
    tally_record& r = records_[n];
    const auto sequence = static_cast<std::uint32_t>(r.commit) + 1;
    const tally_record::half before = now(n);
    tally_record::half& idle = r.halves[sequence & 1];
    // [half-before-commit] The idle half is stored before the commit word that selects it.
    medium_.store(&idle.count, before.count + 1);
    medium_.store(&idle.sum, before.sum + value);
    // [half-before-commit] Without this order a crash could leave a commit word that selects the
    // half of an earlier value, and its check would not fit.
    medium_.store_release(&r.commit, sealed(n, sequence, idle));
  }
  void flush(std::uint32_t n) noexcept { medium_.flush(&records_[n], sizeof(tally_record)); }

  [[nodiscard]] tally_record::half now(std::uint32_t n) const noexcept {
    const tally_record& r = records_[n];
    return r.commit == 0 ? tally_record::half{} : r.halves[r.commit & 1];
  }

  /// How a recovery brings the table back: what was read is made durable, then a damaged tally is
  /// emptied.
  [[nodiscard]] recovery_part part() {
    return {
        .name = "tallies",
        .items = count_,
        .persist_as_read =
            [this](recovery_context& c) {
              c.medium().flush_read(records_, count_ * sizeof(tally_record));
            },
        .repair =
            [this](recovery_context& c) {
              for (std::uint32_t n = 0; n < count_; ++n, c.advance()) {
                if (valid(n)) continue;
                c.report({"tally " + std::to_string(n), "its check does not fit; it is emptied"});
                if (c.checking()) continue;
                medium_.store(&records_[n].commit, 0);
                c.flush_repair(&records_[n], sizeof(tally_record));
              }
            }};
  }

 private:
  static std::uint64_t sealed(std::uint32_t n, std::uint32_t sequence,
                              const tally_record::half& h) noexcept {
    const std::array<std::uint64_t, 3> covered{std::uint64_t{n} << 32 | sequence, h.count, h.sum};
    return std::uint64_t{crc32c(0, covered.data(), sizeof covered)} << 32 | sequence;
  }
  [[nodiscard]] bool valid(std::uint32_t n) const noexcept {
    const tally_record& r = records_[n];
    return r.commit == 0 || r.commit == sealed(n, static_cast<std::uint32_t>(r.commit), now(n));
  }

  media& medium_;
  tally_record* records_;
  std::uint32_t count_;
};

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s REGION VALUE\n", argv[0]);
    return 2;
  }
  constexpr std::uint32_t tallies = 8;
  region_options o;
  o.media.path = argv[1];
  o.media.size = 4 << 20;
  o.areas = {{"tallies", tallies * sizeof(tally_record), 1}};
  struct stat there {};
  auto r = stat(argv[1], &there) == 0 ? region::open(o.media) : region::create(o);
  if (!r) {
    std::fprintf(stderr, "%s\n", r.error().message.c_str());
    return 1;
  }
  auto area = (*r)->root("tallies");
  if (!area) return 1;
  tally_table table((*r)->medium(), area->offset, tallies);
  recovery all;
  all.add(table.part());
  auto report = all.run(**r);
  if (!report) {
    std::fprintf(stderr, "%s\n", report.error().message.c_str());
    return 1;
  }
  for (const problem& p : report->problems)
    std::fprintf(stderr, "%s\n", p.text().c_str());

  table.add(0, std::strtoull(argv[2], nullptr, 10));
  table.flush(0);
  (*r)->medium().drain();
  if (!(*r)->wait((*r)->mark())) return 1; // What is printed from here on is durable.
  const tally_record::half all_values = table.now(0);
  std::printf("%llu values, sum %llu\n", static_cast<unsigned long long>(all_values.count),
              static_cast<unsigned long long>(all_values.sum));
  return (*r)->close() ? 0 : 1;
}
