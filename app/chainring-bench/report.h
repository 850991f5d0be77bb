// SPDX-License-Identifier: BSD-3-Clause
/// The table of figures.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "measure.h"

namespace chainring::bench {

/// What the design asks of a figure: of its ratio, or where it has no peer of its value.
struct target {
  enum class sense { at_most, at_least };
  sense of = sense::at_most;
  double bound = 0;

  [[nodiscard]] bool met(double x) const { return of == sense::at_most ? x <= bound : x >= bound; }
};

struct row {
  std::string figure;
  std::string unit;
  double value = 0;  ///< median
  double spread = 0; ///< half the distance of the quartiles, of the median
  std::string peer;  ///< empty: none
  double peer_value = 0;
  double ratio = 0; ///< of times, or of speeds where `faster`
  bool faster = false;
  std::optional<target> wanted;
};

/// A figure alone.
[[nodiscard]] row figure(std::string name, std::string unit, const std::vector<double>& values,
                         std::optional<target> wanted = {});
/// Times against a peer's: the ratio is own / peer, or where `faster` peer / own.
[[nodiscard]] row against(std::string name, std::string unit, const pairs& p, std::string peer,
                          std::optional<target> wanted = {}, bool faster = false);

class report {
 public:
  /// With `judge` off, targets are shown and not judged.
  explicit report(bool judge) : judge_(judge) {}
  void heading(const std::string& text);
  /// Prints the row.
  void add(row r);
  /// A sentence below the rows.
  void note(const std::string& text);
  /// One line: how many targets were met.
  void summary() const;
  /// False: the file cannot be written.
  [[nodiscard]] bool write_json(const std::string& path) const;

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
