// SPDX-License-Identifier: BSD-3-Clause
/// The table of figures that the benchmark prints.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "measure.h"
#include "options.h"

namespace chainring::bench {

/// The bound that the design sets: for the ratio to the peer, or for the value when it has no peer.
struct target {
  enum class sense { at_most, at_least };
  sense of = sense::at_most;
  double bound = 0;

  [[nodiscard]] bool met(double x) const { return of == sense::at_most ? x <= bound : x >= bound; }
};

struct row {
  std::string figure;
  std::string unit;
  double value = 0;  ///< the median
  double spread = 0; ///< half the distance between the quartiles, relative to the median
  std::string peer;  ///< what the value is compared with; empty means nothing
  double peer_value = 0;
  double ratio = 0; ///< of times, or of speeds when `faster` is set
  bool faster = false;
  std::optional<target> wanted;
};

/// Makes a row for a figure that has no peer.
[[nodiscard]] row figure(std::string name, std::string unit, const std::vector<double>& values,
                         std::optional<target> wanted = {});
/// Makes a row that compares times with a peer's: the ratio is own / peer, or peer / own when
/// `faster` is set.
[[nodiscard]] row against(std::string name, std::string unit, const pairs& p, std::string peer,
                          std::optional<target> wanted = {}, bool faster = false);

class report {
 public:
  /// With `judge` false, targets are shown but not judged.
  explicit report(bool judge) : judge_(judge) {}
  void heading(const std::string& text);
  /// Prints the row and keeps it for the JSON file.
  void add(row r);
  /// Prints a sentence below the rows and keeps it.
  void note(const std::string& text);
  /// Prints one line that says how many targets were met.
  void summary() const;
  /// Writes all rows as JSON, with the machine and the options that they depend on. Returns false
  /// when the file cannot be written.
  [[nodiscard]] bool write_json(const std::string& path, const options& o) const;

 private:
  [[nodiscard]] static std::string target_text(const row& r);
  [[nodiscard]] std::string verdict(const row& r) const;
  struct entry {
    std::string group;
    row r;
  };
  bool judge_;
  std::string group_;
  std::vector<entry> rows_;
  std::vector<std::string> notes_;
};

} // namespace chainring::bench
