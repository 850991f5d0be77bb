// SPDX-License-Identifier: BSD-3-Clause
/// The crash model as code. It follows a trace, knows which words are durable and which are
/// pending, and enumerates what each line may hold after a crash.
///
/// The pending words of a line are kept in the order in which they became visible. Ordered words
/// (store()) persist as a prefix. Unordered words (write(), direct stores) persist independently;
/// of several to one word, the last one that persisted shows. A drain of thread T makes durable,
/// for each line that T flushed since its last drain, what was pending at that flush: every ordered
/// word, and those unordered words that T wrote itself or whose own thread had drained before the
/// flush.
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
  std::uint64_t order = 0; ///< position in the model's own count of events
  std::uint64_t value = 0;
  std::uint64_t settled = 0; ///< of an unordered word: when its thread drained; ~0 if never
  site where{};
  std::uint16_t thread = 0;
  std::uint8_t word = 0; ///< 0..7, its place in the line
  bool ordered = false;
};

/// Which of the pending words of one line persisted.
struct line_choice {
  std::uint32_t stores = 0; ///< number of ordered words that persisted, from the first on
  /// of unordered words: 0 for none, n for the n-th of that word
  std::array<std::uint8_t, 8> version{};
  bool operator==(const line_choice&) const = default;
};

class crash_model {
 public:
  /// `durable` is the durable image. The model updates it as the trace goes on.
  explicit crash_model(std::span<std::byte> durable);
  /// As above, if the hash of the image is known.
  crash_model(std::span<std::byte> durable, std::uint64_t hash)
      : durable_(durable), size_(durable.size()), hash_(hash) {}

  void apply(const sim_trace& trace, const sim_event& e);
  /// The model of the next life after the process died, over another copy of the durable image.
  /// Pending words stay pending, flushes of the dead threads no longer count, every word has left
  /// its processor, and no scratch is declared yet.
  [[nodiscard]] crash_model after_process_death(std::span<std::byte> durable) const;

  /// Pending words by the offset of their line. Lines without pending words are not in the map.
  [[nodiscard]] const std::map<std::uint64_t, std::vector<pending_word>>& pending() const {
    return pending_;
  }
  /// The durable content of the line.
  [[nodiscard]] line_bytes durable_line(std::uint64_t offset) const;
  /// The content of the line after a crash with this choice.
  [[nodiscard]] line_bytes content(std::uint64_t offset, const line_choice& c) const;
  [[nodiscard]] line_choice everything(std::uint64_t offset) const;
  /// The present size of the region in bytes.
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// The hash of the durable image without scratch. It changes with every line.
  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  /// The declared scratch, as a map from each offset to its end.
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

/// The hash of one line's content at its place. The hash of an image is the sum over its lines.
[[nodiscard]] std::uint64_t line_hash(std::uint64_t offset, const line_bytes& content);

/// Everything that a power loss may leave at one moment, as choices for each line that has any.
class state_space {
 public:
  struct line {
    std::uint64_t offset = 0;
    /// distinct contents; with the first choice nothing persisted
    std::vector<line_choice> choices;
    std::vector<std::uint64_t>
        hashes; ///< hash of the line with each choice, minus the hash of the durable line
    std::uint32_t everything = 0; ///< index of the choice with which everything persisted
  };
  /// Collects the distinct contents of every line: all of them while their product stays within
  /// `states_max`, and fewer combinations of write() words otherwise.
  state_space(const crash_model& model, std::uint64_t states_max);

  [[nodiscard]] const std::vector<line>& lines() const { return lines_; }
  /// True if every state that the model allows is in the product of the lines' choices, and the
  /// product is within states_max.
  [[nodiscard]] bool exhaustive() const { return complete_ && product_ <= states_max_; }
  /// The product of the numbers of choices. It saturates.
  [[nodiscard]] std::uint64_t product() const { return product_; }

  /// Calls visit(index of the choice of each line) for each distinct state: for the whole product
  /// if it is within states_max, otherwise for a bounded selection. Stops when visit returns false.
  /// With `sample` the bounded selection ends at states_max states: nothing, everything, and then
  /// whole lines alone lost or kept in a shuffled order.
  bool for_each(std::uint64_t seed,
                const std::function<bool(std::span<const std::uint32_t>)>& visit,
                bool sample = false) const;
  /// The hash of the state, to be added to the hash of the model.
  [[nodiscard]] std::uint64_t hash(std::span<const std::uint32_t> state) const;

 private:
  void add_line(const crash_model& model, std::uint64_t offset, int detail);

  std::uint64_t states_max_;
  std::uint64_t product_ = 1;
  bool complete_ = true;
  std::vector<line> lines_;
};

/// splitmix64 (Steele, Lea, Flood 2014), from which the explorer takes noise and random states.
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

} // namespace chainring::test
