// SPDX-License-Identifier: BSD-3-Clause
/// The crash model as code: follows a trace, knows which words are durable and which are pending,
/// and enumerates what each line may hold after a crash.
///
/// Per line, pending words stand in the order in which they became visible. Ordered ones (store())
/// persist as a prefix. Unordered ones (write(), direct stores) persist each for itself; of several
/// to one word the last that persisted shows. A drain of thread T makes durable, for each line T
/// flushed since its last drain, what was pending at that flush: every ordered word, and the
/// unordered ones that T wrote itself or whose own thread had drained before the flush.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "media/sim/sim.h"

namespace chainring::test {

using line_bytes = std::array<std::uint64_t, 8>;

struct pending_word {
  std::uint64_t order = 0; ///< place in the model's own count of events
  std::uint64_t value = 0;
  std::uint64_t settled = 0; ///< unordered: when its thread drained; never: ~0
  site where{};
  std::uint16_t thread = 0;
  std::uint8_t word = 0; ///< 0..7 in its line
  bool ordered = false;
};

/// What persisted of one line's pending words.
struct line_choice {
  std::uint32_t stores = 0;              ///< ordered words, from the first
  std::array<std::uint8_t, 8> version{}; ///< unordered: 0 none, n the n-th of that word
  bool operator==(const line_choice&) const = default;
};

class crash_model {
 public:
  /// `durable` is the image as it is durable now; the model keeps it so as the trace goes on.
  explicit crash_model(std::span<std::byte> durable);
  /// The same where the image's hash is known.
  crash_model(std::span<std::byte> durable, std::uint64_t hash)
      : durable_(durable), size_(durable.size()), hash_(hash) {}

  void apply(const sim_trace& trace, const sim_event& e);
  /// The next life's model after process death, over another copy of the durable image: what is
  /// pending stays pending, nobody's flushes are waited for any more, every word has left its
  /// processor, and no scratch is declared yet.
  [[nodiscard]] crash_model after_process_death(std::span<std::byte> durable) const;

  /// Pending words by line offset; no line without one.
  [[nodiscard]] const std::map<std::uint64_t, std::vector<pending_word>>& pending() const {
    return pending_;
  }
  /// What is durable of the line.
  [[nodiscard]] line_bytes durable_line(std::uint64_t offset) const;
  /// What the line holds after a crash with this choice.
  [[nodiscard]] line_bytes content(std::uint64_t offset, const line_choice& c) const;
  [[nodiscard]] line_choice everything(std::uint64_t offset) const;
  /// Bytes of the region now.
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// Hash of the durable image without scratch; changes with every line.
  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  /// Declared scratch: offset -> end.
  [[nodiscard]] const std::map<std::uint64_t, std::uint64_t>& scratch() const { return scratch_; }
  /// Fills scratch with noise in the durable image.
  void fill_scratch(std::uint64_t seed);

 private:
  void make_durable(std::uint64_t line, std::uint64_t flush_order, std::uint16_t thread);
  void set_word(std::uint64_t offset, std::uint64_t value);
  void change_scratch(std::uint64_t from, std::uint64_t to, bool declared);
  [[nodiscard]] bool is_scratch(std::uint64_t offset) const;

  struct flushed {
    std::uint64_t line;
    std::uint64_t order;
  };
  std::span<std::byte> durable_;
  std::uint64_t size_;
  std::uint64_t order_ = 0;
  std::uint64_t hash_ = 0;
  std::map<std::uint64_t, std::vector<pending_word>> pending_;
  std::map<std::uint16_t, std::vector<flushed>> flushes_;
  std::map<std::uint64_t, std::uint64_t> scratch_;
};

/// Hash of one line's content at its place; an image's is the sum over its lines.
[[nodiscard]] std::uint64_t line_hash(std::uint64_t offset, const line_bytes& content);

/// Everything a power loss may leave at one moment, as choices for each line that has some.
class state_space {
 public:
  struct line {
    std::uint64_t offset = 0;
    std::vector<line_choice> choices; ///< distinct contents; the first is nothing
    std::vector<std::uint64_t>
        hashes;                   ///< of the line with each choice, less that of the durable one
    std::uint32_t everything = 0; ///< index of the choice that keeps all
  };
  /// Distinct contents of every line, all of them while their product stays within `states_max`,
  /// else with write() words reduced.
  state_space(const crash_model& model, std::uint64_t states_max);

  [[nodiscard]] const std::vector<line>& lines() const { return lines_; }
  /// Every state the model allows is in the product of the lines' choices, and that is within
  /// states_max.
  [[nodiscard]] bool exhaustive() const { return complete_ && product_ <= states_max_; }
  /// Product of the counts of choices; saturates.
  [[nodiscard]] std::uint64_t product() const { return product_; }

  /// Calls visit(choice index of each line) for each state: all of the product where it is within
  /// states_max; else the bounded selection. Distinct states only. Stops when visit returns false.
  bool for_each(std::uint64_t seed,
                const std::function<bool(std::span<const std::uint32_t>)>& visit) const;
  /// Number of the state's hash, to be added to the model's.
  [[nodiscard]] std::uint64_t hash(std::span<const std::uint32_t> state) const;

 private:
  void add_line(const crash_model& model, std::uint64_t offset, int detail);

  std::uint64_t states_max_;
  std::uint64_t product_ = 1;
  bool complete_ = true;
  std::vector<line> lines_;
};

/// splitmix64 (Steele, Lea, Flood 2014): the explorer's source of noise and of random states.
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

} // namespace chainring::test
