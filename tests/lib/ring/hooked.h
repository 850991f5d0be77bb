// SPDX-License-Identifier: BSD-3-Clause
/// A test's action at a hook point. It stands for what another thread could do at that moment.
#pragma once
#include <functional>
#include <string_view>
#include <utility>

#include "base/hook.h"

namespace chainring::test {

/// While an object of this class lives, `what` is called at the first visit to the hook point
/// `where`.
class hooked {
 public:
  hooked(std::string_view where, std::function<void()> what)
      : where_(where), what_(std::move(what)) {
    set_hook(&hooked::visit, this);
  }
  ~hooked() { set_hook(nullptr, nullptr); }
  hooked(const hooked&) = delete;
  hooked& operator=(const hooked&) = delete;
  [[nodiscard]] bool visited() const { return visited_; }

 private:
  static void visit(const char* name, void* context) noexcept {
    auto& self = *static_cast<hooked*>(context);
    if (self.visited_ || self.where_ != name) return;
    self.visited_ = true;
    self.what_();
  }

  std::string_view where_;
  std::function<void()> what_;
  bool visited_ = false;
};

} // namespace chainring::test
