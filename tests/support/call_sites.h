// SPDX-License-Identifier: BSD-3-Clause
/// The call sites of the persist seam, and what switches one of them off in the running program.
///
/// A call site is a place in the source, in whatever function, whose call reaches flush, flush_read
/// or drain of a media, or a write, sync or allocation of a block_file: directly, or through any
/// number of other functions. The script tests/support/call_sites computes them from the machine
/// code and the debug information of this program; it says more about how.
///
/// Switched off is a site by its return addresses: a primitive does nothing if one of them is on
/// its stack. So a switched-off call of a wrapper takes with it all that the wrapper would make
/// durable, when it is called from there and only then.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "media/media.h"

namespace chainring::test {

struct call_site {
  std::string path;                   ///< below the source root
  unsigned line = 0;                  ///< on which the call stands
  std::string call;                   ///< the function called: "drain", "link_flush"
  std::string label;                  ///< `[link-before-place]`, from the call's comment; or empty
  std::vector<std::uint64_t> returns; ///< where the call returns to, as the program was linked

  [[nodiscard]] std::string name() const; ///< "lib/ring/ring.cc:120 drain [ring-cleared]"
};

/// The call sites of this program in the files below the folders, in the order of the source. Calls
/// through pointers and virtual functions are not among them: see call_sites_at().
[[nodiscard]] std::vector<call_site> find_call_sites(const std::vector<std::string>& under);
/// The calls that return to these addresses, whatever they call.
[[nodiscard]] std::vector<call_site> call_sites_at(const std::vector<std::uint64_t>& returns);
/// True where the path is one of the folders or files, or below one.
[[nodiscard]] bool is_under(const std::string& path, const std::vector<std::string>& folders);

/// Notes on which stacks primitives are called, and makes those do nothing that a switched-off site
/// reaches. Thread-safety: as the code that it watches, of which one thread runs at a time.
class call_watch {
 public:
  using stack = std::vector<std::uint64_t>; ///< return addresses, the innermost first

  call_watch();
  void switch_off(const call_site& site);
  /// Called by a primitive, or by whatever stands in for it. False: it has to do nothing.
  [[nodiscard]] bool allows() noexcept;
  /// Notes a stack that another process saw.
  void add(stack s) { stacks_.push_back(std::move(s)); }
  /// Every different stack so far, as the program was linked.
  [[nodiscard]] const std::vector<stack>& stacks() const { return stacks_; }
  /// How often it said no.
  [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }

 private:
  const std::unordered_set<std::uint64_t>& hooks_;
  std::unordered_set<std::uint64_t> off_;
  std::unordered_set<std::uint64_t> seen_;
  std::vector<stack> stacks_;
  std::uint64_t suppressed_ = 0;
};

/// A call_watch over flush and drain.
class site_filter final : public persist_observer {
 public:
  explicit site_filter(call_watch& watch) : watch_(watch) {}
  void on_store(const std::uint64_t*, std::uint64_t, const site&) noexcept override {}
  void on_write(const void*, const void*, std::size_t, const site&) noexcept override {}
  bool on_flush(const void*, std::size_t, const site&) noexcept override { return watch_.allows(); }
  bool on_drain(const site&) noexcept override { return watch_.allows(); }

 private:
  call_watch& watch_;
};

} // namespace chainring::test
